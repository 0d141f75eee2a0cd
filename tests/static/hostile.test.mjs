/** Servers that are hostile, old, or newer than the client.  In fake time. */

import assert from "node:assert/strict"
import test from "node:test"
import { load, World } from "./world.mjs"

const { connect } = await load("hubthread.js")

const HELLO = { type: "hub:hello", v: 1, id: 17, now: 5000 }

async function opened(world, options = {}, hello = HELLO) {
  const hub = connect("/ws", options)
  await world.settle()
  world.socket.open()
  world.socket.receive(hello)
  await world.settle()
  return hub
}

test("server_that_accepts_and_closes_at_once_is_asked_ever_less_often", async () => {
  for (const [code, reason] of [[1001, "retry=0"], [1012, "retry=0"], [1006, ""], [1013, "retry=0"], [4000, "retry=0.001"]]) {
    const world = new World(code)
    const hub = connect("/ws")
    for (let second = 0; second < 60; second++) {
      for (let turn = 0; turn < 10; turn++) {
        await world.settle()
        world.socket.open()
        world.socket.receive(HELLO)
        world.socket.end(code, reason)
        await world.pass(100)
      }
    }
    assert.ok(world.sockets.length < 20, `${code} ${reason}: ${world.sockets.length} in a minute`)
    hub.disconnect()
  }
})

test("advice_of_any_size_is_bounded", async () => {
  for (const retry of ["99999999999999", "1e999", "-5", "NaN", "8 or so", "8s"]) {
    const world = new World()
    const hub = await opened(world)
    world.socket.end(1012, `retry=${retry}`)
    assert.ok(hub.retryAt - Date.now() <= 3_600_000, retry)
    const timers = world.nextTimer
    await world.pass(500)
    assert.ok(world.nextTimer - timers < 5, retry) // no timer that fires at once, again and again
    hub.disconnect()
  }
  const world = new World()
  const hub = await opened(world)
  hub.request("q", {}, { timeout: 1e12 }).catch(() => {})
  assert.ok([...world.timers.values()].every(({ due }) => due - world.time < 2 ** 31))
  hub.disconnect()
})

test("hello_without_end_or_with_wrong_fields_is_taken_as_far_as_it_goes", async () => {
  for (const fields of [
    { id: {}, now: "noon", session: 7, token_ttl: "soon" },
    { id: null, now: null, session: null, token_ttl: -1 },
    { token_ttl: 1e300, now: 1e300 },
    { token_ttl: 1e-9 },
  ]) {
    const world = new World()
    let asked = 0
    const hub = await opened(world, { token: async () => `t${++asked}` }, { ...HELLO, ...fields })
    assert.equal(hub.state, "open")
    await world.pass(10_000)
    world.socket.receive({ type: "hub:token", reply: 1, token_ttl: 0 })
    await world.pass(10_000)
    assert.ok(asked <= 22, `${asked} tokens in 20 s`)
    hub.disconnect()
  }
})

test("flood_before_the_hello_is_cut_off", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.settle()
  world.socket.open()
  world.socket.receive("x".repeat(2 ** 20 + 1))
  assert.deepEqual([hub.state, hub.reason], ["ended", "the server sent no hub:hello"])
})

test("message_of_more_than_the_bound_ends_the_line", async () => {
  for (const [options, most] of [[{}, 4 * 2 ** 20], [{ maxMessage: 1000 }, 1000], [{ maxMessage: 1000, plain: true }, 1000]]) {
    const world = new World()
    const hub = connect("/ws", options)
    await world.settle()
    world.socket.open()
    if (!options.plain) world.socket.receive(HELLO)
    world.socket.receive("x".repeat(most))
    assert.equal(hub.state, "open")
    world.socket.onmessage({ data: new ArrayBuffer(most + 1) })
    assert.deepEqual([hub.state, hub.reason], ["ended", `the server breaks the protocol: message of more than ${most} bytes`])
    await world.pass(100_000)
    assert.equal(world.sockets.length, 1)
  }
})

const FIELDS = "id reply n data text bytes epoch at count recovered members present came went v full set del add mine tick time hz acks refused error now lost token_ttl session resumed why".split(" ")
const KINDS = ["hub:join", "hub:members", "hub:state", "hub:gap", "hub:input", "hub:time", "hub:token", "hub:hello", "hub:new", "said", undefined, 7, {}]

/** Any value, of any type and depth. */
function anything(pick, depth = 0) {
  const make = pick([() => null, () => true, () => pick([-1, 0, 1, 2, 3, 0.5, 1e300, 2 ** 60]), () => pick(["", "r", "k", "\ud800", "__proto__"]),
    () => "r", () => 1, ...depth < 3 ? [list, list, object, object] : []])
  const several = () => Array.from({ length: pick([0, 1, 2, 3]) }, () => anything(pick, depth + 1))
  function list() { return several() }
  function object() { return Object.fromEntries(several().map(value => [pick([...FIELDS, "__proto__", "type"]), value])) }
  return make()
}

test("any_messages_leave_the_line_open_and_the_room_usable", async () => {
  for (let seed = 1; seed <= 300; seed++) {
    const world = new World(seed)
    const hub = await opened(world)
    const pick = values => values[Math.floor(world.random() * values.length)]
    const room = hub.room("r")
    hub.answer("said", message => message)
    const hear = () => [room.state, room.members.size, room.present, room.tickAt(), room.pending, room.position, hub.now(), hub.rtt]
    for (const name of ["join", "gap", "members", "refused", "rejected", "*"]) room.on(name, hear)
    room.onState(hear)
    room.onEntity("data", { add: hear, change: hear, remove: hear })
    for (let count = 0; count < 30; count++) {
      const fields = Object.fromEntries(Array.from({ length: pick([1, 2, 3, 5]) }, () => [pick(FIELDS), anything(pick)]))
      const reply = pick([{}, {}, { reply: pick([1, 2, 3]) }])
      world.socket.receive({ ...fields, ...reply, type: pick(KINDS), room: pick(["r", "r", "s", anything(pick)]) })
      if (pick([0, 1])) room.input({})
      hear()
      await world.settle()
    }
    assert.deepEqual([hub.state, hub.reason], ["open", ""], seed)
    assert.deepEqual(Object.keys(Object.prototype), [])
    const heard = []
    hub.on("hi", message => heard.push(message))
    world.socket.receive({ type: "hi" })
    assert.equal(heard.length, 1)
    hub.disconnect()
  }
})

test("nonsense_behind_the_hello_changes_nothing", async () => {
  const world = new World()
  const hub = await opened(world)
  const seen = []
  hub.on("*", message => seen.push(message))
  const room = hub.room("r")
  const members = []
  room.on("members", () => members.push([...room.members.keys()]))
  const join = world.socket.messages().find(message => message.type === "hub:join")
  for (const message of [
    "", "{", "null", "7", '"hub:hello"',
    { type: "hub:hello", error: "again" },
    { type: "hub:unknown", room: "r" }, { type: "hub:newer" },
    { room: 7 }, { room: 7, data: {} }, { room: "r", n: "one", data: null },
    { type: "hub:members", room: "r", came: 7, went: {} },
    { type: "hub:members", room: "r", v: 3, came: null },
    { type: "hub:gap", room: "r" }, { room: "r", bytes: "***" },
    { reply: "x" }, { reply: {} }, { reply: -1, error: {} },
  ]) world.socket.receive(message)
  world.socket.receive({ type: "hub:join", reply: join.id, v: 1, members: { ann: null } })
  assert.equal(hub.state, "open")
  assert.deepEqual(seen, [])
  assert.deepEqual(members.at(-1), ["ann"])
  assert.deepEqual([...room.members.keys()], ["ann"])
  hub.disconnect()
})

test("old_server_that_refuses_hub_time_is_alive", async () => {
  const world = new World()
  const hub = await opened(world)
  await world.pass(25_000)
  const { id } = world.socket.messages().find(message => message.type === "hub:time")
  world.socket.receive({ type: "hub:time", reply: id, error: "unknown message 'hub:time'" })
  await world.pass(10_000)
  assert.equal(hub.state, "open")
  hub.disconnect()
})

test("old_server_that_refuses_rooms_says_so_to_the_program", async () => {
  const world = new World()
  const hub = await opened(world)
  const refused = []
  const room = hub.room("r")
  room.on("refused", error => refused.push(error.message))
  const { id } = world.socket.messages().find(message => message.type === "hub:join")
  world.socket.receive({ type: "hub:join", reply: id, error: "unknown message 'hub:join'" })
  await world.pass(20_000)
  assert.deepEqual(refused, ["unknown message 'hub:join'"])
  assert.equal(world.socket.messages().filter(message => message.type === "hub:join").length, 1)
  hub.disconnect()
})

test("members_are_counted_where_the_room_tells_only_their_number", async () => {
  const world = new World()
  const hub = await opened(world)
  const room = hub.room("r")
  const told = []
  room.on("members", () => told.push(room.present))
  const { id } = world.socket.messages().find(message => message.type === "hub:join")
  assert.equal(room.present, null)
  world.socket.receive({ type: "hub:join", reply: id, v: 4, present: 7 })
  world.socket.receive({ type: "hub:members", room: "r", v: 5, present: 8 })
  assert.deepEqual(told, [7, 8])
  hub.disconnect()
})
