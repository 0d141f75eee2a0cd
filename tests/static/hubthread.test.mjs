/** The browser's client, in fake time with fake sockets: `node --test`. */

import assert from "node:assert/strict"
import test from "node:test"
import { load, World } from "./world.mjs"

const { connect, advice, Lost, Refused, TimedOut } = await load("hubthread.js")

const HELLO = { type: "hub:hello", session: "s1", resumed: false, id: 17, now: 5000 }

/** A client that is open. */
async function opened(world, options = {}, hello = HELLO) {
  const hub = connect("/ws", options)
  await world.settle()
  world.socket.open()
  if (!options.plain) world.socket.receive(hello)
  await world.settle()
  assert.equal(hub.state, "open")
  return hub
}

function states(hub) {
  const seen = []
  hub.on("state", ({ state, reason }) => seen.push(reason ? `${state}: ${reason}` : state))
  return seen
}

test("connect_says_hello_and_is_open_after_the_hubs_hello", async () => {
  const world = new World()
  const hub = connect("/ws", { token: async () => "t" })
  const events = []
  hub.on("open", () => events.push("open"))
  hub.on("said", message => events.push(message.text))
  await world.settle()
  assert.equal(world.socket.url, "ws://hub.example/ws")
  assert.deepEqual(world.socket.protocols, ["hubthread.1"])
  world.socket.open()
  assert.deepEqual(world.socket.messages(), [{ type: "hub:hello", v: 1, client: "js", token: "t" }])
  assert.equal(hub.state, "connecting")
  world.socket.receive(HELLO)
  world.socket.receive({ type: "said", text: "hi" })
  assert.equal(hub.state, "open")
  assert.equal(hub.id, 17)
  assert.deepEqual(events, ["open", "hi"])
  hub.disconnect()
})

test("reconnect_resumes_the_session_with_full_jitter", async () => {
  const delays = new Set()
  for (let seed = 1; seed < 40; seed++) {
    const world = new World(seed)
    const hub = await opened(world)
    await world.pass(10_000)
    world.socket.end(1006)
    assert.equal(hub.state, "waiting")
    const delay = hub.retryAt - Date.now()
    assert.ok(delay >= 0 && delay <= 1000)
    delays.add(Math.round(delay / 100))
    await world.pass(1000)
    world.socket.open()
    assert.equal(world.socket.messages()[0].resume, "s1")
    hub.disconnect()
  }
  assert.ok(delays.size >= 8, `spread over ${delays.size} of 11 tenths`)
})

test("backoff_doubles_to_20_seconds_and_is_reset_after_5_steady_ones", async () => {
  const world = new World()
  world.random = Math.random = () => 1
  const hub = connect("/ws")
  await world.settle()
  const waits = []
  for (let attempt = 0; attempt < 10; attempt++) {
    world.socket.open()
    world.socket.receive(HELLO)
    world.socket.end(1011) // accepts, and closes at once
    waits.push(hub.retryAt - Date.now())
    await world.pass(waits.at(-1))
  }
  assert.deepEqual(waits, [1000, 600, 1200, 2400, 4800, 9600, 19200, 20000, 20000, 20000])
  world.socket.open()
  world.socket.receive(HELLO)
  await world.pass(5000)
  world.socket.end(1006)
  assert.equal(hub.retryAt - Date.now(), 1000)
  hub.disconnect()
})

test("advice_names_what_each_code_asks_for", () => {
  const table = {
    rest: [1000], restart: [1001, 1012], overloaded: [1013], token: [4401],
    back: [1005, 1006, 1011, 1014, 1015, 3000, 3499, 4000, 4002, 4499],
    end: [1002, 1003, 1007, 1008, 1009, 1010, 3500, 3999, 4001, 4500, 4999],
  }
  for (const [what, codes] of Object.entries(table))
    for (const code of codes) assert.equal(advice(code), what, String(code))
})

test("close_codes_lead_to_their_states", async () => {
  for (const [code, reason, state, text, least, most] of [
    [1000, "bye", "resting", "bye"],
    [1008, "no", "ended", "no"],
    [4500, "", "ended", "the connection ended (4500)"],
    [1012, "moved retry=8", "waiting", "moved", 0, 8000],
    [1001, "", "waiting", "the connection ended (1001)", 0, 2000],
    [1013, "", "waiting", "the connection ended (1013)", 2000, 20000],
  ]) {
    const world = new World(code)
    const hub = await opened(world)
    world.socket.end(code, reason)
    assert.equal(hub.state, state)
    assert.equal(hub.reason, text)
    if (most) {
      const delay = hub.retryAt - Date.now()
      assert.ok(delay >= least && delay <= most, `${code}: ${delay}`)
    }
    hub.disconnect()
  }
})

test("resting_client_comes_back_with_the_next_send", async () => {
  const world = new World()
  const hub = await opened(world)
  world.socket.end(1000, "idle")
  await world.pass(60_000)
  assert.equal(world.sockets.length, 1)
  assert.equal(hub.send("say", { text: "hi" }), "queued")
  await world.settle()
  world.socket.open()
  world.socket.receive(HELLO)
  assert.deepEqual(world.socket.messages().at(-1), { type: "say", text: "hi" })
  hub.disconnect()
})

test("token_is_asked_afresh_once_after_4401", async () => {
  const world = new World()
  const asked = []
  const hub = await opened(world, { token: async ({ again }) => asked.push(again) && "t" })
  world.socket.end(4401, "expired")
  await world.settle()
  assert.deepEqual(asked, [false, true])
  world.socket.open()
  world.socket.end(4401, "still wrong")
  assert.deepEqual([hub.state, hub.reason], ["ended", "still wrong"])
  hub.disconnect()
})

test("token_that_comes_late_belongs_to_its_attempt", async () => {
  const world = new World()
  const waiting = []
  const hub = connect("/ws", { token: () => new Promise(resolve => waiting.push(resolve)) })
  await world.settle()
  hub.disconnect()
  hub.connect()
  await world.settle()
  waiting[0]("old")
  await world.settle()
  assert.equal(world.sockets.length, 0)
  waiting[1]("new")
  await world.settle()
  assert.equal(world.sockets.length, 1)
  world.socket.open()
  assert.equal(world.socket.messages()[0].token, "new")
  hub.disconnect()
})

test("token_function_that_throws_is_tried_again_and_null_ends", async () => {
  const world = new World()
  let answer = () => { throw new Error("no network") }
  const hub = connect("/ws", { token: async () => answer() })
  await world.settle()
  assert.deepEqual([hub.state, hub.reason], ["waiting", "the token function failed"])
  assert.equal(world.reported.length, 1)
  answer = () => null
  await world.pass(1000)
  assert.deepEqual([hub.state, hub.reason], ["ended", "not logged in"])
  hub.disconnect()
})

test("silent_server_is_given_up_after_10_seconds", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.pass(9_999)
  assert.equal(hub.state, "connecting")
  await world.pass(1)
  assert.deepEqual([hub.state, hub.reason], ["waiting", "the server does not answer"])
  const old = world.socket
  old.open() // too late: it is closed, and never heard
  assert.equal(old.readyState, 3)
  assert.equal(hub.state, "waiting")
  hub.disconnect()
})

test("server_without_the_subprotocol_is_not_asked_again", async () => {
  for (const hello of [{ type: "welcome" }, "no json", "[1]", "null", "7"]) {
    const world = new World()
    const hub = connect("/ws")
    await world.settle()
    world.socket.open()
    world.socket.receive(hello)
    assert.equal(hub.state, "connecting")
    await world.pass(10_000)
    assert.deepEqual([hub.state, hub.reason], ["ended", "the server sent no hub:hello"])
    await world.pass(100_000)
    assert.equal(world.sockets.length, 1)
  }
  let world = new World()
  let hub = connect("/ws")
  await world.settle()
  world.socket.open()
  for (let count = 0; count < 100; count++) world.socket.receive({ type: "said" })
  assert.equal(hub.state, "ended")
  world = new World()
  hub = connect("/ws")
  await world.settle()
  world.socket.open()
  world.socket.receive({ type: "hub:hello", error: "v: expected 7" })
  assert.deepEqual([hub.state, hub.reason], ["ended", "the server refuses: v: expected 7"])
  world = new World()
  hub = connect("/ws")
  await world.settle()
  world.socket.open("")
  assert.match(hub.reason, /does not speak hubthread.1: connect with { plain: true }/)
})

test("probe_tells_why_handshakes_fail", async () => {
  for (const [status, state, reason] of [
    [403, "ended", "the server refuses (403)"],
    [404, "ended", "the server refuses (404)"],
    [401, "ended", "the server refuses: log in first"],
    [503, "waiting", "the server cannot be reached (503)"],
    [204, "waiting", "a WebSocket cannot reach the server, a page can"],
  ]) {
    const world = new World()
    const hub = connect("/ws")
    await world.settle()
    world.socket.end()
    await world.pass(1000)
    world.socket.end()
    const { url, options, resolve } = world.fetches.at(-1)
    assert.equal(url, "http://hub.example/ws")
    assert.equal(options.headers["X-Hubthread-Check"], "1")
    resolve({ status, headers: new Map([["Retry-After", "7"]]) })
    await world.settle()
    assert.deepEqual([hub.state, hub.reason], [state, reason])
    if (state === "waiting") assert.ok(hub.retryAt - Date.now() >= 7000)
    hub.disconnect()
  }
})

test("probe_that_is_led_elsewhere_asks_for_a_log_in", async () => {
  const world = new World()
  const hub = connect("https://hub.example/ws")
  await world.settle()
  world.socket.end()
  await world.pass(1000)
  world.socket.end()
  const { url, options, resolve } = world.fetches.at(-1)
  assert.equal(url, "https://hub.example/ws")
  assert.deepEqual([options.credentials, options.redirect], ["include", "manual"])
  resolve({ type: "opaqueredirect", status: 0, headers: new Map() })
  await world.settle()
  assert.deepEqual([hub.state, hub.reason], ["ended", "the server refuses: log in first"])
})

test("probe_follows_every_second_failure", async () => {
  const world = new World()
  const hub = connect("/ws")
  for (let failed = 0; failed < 10; failed++) {
    await world.settle()
    world.socket.end()
    world.fetches.at(-1)?.reject(new Error("unreachable"))
    await world.settle()
    await world.pass(hub.retryAt - Date.now() + 1)
  }
  assert.equal(world.fetches.length, 5)
  hub.disconnect()
})

test("probe_without_an_answer_is_given_up", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.settle()
  world.socket.end()
  await world.pass(1000)
  world.socket.end()
  assert.equal(world.fetches.length, 1)
  await world.pass(10_000)
  assert.equal(hub.state, "waiting")
  hub.disconnect()
  assert.equal(world.timers.size, 0)
})

test("send_says_what_became_of_it", async () => {
  const world = new World()
  const hub = await opened(world, { queue: { messages: 2, bytes: 100 } })
  assert.equal(hub.send("a"), "sent")
  world.socket.end()
  assert.equal(hub.send("a"), "queued")
  assert.equal(hub.send("b", { text: "x".repeat(100) }), "dropped") // too large
  assert.equal(hub.send("c", {}, { volatile: true }), "dropped")
  assert.equal(hub.send("d"), "queued")
  assert.equal(hub.send("e"), "dropped") // full
  hub.disconnect()
  assert.equal(hub.send("f"), "dropped")
})

test("queue_keeps_order_keys_and_time_to_live", async () => {
  const world = new World()
  const hub = connect("/ws")
  hub.send("move", { x: 1 }, { key: "me" })
  hub.send("say", { text: "hi" })
  hub.send("move", { x: 2 }, { key: "me" })
  hub.send("late", {}, { ttl: 100 })
  await world.pass(200)
  world.socket.open()
  world.socket.receive(HELLO)
  assert.deepEqual(world.socket.messages().slice(1), [{ type: "say", text: "hi" }, { type: "move", x: 2 }])
  hub.disconnect()
})

test("full_buffer_of_the_socket_counts_as_not_open", async () => {
  const world = new World()
  const hub = await opened(world)
  world.socket.bufferedAmount = 2 ** 21
  assert.equal(hub.send("a"), "queued")
  await world.pass(1000)
  assert.equal(world.socket.messages().length, 1)
  world.socket.bufferedAmount = 0
  await world.pass(200)
  assert.deepEqual(world.socket.messages().at(-1), { type: "a" })
  hub.disconnect()
})

test("request_settles_with_the_answer_a_refusal_or_an_error", async () => {
  const world = new World()
  const hub = await opened(world)
  const answered = hub.request("price", { of: "tea" })
  const refused = hub.request("price", { of: "gold" })
  const late = hub.request("price", { of: "time" }, { timeout: 500 })
  const stop = new AbortController()
  const stopped = hub.request("price", { of: "oil" }, { signal: stop.signal })
  const lost = hub.request("price", { of: "luck" })
  const ids = world.socket.messages().slice(1).map(message => message.id)
  world.socket.receive({ type: "price", reply: ids[0], cents: 250 })
  world.socket.receive({ type: "price", reply: ids[1], error: "no gold" })
  world.socket.receive({ type: "price", reply: 999 })
  stop.abort(new Error("enough"))
  assert.equal((await answered).cents, 250)
  await assert.rejects(refused, new Refused("no gold"))
  await assert.rejects(stopped, /enough/)
  await Promise.all([assert.rejects(late, TimedOut), world.pass(500)])
  world.socket.end()
  await assert.rejects(lost, Lost)
  hub.disconnect()
})

test("request_that_waits_is_sent_once_after_the_reconnect", async () => {
  const world = new World()
  const hub = connect("/ws")
  const answer = hub.request("price")
  await world.settle()
  world.socket.open()
  world.socket.receive(HELLO)
  const asked = world.socket.messages().at(-1)
  world.socket.receive({ reply: asked.id, cents: 1 })
  assert.equal((await answer).cents, 1)
  const aborted = new AbortController()
  world.socket.end()
  const never = hub.request("price", {}, { signal: aborted.signal })
  aborted.abort()
  await assert.rejects(never)
  await world.pass(1000)
  world.socket.open()
  world.socket.receive(HELLO)
  assert.equal(world.socket.messages().length, 1) // the hello only
  hub.disconnect()
})

test("servers_request_is_answered_with_what_the_function_returns", async () => {
  const world = new World()
  const hub = await opened(world)
  hub.answer("where", async ({ of }) => ({ x: of }))
  hub.answer("count", () => 3)
  hub.answer("fail", () => { throw new Error("no") })
  for (const [id, type] of ["where", "count", "fail"].entries()) world.socket.receive({ type, id, of: 7 })
  await world.settle()
  const answers = world.socket.messages().slice(1).sort((one, other) => one.reply - other.reply)
  assert.deepEqual(answers, [
    { x: 7, type: "where", reply: 0 },
    { data: 3, type: "count", reply: 1 },
    { error: "no", type: "fail", reply: 2 },
  ])
  hub.disconnect()
})

test("listener_that_throws_harms_nobody", async () => {
  const world = new World()
  const hub = await opened(world)
  const heard = []
  hub.on("said", () => { throw new Error("mine") })
  const off = hub.on("said", message => heard.push(message.text))
  world.socket.receive({ type: "said", text: "a" })
  off()
  world.socket.receive({ type: "said", text: "b" })
  assert.deepEqual(heard, ["a"])
  assert.equal(world.reported.length, 2)
  assert.equal(hub.state, "open")
  hub.disconnect()
})

test("listener_that_disconnects_stops_everything_behind_it", async () => {
  const world = new World()
  const hub = connect("/ws")
  hub.on("open", () => hub.disconnect())
  hub.send("a")
  await world.settle()
  world.socket.open()
  world.socket.receive(HELLO)
  assert.equal(hub.state, "idle")
  assert.equal(world.live().length, 0)
  assert.equal(world.timers.size, 0)
  assert.equal(world.document.listeners + world.window.listeners, 0)
})

test("quiet_line_is_asked_and_given_up_4_seconds_later", async () => {
  const world = new World()
  const hub = await opened(world)
  await world.pass(25_000)
  assert.equal(world.socket.messages().at(-1).type, "hub:time")
  world.socket.receive({ type: "hub:time", reply: world.socket.messages().at(-1).id, now: 6000 })
  await world.pass(24_999)
  assert.equal(hub.state, "open")
  await world.pass(4_001)
  assert.deepEqual([hub.state, hub.reason], ["waiting", "the line is dead"])
  hub.disconnect()
})

test("wake_after_sleep_finds_a_dead_line_within_4_seconds", async () => {
  const world = new World()
  const hub = await opened(world)
  await world.pass(6000)
  world.slept += 3_600_000
  world.show()
  assert.equal(world.socket.messages().at(-1).type, "hub:time")
  await world.pass(4000)
  assert.equal(hub.state, "waiting")
  hub.disconnect()
})

test("send_after_sleep_asks_first", async () => {
  const world = new World()
  const hub = await opened(world)
  world.slept += 3_600_000
  hub.send("a")
  assert.equal(world.socket.messages().some(message => message.type === "hub:time"), true)
  hub.disconnect()
})

test("hidden_page_waits_half_a_minute_and_asks_nothing", async () => {
  const world = new World()
  const hub = await opened(world)
  world.hide()
  await world.pass(100_000)
  assert.equal(world.socket.messages().length, 1)
  world.socket.end()
  assert.ok(hub.retryAt - Date.now() >= 30_000)
  world.show()
  await world.settle()
  assert.equal(hub.state, "connecting")
  hub.disconnect()
  const waits = await opened(world, { whenHidden: "wait" })
  world.hide()
  world.socket.end()
  await world.pass(1e7)
  assert.equal(waits.state, "waiting")
  waits.disconnect()
})

test("offline_is_noticed_at_once_and_doubted_every_half_minute", async () => {
  const world = new World()
  const hub = await opened(world)
  world.offline()
  assert.deepEqual([hub.state, hub.reason], ["waiting", "offline"])
  await world.pass(30_300)
  assert.equal(world.sockets.length, 2)
  world.socket.end()
  world.online()
  await world.settle()
  assert.equal(hub.state, "connecting")
  hub.disconnect()
})

test("page_in_the_back_forward_cache_comes_back", async () => {
  const world = new World()
  const hub = await opened(world)
  const seen = states(hub)
  world.fire("pagehide", { persisted: true })
  assert.deepEqual([world.socket.closed, world.socket.closedWith], [true, undefined])
  assert.equal(world.timers.size, 0)
  assert.deepEqual(seen, [])
  world.fire("pageshow", { persisted: true })
  await world.settle()
  assert.equal(world.sockets.length, 2)
  hub.disconnect()
})

test("disconnect_wins_over_every_page_event", async () => {
  const world = new World()
  const hub = await opened(world)
  hub.disconnect()
  world.show()
  world.online()
  world.fire("pageshow", { persisted: true })
  hub.retryNow()
  await world.pass(100_000)
  assert.equal(world.sockets.length, 1)
  assert.equal(hub.state, "idle")
})

test("plain_server_is_spoken_to_in_its_own_format", async () => {
  const world = new World()
  const hub = await opened(world, { plain: true })
  const heard = []
  hub.on("message", data => heard.push(data))
  assert.deepEqual(world.socket.protocols, [])
  assert.equal(hub.raw.send("move 1"), "sent")
  world.socket.receive("moved 1")
  assert.deepEqual([world.socket.sent, heard], [["move 1"], ["moved 1"]])
  await world.pass(100_000)
  assert.equal(hub.state, "open")
  hub.disconnect()
})

test("room_joins_behind_the_hello_and_again_with_its_position", async () => {
  const world = new World()
  const hub = connect("/ws")
  const room = hub.room("table/7", { replay: 2 })
  assert.equal(hub.room("table/7"), room)
  const heard = []
  room.on("said", ({ text }) => heard.push(text))
  room.on("gap", ({ why }) => heard.push(`gap ${why}`))
  await world.settle()
  world.socket.open()
  const join = world.socket.messages().at(-1)
  assert.deepEqual(join, { type: "hub:join", room: "table/7", replay: 2, id: join.id })
  world.socket.receive({ ...HELLO, session: undefined })
  world.socket.receive({ type: "hub:join", reply: join.id, room: "table/7", epoch: "k", at: 5, count: 1 })
  for (const n of [5, 5, 6]) world.socket.receive({ room: "table/7", n, data: { type: "said", text: n } })
  assert.deepEqual(heard, [5, 6])
  assert.deepEqual(room.position, { epoch: "k", at: 6 })
  world.socket.end()
  await world.pass(1000)
  world.socket.open()
  const again = world.socket.messages().at(-1)
  assert.deepEqual([again.epoch, again.at], ["k", 6])
  world.socket.receive({ ...HELLO, session: undefined })
  world.socket.receive({ reply: again.id, epoch: "m", at: 2, recovered: false, why: "epoch" })
  world.socket.receive({ room: "table/7", n: 3, data: { type: "said", text: 3 } })
  assert.deepEqual(heard, [5, 6, "gap epoch", 3])
  hub.disconnect()
})

/** A client in a room with a history and one without, whose session the next connection asks for. */
async function cutOff(world) {
  const hub = await opened(world, {}, { ...HELLO, at: 1 })
  const heard = []
  const rooms = ["with", "without"].map(name => {
    const room = hub.room(name)
    room.on("*", data => heard.push(`${name} ${data}`))
    room.on("gap", ({ why }) => heard.push(`${name}: gap ${why}`))
    const { id } = world.socket.messages().at(-1)
    world.socket.receive({ reply: id, room: name, ...(name === "with" ? { epoch: "k", at: 5 } : {}) })
    return room
  })
  hub.on("gap", ({ lost }) => heard.push(`lost ${lost}`))
  world.socket.receive({ room: "with", n: 6, data: 6 })
  world.socket.end()
  assert.deepEqual(rooms.map(room => room.live), [false, false])
  await world.pass(1000)
  world.socket.open()
  // The hello of the hub, two answers, and a push: the rooms wait for the answer to the hello.
  assert.deepEqual(world.socket.messages(), [{ type: "hub:hello", v: 1, client: "js", resume: "s1", got: 4 }])
  return { hub, rooms, heard }
}

test("session_that_goes_on_keeps_its_rooms_and_counts_on", async () => {
  const world = new World()
  const { hub, rooms, heard } = await cutOff(world)
  world.socket.receive({ ...HELLO, resumed: true, at: 5 })
  assert.deepEqual(rooms.map(room => room.live), [true, true])
  assert.equal(world.socket.messages().length, 1)
  world.socket.receive({ room: "with", n: 7, data: 7 })
  world.socket.end()
  await world.pass(1000)
  world.socket.open()
  assert.equal(world.socket.messages()[0].got, 6)
  assert.deepEqual(heard, ["with 6", "with 7"])
  hub.disconnect()
})

test("session_that_has_lost_messages_recovers_rooms_with_a_history", async () => {
  const world = new World()
  const { hub, rooms, heard } = await cutOff(world)
  world.socket.receive({ ...HELLO, resumed: true, at: 5, lost: 3 })
  assert.deepEqual(rooms.map(room => room.live), [false, true])
  const { id, ...join } = world.socket.messages().at(-1)
  assert.deepEqual(join, { type: "hub:join", room: "with", epoch: "k", at: 6 })
  world.socket.receive({ room: "with", n: 9, data: 9 }) // behind the hole: it comes again
  world.socket.receive({ reply: id, room: "with", epoch: "k", at: 9, recovered: true, count: 3 })
  for (const n of [7, 8, 9]) world.socket.receive({ room: "with", n, data: n })
  assert.deepEqual(heard, ["with 6", "lost 3", "without: gap lost", "with 7", "with 8", "with 9"])
  hub.disconnect()
})

test("session_that_has_ended_joins_its_rooms_anew", async () => {
  const world = new World()
  const { hub } = await cutOff(world)
  world.socket.receive({ ...HELLO, session: "s2", at: 1 })
  const joins = world.socket.messages().slice(1).map(({ id, ...join }) => join)
  assert.deepEqual(joins, [
    { type: "hub:join", room: "with", epoch: "k", at: 6 },
    { type: "hub:join", room: "without" },
  ])
  world.socket.end(4001, "connected elsewhere")
  assert.deepEqual([hub.state, hub.reason], ["ended", "connected elsewhere"])
})

test("session_of_a_tab_survives_a_reload_and_is_not_copied_with_the_tab", async () => {
  const world = new World()
  const stored = new Map()
  globalThis.sessionStorage = {
    getItem: key => stored.get(key) ?? null,
    setItem: (key, value) => void stored.set(key, value),
    removeItem: key => void stored.delete(key),
  }
  await opened(world, { session: "tab" }, { ...HELLO, at: 1 })
  assert.equal(stored.size, 0)
  world.fire("pagehide")
  assert.equal(stored.size, 1)
  const reloaded = connect("/ws", { session: "tab" })
  assert.equal(stored.size, 0)
  await world.settle()
  world.socket.open()
  const [hello] = world.socket.messages()
  assert.deepEqual([hello.resume, hello.got], ["s1", 1])
  reloaded.disconnect()
  world.fire("pageshow", { persisted: true })
  delete globalThis.sessionStorage
})

test("messages_before_the_hubs_hello_come_behind_open", async () => {
  const world = new World()
  const hub = connect("/ws")
  const heard = []
  hub.on("open", () => heard.push("open"))
  hub.on("said", ({ text }) => heard.push(text))
  await world.settle()
  world.socket.open()
  world.socket.receive({ type: "said", text: "welcome" })
  assert.deepEqual(heard, [])
  world.socket.receive(HELLO)
  assert.deepEqual(heard, ["open", "welcome"])
  hub.disconnect()
})

test("room_takes_text_bytes_left_out_numbers_and_told_gaps", async () => {
  const world = new World()
  const hub = await opened(world)
  const room = hub.room("r")
  const heard = []
  room.on("*", data => heard.push(data))
  room.on("gap", ({ why }) => heard.push(why))
  const join = world.socket.messages().at(-1)
  world.socket.receive({ reply: join.id, epoch: "k", at: 0 })
  world.socket.receive({ room: "r", n: 1, data: 1 })
  world.socket.receive({ room: "r", n: 3, text: "3" })
  world.socket.receive({ room: "r", n: 4, bytes: "AQI=" })
  assert.deepEqual(new Uint8Array(heard.pop()), new Uint8Array([1, 2]))
  world.socket.receive({ type: "hub:gap", room: "r", epoch: "k", at: 9, why: "dropped" })
  world.socket.receive({ room: "r", n: 9, data: 9 })
  world.socket.receive({ room: "r", n: 10, data: 10 })
  assert.deepEqual(heard, [1, "3", "dropped", 10])
  hub.disconnect()
})

test("room_is_left_a_moment_after_the_last_handle", async () => {
  const world = new World()
  const hub = await opened(world)
  const room = hub.room("r")
  room.leave()
  hub.room("r") // as React's strict mode does
  await world.pass(10)
  assert.equal(world.socket.messages().filter(message => message.type === "hub:leave").length, 0)
  room.leave()
  await world.pass(10)
  assert.deepEqual(world.socket.messages().at(-1), { type: "hub:leave", room: "r" })
  hub.disconnect()
})

test("members_follow_versions_and_a_hole_asks_again", async () => {
  const world = new World()
  const hub = await opened(world)
  const room = hub.room("r")
  const join = world.socket.messages().at(-1)
  world.socket.receive({ reply: join.id, epoch: "k", at: 0, members: { ann: 1 }, v: 4 })
  world.socket.receive({ type: "hub:members", room: "r", v: 5, came: { bob: 2 }, went: ["ann"] })
  assert.deepEqual([...room.members], [["bob", 2]])
  world.socket.receive({ type: "hub:members", room: "r", v: 7, came: { eve: 3 }, went: [] })
  assert.equal(world.socket.messages().at(-1).type, "hub:join")
  hub.disconnect()
})

test("now_follows_the_measurement_with_the_smallest_round_trip", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.pass(300)
  world.socket.open()
  world.socket.receive(HELLO) // 300 ms for all of it
  assert.equal(Math.round(hub.now()), 5150)
  await world.pass(25_000)
  const { id } = world.socket.messages().at(-1)
  await world.pass(10)
  world.socket.receive({ reply: id, now: 30_105 })
  assert.equal(hub.rtt, 10)
  assert.equal(Math.round(hub.now()), 30_110)
  hub.disconnect()
})

test("bad_arguments_are_refused", () => {
  new World()
  assert.throws(() => connect("ftp://x/"), /expected an address of ws, wss, http or https/)
  assert.throws(() => connect("/ws", { whenHidden: "no" }), /whenHidden: expected "slow" or "wait"/)
  const hub = connect("/ws")
  assert.throws(() => hub.on("said"), /on\("said"\): expected a function/)
  hub.disconnect()
})

test("any_sequence_of_events_keeps_one_socket_one_timer_and_settles", async () => {
  const total = Number(process.env.HUBTHREAD_EVENTS ?? 100_000)
  let made = 0
  for (let seed = 1; made < total; seed++) {
    const world = new World(seed)
    const pick = values => values[Math.floor(world.random() * values.length)]
    let tokens = []
    let tokenMode = "plain"
    const hub = connect("/ws", {
      token: () => {
        if (tokenMode === "fails") throw new Error("token")
        if (tokenMode === "slow") return new Promise(resolve => tokens.push(resolve))
        return "t"
      },
    })
    let wish = true
    let pending = 0
    const rooms = []
    hub.on("said", () => { if (world.random() < 0.2) throw new Error("listener") })
    hub.on("state", ({ state }) => {
      if (world.random() < 0.01) { wish = false; hub.disconnect() }
      else if (state === "ended" && world.random() < 0.5) { wish = true; hub.connect() }
    })
    const events = {
      open: () => world.socket?.open(),
      hello: () => {
        world.socket?.open()
        world.socket?.receive(pick([HELLO, { ...HELLO, token_ttl: pick([0, 5, 30]) }, { ...HELLO, at: 3, resumed: pick([true, false]) }]))
      },
      wrong: () => world.socket?.receive(pick([HELLO, "x", "[]", { type: 7 }, { reply: 1 }, { room: "r", n: 5 }])),
      said: () => world.socket?.receive({ type: "said" }),
      end: () => world.socket?.end(pick([1000, 1001, 1002, 1005, 1006, 1008, 1011, 1012, 1013, 3000, 4001, 4401, 4500]),
        pick(["", "retry=5", "why retry=0.5"])),
      pass: () => world.pass(pick([0, 10, 500, 3000, 40_000])),
      sleep: () => void (world.slept += 100_000),
      hide: () => world.hide(),
      show: () => world.show(),
      offline: () => world.offline(),
      online: () => world.online(),
      pagehide: () => world.fire("pagehide"),
      pageshow: () => world.fire("pageshow", { persisted: true }),
      send: () => hub.send("a", {}, pick([{}, { ttl: 50 }, { key: "k" }, { volatile: true }])),
      buffer: () => world.socket && (world.socket.bufferedAmount = pick([0, 0, 2 ** 21])),
      request: () => {
        pending++
        const stop = new AbortController()
        hub.request("q", {}, pick([{}, { timeout: 100 }, { signal: stop.signal }])).then(() => pending--, () => pending--)
        if (world.random() < 0.3) stop.abort(new Error("stop"))
      },
      answer: () => {
        const asked = world.socket?.sent.map(text => JSON.parse(text)).filter(message => message.id)
        if (asked?.length) world.socket.receive({ reply: pick(asked).id, epoch: "k", at: 3, now: 1 })
      },
      room: () => rooms.push(hub.room(pick(["a", "b"]))),
      leave: () => rooms.pop()?.leave(),
      token: () => { tokenMode = pick(["plain", "fails", "slow"]) },
      late: () => tokens.shift()?.("late"),
      probe: () => world.fetches.shift()?.resolve({ status: pick([204, 401, 403, 503]), headers: new Map() }),
      unreached: () => world.fetches.shift()?.reject(new Error("network")),
      connect: () => { wish = true; hub.connect() },
      disconnect: () => { wish = false; hub.disconnect() },
      retry: () => hub.retryNow(),
    }
    const trail = []
    for (let count = 0; count < 1000; count++, made++) {
      const name = pick(Object.keys(events))
      trail.push(name)
      await events[name]()
      await world.settle()
      world.sockets.splice(0, world.sockets.length - 20) // the others have ended
      const left = [...world.timers.values()].filter(timer => timer.due > world.time)
      const most = wish ? 1 : 0
      const heard = wish ? 0 : world.document.listeners + world.window.listeners
      if (world.live().length > most || left.length > 1 || heard) {
        const found = `${world.live().length} sockets, ${left.length} timers, ${heard} listeners`
        assert.fail(`${found}; seed ${seed}: ${trail.join(" ")} → ${hub.state} ${hub.reason}`)
      }
    }
    // Calm: a good server, a page that somebody looks at.
    for (const token of tokens) token("t")
    tokenMode = "plain"
    world.onLine = true
    world.show()
    for (let turn = 0; turn < 40; turn++) {
      await world.pass(turn % 2 ? 100 : 2500)
      world.fetches.splice(0).forEach(({ resolve }) => resolve({ status: 204, headers: new Map() }))
      await world.settle()
      if (world.live().length) world.socket.bufferedAmount = 0
      world.live().forEach(socket => { socket.open(); socket.receive(HELLO) })
      world.live().forEach(socket => socket.sent.map(text => JSON.parse(text)).filter(message => message.id)
        .forEach(({ id }) => socket.receive({ reply: id, now: 1, epoch: "k", at: 0 })))
    }
    const context = `seed ${seed}: ${trail.join(" ")} → ${hub.state} ${hub.reason}`
    assert.equal(pending, 0, `requests: ${context}`)
    if (!wish) assert.equal(hub.state, "idle", context)
    else assert.ok(["open", "ended", "resting"].includes(hub.state), context)
    hub.disconnect()
    await world.pass(10)
    assert.equal(world.timers.size, 0, context)
  }
})

test("token_is_renewed_before_it_expires", async () => {
  const world = new World()
  const tokens = []
  const token = async ({ again }) => tokens.push(again) && `t${tokens.length}`
  const hub = await opened(world, { token }, { ...HELLO, token_ttl: 20 })
  await world.pass(15_000)
  assert.equal(tokens.length, 1)
  await world.pass(1000)
  const renewal = world.socket.messages().find(message => message.type === "hub:token")
  assert.equal(renewal.token, "t2")
  world.socket.receive({ type: "hub:token", reply: renewal.id, token_ttl: 10 })
  await world.pass(8000)
  assert.deepEqual(tokens, [false, false, false])
  assert.equal(hub.state, "open")
  hub.disconnect()
  await world.pass(1000)
  assert.equal(world.timers.size, 0)
})

test("token_function_that_fails_to_renew_is_asked_again_and_null_ends", async () => {
  const world = new World()
  let answer = "t"
  const token = async () => {
    if (answer === "error") throw new Error("no network")
    return answer
  }
  const hub = await opened(world, { token }, { ...HELLO, token_ttl: 20 })
  answer = "error"
  await world.pass(16_000)
  assert.equal(world.reported.length, 1)
  await world.pass(5000)
  assert.equal(world.reported.length, 2)
  answer = null
  await world.pass(5000)
  assert.deepEqual([hub.state, hub.reason], ["ended", "not logged in"])
})

test("token_that_is_fetched_for_a_lost_connection_is_forgotten", async () => {
  const world = new World()
  const waiting = []
  const token = () => new Promise(resolve => waiting.push(resolve))
  const hub = connect("/ws", { token })
  await world.settle()
  waiting.shift()("first")
  await world.settle()
  world.socket.open()
  world.socket.receive({ ...HELLO, token_ttl: 20 })
  await world.pass(16_000)
  world.socket.end()
  await world.pass(1000)
  const [late, next] = waiting
  next("next")
  await world.settle()
  world.socket.open()
  world.socket.receive(HELLO)
  late("late")
  await world.settle()
  assert.deepEqual(world.socket.messages().map(message => message.token), ["next"])
  hub.disconnect()
})

test("server_that_refuses_each_token_at_once_is_not_asked_for_ever", async () => {
  const world = new World()
  const hub = connect("/ws", { token: async () => "t" })
  for (let round = 0; round < 5; round++) {
    await world.settle()
    world.socket.open()
    world.socket.receive(HELLO)
    world.socket.end(4401, "no")
  }
  assert.equal(world.sockets.length, 2)
  assert.deepEqual([hub.state, hub.reason], ["ended", "no"])
})

test("room_that_is_taken_between_the_socket_and_the_hubs_hello_is_joined", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.settle()
  world.socket.open()
  hub.room("r")
  world.socket.receive(HELLO)
  const joins = () => world.socket.messages().filter(message => message.type === "hub:join")
  assert.equal(joins().length, 1)
  hub.disconnect()
})

test("component_that_is_mounted_twice_joins_once", async () => {
  for (const early of [true, false]) {
    const world = new World()
    const hub = early ? connect("/ws") : await opened(world)
    const said = []
    const mount = () => {
      const room = hub.room("r", { replay: 2 })
      const off = room.on("*", number => said.push(number))
      return () => { off(); room.leave() }
    }
    mount()() // as React's strict mode does
    const unmount = mount()
    await world.settle()
    if (early) {
      world.socket.open()
      world.socket.receive(HELLO)
    }
    await world.pass(10)
    const joins = world.socket.messages().filter(message => message.type.startsWith("hub:"))
      .filter(message => message.room === "r")
    assert.deepEqual(joins.map(message => message.type), ["hub:join"])
    world.socket.receive({ type: "hub:join", reply: joins[0].id, room: "r", epoch: "k", at: 2, count: 2 })
    world.socket.receive({ room: "r", n: 1, data: 1 })
    world.socket.receive({ room: "r", n: 2, data: 2 })
    assert.deepEqual(said, [1, 2])
    unmount()
    await world.pass(10)
    assert.equal(world.socket.messages().at(-1).type, "hub:leave")
    hub.disconnect()
  }
})

test("room_that_is_left_while_the_session_is_away_is_left_when_it_is_back", async () => {
  const world = new World()
  const hub = await opened(world, {}, { ...HELLO, session: "s1", at: 0 })
  const room = hub.room("r")
  const { id } = world.socket.messages().at(-1)
  world.socket.receive({ type: "hub:join", reply: id, room: "r" })
  world.socket.end()
  room.leave()
  await world.pass(1000)
  world.socket.open()
  world.socket.receive({ ...HELLO, session: "s1", resumed: true, at: 0 })
  assert.deepEqual(world.socket.messages().slice(1), [{ type: "hub:leave", room: "r" }])
  hub.disconnect()
})
