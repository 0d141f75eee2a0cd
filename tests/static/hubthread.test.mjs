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

test("token_function_is_asked_once_at_a_time_and_may_take_long", async () => {
  const world = new World()
  const waiting = []
  const hub = connect("/ws", { token: () => new Promise((...settle) => waiting.push(settle)) })
  await world.pass(60_000) // a person logs in
  world.hide()
  world.show()
  await world.pass(60_000)
  assert.deepEqual([hub.state, waiting.length, world.sockets.length], ["connecting", 1, 0])
  waiting[0][0]("t")
  await world.settle()
  assert.equal(world.sockets.length, 1)
  world.socket.open()
  world.socket.receive({ ...HELLO, token_ttl: 20 })
  assert.equal(hub.rtt, 0) // without the time of the token
  await world.pass(16_000)
  world.socket.end() // while the token is renewed
  await world.pass(2000)
  assert.deepEqual([hub.state, waiting.length], ["connecting", 2])
  waiting[1][1](new Error("no network"))
  await world.settle()
  assert.deepEqual([hub.state, hub.reason, world.reported.length], ["waiting", "the token function failed", 1])
  await world.pass(2000)
  waiting[2][0]("t")
  await world.settle()
  assert.equal(world.sockets.length, 2)
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

test("socket_that_opens_too_late_is_closed_and_not_heard", async () => {
  const world = new World()
  const hub = connect("/ws")
  await world.pass(10_000)
  const old = world.socket
  old.open()
  assert.equal(old.readyState, 3)
  assert.equal(hub.state, "waiting")
  hub.disconnect()
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

test("socket_that_closes_already_counts_as_not_open", async () => {
  const world = new World()
  const hub = await opened(world)
  world.socket.readyState = 2 // the server's Close has come, its event not yet
  assert.equal(hub.send("a"), "queued")
  const answer = hub.request("b")
  world.socket.end(1012, "")
  await world.pass(2000)
  world.socket.open()
  world.socket.receive(HELLO)
  assert.deepEqual(world.socket.messages().slice(1).map(({ type }) => type), ["a", "b"])
  hub.disconnect()
  await assert.rejects(answer, Lost)
})

test("header_wins_over_a_field_of_its_name", async () => {
  const world = new World()
  const hub = await opened(world)
  hub.send("say", { type: "other", text: "hi" })
  assert.equal(world.socket.sent.at(-1), '{"type":"say","text":"hi"}')
  hub.disconnect()
})

test("request_that_is_dropped_says_why", async () => {
  const world = new World()
  const hub = await opened(world, { queue: { messages: 1 } })
  hub.disconnect()
  await assert.rejects(hub.request("q"), /request q: the client is not connected/)
  hub.connect()
  hub.send("a")
  await assert.rejects(hub.request("q"), /request q: the queue is full/)
  await world.settle()
  world.socket.open("")
  await assert.rejects(hub.request("q"), /request q: the server does not speak/)
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

test("room_takes_bytes", async () => {
  const world = new World()
  const hub = await opened(world)
  const heard = []
  hub.room("r").on("*", data => heard.push(...new Uint8Array(data)))
  world.socket.receive({ reply: world.socket.messages().at(-1).id, epoch: "k", at: 0 })
  world.socket.receive({ room: "r", n: 1, bytes: "AQI=" })
  assert.deepEqual(heard, [1, 2])
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
  assert.throws(() => hub.room(7), /room: expected a text, got number/)
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
    const token = () => {
      if (tokenMode === "fails") throw new Error("token")
      if (tokenMode === "slow") return new Promise(resolve => tokens.push(resolve))
      return "t"
    }
    const hub = connect("/ws", { token: seed % 2 ? token : undefined })
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
      closing: () => { if (world.socket?.readyState === 1) world.socket.readyState = 2 },
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
      world.live().forEach(socket => {
        socket.bufferedAmount = 0
        if (socket.readyState === 2) socket.end()
      })
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

test("token_function_that_fails_to_renew_is_asked_again_and_null_ends", async () => {
  const world = new World()
  let answer = "t"
  const token = async () => {
    if (answer === "error") throw new Error("no network")
    return answer
  }
  Math.random = () => 1
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

test("token_that_is_fetched_while_the_connection_is_lost_is_for_the_next", async () => {
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
  assert.equal(waiting.length, 1)
  waiting[0]("next")
  await world.settle()
  world.socket.open()
  world.socket.receive(HELLO)
  await world.settle()
  assert.deepEqual(world.socket.messages().map(({ type, token }) => [type, token]), [["hub:hello", "next"]])
  hub.disconnect()
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

