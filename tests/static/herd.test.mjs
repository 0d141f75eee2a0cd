/** Many clients that are lost together: how they come back.  In fake time. */

import assert from "node:assert/strict"
import test from "node:test"
import { load, World } from "./world.mjs"

const { connect } = await load("hubthread.js")

const CLIENTS = 1000
const HELLO = { type: "hub:hello", v: 1, id: 1, now: 1 }

/** A thousand open clients in one world, and when their attempts begin. */
async function herd(seed) {
  const world = new World(seed)
  const attempts = []
  const hubs = []
  const token = () => "t"
  for (let count = 0; count < CLIENTS; count++) {
    const hub = connect("/ws", { token })
    hub.on("state", ({ state }) => state === "connecting" && attempts.push(world.time))
    hubs.push(hub)
  }
  await world.settle()
  for (const socket of world.sockets) {
    socket.open()
    socket.receive(HELLO)
  }
  await world.pass(6000)
  const lose = (code, reason) => {
    attempts.length = 0
    for (const socket of world.live()) socket.end(code, reason)
  }
  return { world, hubs, attempts, lose, began: world.time }
}

/** The most attempts in any span of so many milliseconds. */
function most(times, span) {
  const sorted = [...times].sort((one, other) => one - other)
  let first = 0
  return Math.max(...sorted.map((time, last) => {
    while (sorted[first] < time - span) first++
    return last - first + 1
  }))
}

for (const [code, reason, least, longest] of [
  [1012, "retry=8", 0, 8000],
  [1001, "the server is going away retry=6.667", 0, 6667], // as Hub.close names it for so many
  [1013, "retry=8", 2000, 10_000],
  [1011, "retry=8", 0, 8000],
  [4401, "keys changed retry=8", 0, 8000],
  [1006, "", 0, 2000],
  [1001, "", 0, 2000],
  [4401, "keys changed", 0, 2000],
]) {
  test(`thousand_clients_come_back_as_slowly_as_${code}_${reason}_asks`, async () => {
    const { world, hubs, attempts, lose, began } = await herd(code)
    lose(code, reason)
    await world.pass(longest)
    assert.equal(attempts.length, CLIENTS)
    assert.ok(Math.min(...attempts) >= began + least)
    assert.ok(most(attempts, 10) <= 20, `${most(attempts, 10)} in 10 ms`)
    const rate = CLIENTS * 1000 / (longest - least) * 1.3
    assert.ok(most(attempts, 1000) <= rate, `${most(attempts, 1000)} in a second`)
    for (const hub of hubs) hub.disconnect()
  })
}

test("thousand_clients_whose_handshakes_are_answered_at_once_stay_spread", async () => {
  for (const status of [401, 503, 0]) { // 0: the server, which was stopped, is killed
    const { world, hubs, attempts, lose } = await herd(11)
    lose(1006, "")
    await world.pass(4000)
    const waiting = world.sockets.filter(socket => socket.readyState === 0)
    assert.equal(waiting.length, CLIENTS)
    attempts.length = 0
    waiting.forEach(socket => socket.end())
    await world.pass(2000)
    assert.equal(attempts.length, CLIENTS)
    assert.ok(most(attempts, 10) <= 20, `${most(attempts, 10)} in 10 ms`)
    if (status) {
      waiting.length = 0
      world.sockets.filter(socket => socket.readyState === 0).forEach(socket => socket.end())
      assert.equal(world.fetches.length, CLIENTS)
      attempts.length = 0
      world.fetches.splice(0).forEach(({ resolve }) => resolve({ status, headers: new Map() }))
      await world.pass(4000)
      assert.equal(attempts.length, CLIENTS)
      assert.ok(most(attempts, 10) <= 20, `${status}: ${most(attempts, 10)} in 10 ms`)
    }
    for (const hub of hubs) hub.disconnect()
  }
})

test("thousand_tokens_that_expire_together_are_renewed_one_after_the_other", async () => {
  const world = new World(3)
  const asked = []
  const token = () => (asked.push(world.time), "t")
  const hubs = Array.from({ length: CLIENTS }, () => connect("/ws", { token }))
  await world.settle()
  for (const socket of world.sockets) {
    socket.open()
    socket.receive({ ...HELLO, token_ttl: 20 })
  }
  asked.length = 0
  await world.pass(16_000)
  assert.equal(asked.length, CLIENTS)
  assert.ok(most(asked, 10) <= 20)
  for (const hub of hubs) hub.disconnect()
})

test("hidden_and_offline_clients_stay_spread", async () => {
  for (const away of ["hide", "offline"]) {
    const { world, hubs, attempts, lose } = await herd(7)
    if (away === "hide") world.hide()
    else world.onLine = false
    lose(1012, "retry=8")
    await world.pass(29_999)
    assert.equal(attempts.length, 0)
    await world.pass(8001)
    assert.equal(attempts.length, CLIENTS)
    assert.ok(most(attempts, 10) <= 20)
    for (const hub of hubs) hub.disconnect()
  }
})

test("thousand_clients_of_a_dead_server_ask_ever_less_often", async () => {
  const { world, hubs, attempts, lose } = await herd(9)
  lose(1006, "")
  const sockets = () => world.sockets.filter(socket => socket.readyState === 0 && socket.onclose)
  const within = []
  for (let step = 0; step < 600; step++) { // a minute in which nobody listens
    await world.pass(100)
    sockets().forEach(socket => socket.end())
    world.fetches.splice(0).forEach(({ reject }) => reject(new Error("unreachable")))
    world.sockets.length = 0
  }
  const last = attempts.filter(time => time > world.time - 10_000).length
  assert.ok(attempts.length < 14 * CLIENTS, `${attempts.length} attempts in a minute`)
  assert.ok(last < 2 * CLIENTS, `${last} attempts in the last 10 s`)
  for (const hub of hubs) hub.disconnect()
})
