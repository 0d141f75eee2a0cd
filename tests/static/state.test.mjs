/** The state of a room: the patches that the Python client is tested with, too. */

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import test from "node:test"
import { load, World } from "./world.mjs"

const { applyPatch, connect } = await load("hubthread.js")
const vectors = JSON.parse(await readFile(new URL("../state/vectors.json", import.meta.url)))

test("patches apply as in Python", () => {
  for (const { before, patch, after } of vectors) {
    applyPatch(before, patch)
    // As text: an object may have a key "__proto__", and deepEqual looks at prototypes.
    assert.deepEqual(sorted(before), sorted(after))
  }
  assert.equal({}.x, undefined)
})

test("patch of another state touches nothing else, and the whole state comes", async () => {
  for (const patch of [
    { del: [["__proto__", "toString"]] },
    { add: [[["__proto__"], [1]]] },
    { set: { players: 7 }, add: [[["nobody", "hand"], [1]]] },
    { del: 7 }, { add: [7] },
  ]) {
    const { room, take } = await inRoom()
    take({ n: 1, full: { players: {} } })
    assert.deepEqual(take({ n: 2, ...patch }), [])
    assert.equal(room.state, null)
    assert.equal(typeof {}.toString, "function")
    take({ n: 9, full: 7 })
    assert.equal(room.state, null)
    take({ n: 9, full: { players: {} } })
    assert.deepEqual(room.state, { players: {} })
  }
})

test("users may name the fields of a state", async () => {
  const { room, take } = await inRoom()
  take({ n: 1, full: JSON.parse('{"__proto__":{},"toString":{}}') })
  take({ n: 2, set: JSON.parse('{"__proto__":{"a":1},"toString":{"b":1}}') })
  assert.equal(JSON.stringify(room.state), '{"__proto__":{"a":1},"toString":{"b":1}}')
})

/** The entries of a value, in the order of their keys. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== "object" || value === null) return value
  return Object.keys(value).sort().map(key => [key, sorted(value[key])])
}

async function inRoom() {
  const world = new World()
  const hub = connect("/ws")
  const room = hub.room("table")
  const heard = []
  room.onState(state => heard.push(["state", structuredClone(state)]))
  const tell = what => (key, entity) => heard.push([what, key, structuredClone(entity)])
  room.onEntity("players", { add: tell("add"), change: tell("change"), remove: tell("remove") })
  await world.settle()
  world.socket.open("hubthread.1")
  world.socket.receive({ type: "hub:hello", v: 1, id: 1 })
  await world.settle()
  const take = message => {
    heard.length = 0
    world.socket.receive({ type: "hub:state", room: "table", ...message })
    return heard
  }
  return { room, take, world, hub }
}

test("a room has its state, and tells of its entries", async () => {
  const { room, take } = await inRoom()
  assert.equal(room.state, null)
  assert.deepEqual(take({ n: 4, set: { round: 1 } }), []) // of a state that is not here
  const full = { round: 1, players: { 7: { x: 1 } } }
  assert.deepEqual(take({ n: 5, tick: 9, time: 1000, full }), [["add", "7", { x: 1 }], ["state", full]])
  assert.deepEqual(room.tick, { number: 9, time: 1000 })
  const patch = { n: 6, tick: 10, time: 1100, del: [], set: { players: { 7: { x: 2 }, 8: { x: 0 } } } }
  assert.deepEqual(take(patch).slice(0, 2), [["change", "7", { x: 2 }], ["add", "8", { x: 0 }]])
  assert.deepEqual(take({ n: 6, mine: { set: { players: { 7: { hand: [1] } } } } })[0],
    ["change", "7", { x: 2, hand: [1] }])
  assert.deepEqual(take({ n: 6, set: { round: 9 } }), []) // it came before
  assert.deepEqual(take({ n: 8, set: { round: 9 } }), []) // one is missing
  assert.deepEqual(take({ n: 7, del: [["players", "7"]] })[0], ["remove", "7", { x: 2, hand: [1] }])
  assert.deepEqual(take({ n: 9, full: { round: 2, players: { 9: {} } } }).slice(0, 2),
    [["remove", "8", { x: 0 }], ["add", "9", {}]])
  assert.deepEqual(room.state, { round: 2, players: { 9: {} } })
})

test("inputs are pending until a state has them", async () => {
  const { room, take, world, hub } = await inRoom()
  assert.equal(room.input({ dx: 1 }), 0) // not joined yet
  const answer = () => {
    const { id } = world.socket.messages().findLast(each => each.type === "hub:join")
    world.socket.receive({ type: "hub:join", reply: id, room: "table" })
  }
  answer()
  assert.deepEqual([room.input({ dx: 1 }), room.input({ dx: 2 }, { tick: 9 }), room.input()], [1, 2, 3])
  assert.deepEqual(world.socket.messages().at(-2),
    { type: "hub:input", room: "table", n: 2, tick: 9, data: { dx: 2 } })
  const numbers = () => room.pending.map(each => each.n)
  take({ n: 1, tick: 4, time: hub.now() - 500, hz: 20, full: {}, acks: { 1: 1, 7: 3 } })
  assert.deepEqual(numbers(), [2, 3])
  assert.equal(room.tickAt(), 14)
  assert.equal(room.tickAt(room.tick.time), 4)
  const rejected = []
  room.on("rejected", input => rejected.push(input))
  world.socket.receive({ type: "hub:input", room: "table", refused: [[2, "early"]] })
  assert.deepEqual([numbers(), rejected], [[3], [{ n: 2, why: "early" }]])
  take({ n: 2, tick: 5, time: hub.now(), acks: { 1: 3 } })
  assert.deepEqual(numbers(), [])
  assert.equal(room.tickAt(), 5)
  world.socket.end(1006)
  assert.equal(room.input({ dx: 1 }), 0) // it would be old
  assert.deepEqual(numbers(), [])
})
