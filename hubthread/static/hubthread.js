/**
 * The browser's client of hubthread: a WebSocket that comes back.
 *
 *     import { connect } from "/hubthread.js"
 *     const hub = connect("/ws")
 *     hub.on("said", message => show(message.text))
 *     hub.send("say", { text: "hello" })
 *
 * How it works.  The program has a *wish*: to be connected or not.  Each attempt to connect has
 * an *epoch*, a number.  Everything that comes from a socket, from the timer or from the token
 * function carries its epoch, and an event of an old epoch is ignored.  There is one live socket
 * and one timer at most.  The state changes first, and the listeners are called afterwards.
 * The error of a listener is reported, and the other listeners are called.
 *
 * The wire is JSON text.  Names that begin with "hub:" are the hub's own; the server agrees to
 * them with the subprotocol "hubthread.1".  A server with a format of its own is reached with
 * `{ plain: true }` and `hub.raw`.
 */

export const PROTOCOL = "hubthread.1"

const SECOND = 1000
const CONNECT_TIMEOUT = 10 * SECOND // for the socket and the hub's hello together; a token takes its time
const STEADY = 5 * SECOND // a connection that lasts so long resets the backoff
const FIRST_BACKOFF = SECOND
const LONGEST_BACKOFF = 20 * SECOND
const AFTER_LOSS = 2 * SECOND // the least spread after a loss, unless the server names one
const OVERLOADED = 2 * SECOND // the least wait after 1013
const MOST_RETRY = 3600 * SECOND // advice for longer is taken as this
const LONGEST_TIMER = 2 ** 31 - 1 // a browser runs a timer for longer at once
const HIDDEN_WAIT = 30 * SECOND // what is added to a wait while nobody looks at the page
const OFFLINE_WAIT = 30 * SECOND // the browser's "offline" may be wrong, so try now and then
const QUIET = 25 * SECOND // a visible page asks after so long without a message
const PATIENCE = 4 * SECOND // and gives the line up after so long without an answer
const STALE_CONNECTING = 2 * SECOND // an attempt that is older at a wake is abandoned
const RENEWED = [0.6, 0.8] // the parts of a token's time between which it is renewed
const LEAST_RENEWAL = SECOND
const TOKEN_RETRY = 5 * SECOND // the longest wait after a token function that failed
const BUFFERED = 1 << 20 // bytes in the socket's own buffer that count as "not open"
const MOST_EARLY = 64 // messages before the hub's hello
const STORED = "hubthread:"
const MOST_EARLY_SIZE = 1 << 20 // of their characters and bytes
const MOST_GIVEN = 256 // inputs that a room without a state does not acknowledge
const SAMPLES = 8 // measurements of the server's clock that are kept

// Names of listeners that no header of a message calls, of a hub and of a room.
const EVENTS = new Set(["open", "state", "gap", "message", "*"])
const ROOM_EVENTS = new Set(["join", "gap", "members", "refused", "*", "hub:state", "hub:entities"])

/** The request was sent, or waited, when the connection ended: nobody knows its fate. */
export class Lost extends Error { name = "Lost" }
/** The server answered that it failed, or refused. */
export class Refused extends Error { name = "Refused" }
/** No answer came in time. */
export class TimedOut extends Error { name = "TimedOut" }

/** What a close code asks a client to do: see the table "Close codes" of the documentation. */
export function advice(code) {
  if (code === 1000) return "rest"
  if (code === 4401) return "token"
  if (code === 1001 || code === 1012) return "restart"
  if (code === 1013) return "overloaded"
  if (code === 4001) return "end" // another tab has the session now
  if (code === 1002 || code === 1003 || (code >= 1007 && code <= 1010)) return "end"
  if ((code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999)) return "end"
  return "back"
}

/** Connect to a hub; see `Hub` for what comes back. */
export function connect(url = "/ws", options = {}) {
  const hub = new Hub(url, options)
  hub.connect()
  return hub
}

/** Names and their listeners. */
class Listeners {
  #all = new Map()

  on(name, listener, { signal } = {}) {
    if (typeof listener !== "function")
      throw new TypeError(`on(${JSON.stringify(name)}): expected a function, got ${typeof listener}`)
    if (signal?.aborted) return () => {}
    const entry = { listener }
    const entries = this.#all.get(name) ?? new Set()
    this.#all.set(name, entries.add(entry))
    const off = () => {
      entries.delete(entry)
      if (!entries.size && this.#all.get(name) === entries) this.#all.delete(name)
      signal?.removeEventListener("abort", off)
    }
    signal?.addEventListener("abort", off)
    return off
  }

  /** Call the listeners of a message: those of its header, or else those of "*". */
  emitMessage(header, message, events) {
    return (!events.has(header) && this.emit(header, message)) || this.emit("*", message)
  }

  /** Call every listener of a name; return true if there is one. */
  emit(name, ...values) {
    const entries = this.#all.get(name)
    if (!entries) return false
    for (const { listener } of [...entries]) guarded(listener, ...values)
    return true
  }
}

function guarded(listener, ...values) {
  try {
    return listener(...values)
  } catch (error) {
    report(error)
  }
}

function report(error) {
  if (globalThis.reportError) globalThis.reportError(error)
  else console.error(error)
}

/** A connection to a hub that comes back by itself.  Made by `connect`. */
export class Hub {
  #address
  #options
  #listeners = new Listeners()
  #answers = new Map() // header → function that answers the server's requests
  #rooms = new Map() // name → Room, while a handle is held
  #left = new Set() // names of rooms that were left while the session was away
  #named = new Set() // names of all rooms that the program has asked for
  #requests = new Map() // id → { resolve, reject, deadline, sent, stop }
  #queue = [] // { text, bytes, key, until, request }
  #queued = 0 // bytes of the queue
  #lastId = 0
  #wish = false
  #epoch = 0
  #socket = null
  #openedSocket = false
  #spoken = false // the hub has said hello
  #early = [] // what came before its hello
  #state = "idle"
  #reason = ""
  #retryAt = null
  #failures = 0 // attempts in a row that brought no steady connection
  #unopened = 0 // handshakes in a row that failed before the socket opened
  #refusedToken = false // the last connection ended with 4401
  #openedAt = 0
  #startedAt = 0
  #heardAt = 0 // by the wall clock, which goes on while the machine sleeps
  #asked = null // when an unanswered "hub:time" was sent
  #retryDue = Infinity
  #connectDue = Infinity
  #tokenDue = Infinity
  #timer = null
  #timerDue = Infinity
  #page = null // takes the page's listeners away
  #asking = null // the promise of the token function, while it works
  #session = null // the token that makes the next connection the same client
  #got = null // the number of the last message of the session
  #id = null
  #samples = [] // { rtt, offset }

  constructor(url, options) {
    const { token, plain = false, queue = {}, whenHidden = "slow", timeout = 10 * SECOND } = options
    const { session = "page", maxMessage = 4 * 1024 * 1024 } = options
    const base = globalThis.location?.href
    const address = new URL(url, base)
    address.protocol = address.protocol.replace(/^http/, "ws")
    if (!/^wss?:$/.test(address.protocol))
      throw new TypeError(`connect: expected an address of ws, wss, http or https, got ${url}`)
    if (!["slow", "wait"].includes(whenHidden))
      throw new TypeError(`whenHidden: expected "slow" or "wait", got ${whenHidden}`)
    if (!["page", "tab"].includes(session))
      throw new TypeError(`session: expected "page" or "tab", got ${session}`)
    this.#address = address.href
    const { messages = 64, bytes = 256 * 1024 } = queue
    this.#options = { token, plain, messages, bytes, whenHidden, timeout, session, maxMessage }
    if (session === "tab") this.#takeSession()
    this.raw = Object.freeze({ send: (data, how) => this.#post(data, how) })
  }

  // For the program.

  /** "idle", "connecting", "open", "waiting", "resting" or "ended". */
  get state() { return this.#state }
  /** The reason of the state, for people; empty while open. */
  get reason() { return this.#reason }
  /** When the next attempt is due (`Date.now`), while waiting; else null. */
  get retryAt() { return this.#retryAt }
  /** The client's number in the hub, once it is known; else null. */
  get id() { return this.#id }
  /** The smallest round trip that was measured, in milliseconds; else null. */
  get rtt() { return this.#best()?.rtt ?? null }

  /** The server's clock in milliseconds; the own clock until the server has told its own. */
  now() {
    const best = this.#best()
    return best ? performance.now() + best.offset : Date.now()
  }

  /** Connect, and connect again after each loss. */
  connect() {
    if (this.#wish && this.#state !== "ended") return
    this.#wish = true
    this.#failures = this.#unopened = 0
    this.#refusedToken = false
    this.#watchPage()
    this.#attempt()
  }

  /** Wish not to be connected: close, and stay away until `connect`. */
  disconnect() {
    this.#wish = false
    this.#drop(1000)
    this.#leavePage()
    // Somebody else may log in before the next `connect`.
    this.#session = this.#got = this.#asking = null
    this.#forget("disconnected")
    this.#become("idle", "")
  }

  [Symbol.dispose ?? Symbol.for("dispose")]() { this.disconnect() }

  /** Try at once instead of at `retryAt`. */
  retryNow() {
    if (this.#wish && (this.#state === "waiting" || this.#state === "resting")) this.#attempt()
  }

  /**
   * Call `listener` for each message with this header, or for an event: "open", "state",
   * "message" (every message, as it came), "*" (messages without a listener of their own).
   * Return a function that ends this; `{ signal }` ends it, too.
   */
  on(name, listener, options) { return this.#listeners.on(name, listener, options) }

  /** Answer the server's requests with this header: with what `answer(message)` returns. */
  answer(header, answer) {
    this.#answers.set(header, answer)
    return () => { if (this.#answers.get(header) === answer) this.#answers.delete(header) }
  }

  /**
   * Send a message; return "sent", "queued" or "dropped".
   *
   * How: `ttl` (milliseconds that it may wait), `key` (a later message with the key replaces it
   * while it waits), `volatile` (it never waits).
   */
  send(header, fields = {}, how = {}) {
    return this.#post(JSON.stringify({ type: header, ...fields, type: header }), how)
  }

  /**
   * Send a request; the promise is its answer.  It is rejected with `TimedOut`, `Refused`, or
   * `Lost` if the connection ended before the answer.  It is never sent twice.
   */
  request(header, fields = {}, { timeout = this.#options.timeout, signal } = {}) {
    const id = ++this.#lastId
    const text = JSON.stringify({ ...fields, type: header, id })
    return new Promise((resolve, reject) => {
      this.#refusePlain("request")
      if (signal?.aborted) return reject(signal.reason)
      const settle = (how, value) => {
        if (!this.#requests.delete(id)) return
        signal?.removeEventListener("abort", aborted)
        this.#queue = this.#queue.filter(entry => entry.request !== id || !(this.#queued -= entry.bytes, true))
        how(value)
      }
      const aborted = () => settle(reject, signal.reason)
      this.#requests.set(id, {
        deadline: now() + timeout,
        sent: false,
        resolve: value => settle(resolve, value),
        reject: error => settle(reject, error),
      })
      signal?.addEventListener("abort", aborted)
      const fate = this.#post(text, { request: id })
      if (fate === "dropped") settle(reject, new Lost(`request ${header}: ${this.#whyDropped()}`))
      this.#arm()
    })
  }

  /** Join a room; the same name gives the same room.  Leave it with `room.leave()`. */
  room(name, options = {}) {
    this.#refusePlain("room")
    if (typeof name !== "string") throw new TypeError(`room: expected a text, got ${typeof name}`)
    let room = this.#rooms.get(name)
    if (!room) {
      room = new Room(this.#roomPort, name)
      this.#rooms.set(name, room)
    }
    this.#left.delete(name)
    this.#named.add(name)
    room.hold(options)
    this.#join(room)
    return room
  }

  #refusePlain(name) {
    if (this.#options.plain) throw new TypeError(`${name}: expected a hub without { plain: true }`)
  }

  // Attempts.

  async #attempt() {
    this.#drop()
    const epoch = this.#epoch
    this.#startedAt = now()
    this.#arm()
    this.#become("connecting", this.#reason)
    if (epoch !== this.#epoch) return // a listener has disconnected
    let token = this.#options.token
    if (typeof token === "function") {
      try {
        token = await this.#askToken(this.#refusedToken)
      } catch {
        return epoch === this.#epoch && this.#wait("the token function failed")
      }
      if (epoch !== this.#epoch) return
      if (token === null || token === false) return this.#end("not logged in")
    }
    this.#startedAt = now()
    this.#connectDue = now() + CONNECT_TIMEOUT
    this.#arm()
    let socket
    try {
      const names = this.#options.plain ? [] : [PROTOCOL]
      socket = new WebSocket(this.#address, names)
    } catch (error) {
      return this.#end(`the browser refuses the address: ${error.message}`)
    }
    this.#socket = socket
    socket.binaryType = "arraybuffer"
    socket.onopen = () => epoch === this.#epoch && this.#onOpen(socket, token)
    socket.onmessage = event => epoch === this.#epoch && this.#onMessage(event.data)
    socket.onclose = event => epoch === this.#epoch && this.#onClose(event)
  }

  /** End the present epoch: its socket, its token function and its timers are not heard again. */
  #drop(code) {
    this.#epoch++
    this.#connectDue = this.#retryDue = this.#tokenDue = Infinity
    this.#asked = null
    this.#probing?.abort()
    this.#probing = null
    const socket = this.#socket
    this.#socket = null
    this.#spoken = this.#openedSocket = false
    this.#early = []
    if (socket) {
      socket.onmessage = socket.onclose = null
      // Safari breaks when a socket is closed while it connects, so close it when it is open.
      socket.onopen = () => socket.close()
      if (socket.readyState !== 0) socket.close(...(code ? [code] : []))
    }
    for (const request of [...this.#requests.values()])
      if (request.sent) request.reject(new Lost("the connection ended before the answer"))
    for (const room of this.#rooms.values()) room.lost()
  }

  #onOpen(socket, token) {
    this.#openedSocket = true
    this.#unopened = 0
    this.#heardAt = Date.now()
    if (this.#options.plain) return this.#opened()
    if (socket.protocol !== PROTOCOL)
      return this.#end(`the server does not speak ${PROTOCOL}: connect with { plain: true }`)
    const hello = { type: "hub:hello", v: 1, client: "js" }
    if (token !== undefined) hello.token = token
    if (this.#session) hello.resume = this.#session
    if (this.#got !== null) hello.got = this.#got
    socket.send(JSON.stringify(hello))
    // Behind the hello, without waiting for its answer: a round trip less.  With a session the
    // client may be in its rooms already, and the answer says so.
    for (const room of this.#rooms.values()) this.#join(room)
  }

  #opened() {
    const epoch = this.#epoch
    this.#connectDue = Infinity
    this.#openedAt = now()
    this.#become("open", "")
    if (epoch === this.#epoch) this.#listeners.emit("open")
  }

  #onClose({ code, reason }) {
    const opened = this.#openedSocket
    const steady = this.#state === "open" && now() - this.#openedAt >= STEADY
    this.#drop()
    if (steady) {
      this.#failures = 0
      this.#refusedToken = false
    }
    if (!opened) {
      this.#unopened++
      return this.#unopened >= 2 ? this.#probe() : this.#wait("the server cannot be reached")
    }
    const [, said, named] = /^(.*?)(?:(?:^|\s+)retry=(\d+(?:\.\d+)?))?$/s.exec(reason)
    const text = said || `the connection ended (${code})`
    const what = advice(code)
    if (what === "rest") return this.#become("resting", text)
    if (what === "end" || (what === "token" && !this.#mayAskAgain())) return this.#end(text)
    const least = what === "overloaded" ? OVERLOADED : 0
    this.#wait(text, least + this.#spread(named && Math.min(named * SECOND, MOST_RETRY)))
  }

  /** Note that the token was refused; return false if the token function cannot help. */
  #mayAskAgain() {
    if (this.#refusedToken || typeof this.#options.token !== "function") return false
    return (this.#refusedToken = true)
  }

  /** A random wait: clients that are lost together must not come back together. */
  #spread(advice = AFTER_LOSS) {
    // A server that accepts and closes at once must not be asked all the time.
    return Math.random() * Math.max(advice, this.#failures ? this.#longest() : 0)
  }

  #longest() { return Math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** this.#failures) }

  #backoff() { return Math.random() * this.#longest() }

  /** Wait before the next attempt. */
  #wait(reason, delay = this.#backoff()) {
    this.#drop()
    this.#failures++
    // Added, so that clients which are lost together stay spread.
    if (hidden()) delay = this.#options.whenHidden === "wait" ? Infinity : delay + HIDDEN_WAIT
    if (globalThis.navigator?.onLine === false) delay += OFFLINE_WAIT
    this.#retryDue = now() + delay
    this.#retryAt = delay < Infinity ? Date.now() + delay : null
    this.#arm()
    this.#become("waiting", reason)
  }

  /** Give up: the same would happen again. */
  #end(reason) {
    this.#drop(1000)
    this.#leavePage()
    this.#forget(reason)
    this.#become("ended", reason)
  }

  /** Learn why handshakes fail: a browser tells a page nothing about it. */
  async #probe() {
    const epoch = this.#epoch
    const stop = new AbortController()
    this.#unopened = 0
    this.#connectDue = now() + CONNECT_TIMEOUT
    this.#probing = stop
    this.#arm()
    this.#become("connecting", this.#reason)
    if (epoch !== this.#epoch) return
    let answer
    try {
      const address = this.#address.replace(/^ws/, "http")
      const headers = { "X-Hubthread-Check": "1" }
      const how = { headers, cache: "no-store", credentials: "include", redirect: "manual" }
      answer = await fetch(address, { ...how, signal: stop.signal })
    } catch {
      if (epoch === this.#epoch) this.#wait("the server cannot be reached")
      return
    }
    if (epoch !== this.#epoch) return
    // A redirect, which a page may not look at, leads to a page for logging in.
    const status = answer.type === "opaqueredirect" ? 401 : answer.status
    const after = Math.min(Number(answer.headers.get("Retry-After")) * SECOND, MOST_RETRY)
    if (status === 401) {
      const reason = "the server refuses: log in first"
      return this.#mayAskAgain() ? this.#wait(reason, this.#spread()) : this.#end(reason)
    }
    if (status === 403 || status === 404 || status === 410)
      return this.#end(`the server refuses (${status})`)
    const why = status === 204 ? "a WebSocket cannot reach the server, a page can" :
      `the server cannot be reached (${status})`
    this.#wait(why, after > 0 ? after + this.#backoff() : undefined)
  }
  #probing = null

  // Messages.

  #onMessage(data) {
    this.#heardAt = Date.now()
    const most = this.#options.maxMessage
    if ((data.length ?? data.byteLength) > most)
      return this.#end(`the server breaks the protocol: message of more than ${most} bytes`)
    if (this.#options.plain) {
      this.#listeners.emit("message", data)
      return
    }
    let message
    try {
      message = typeof data === "string" ? JSON.parse(data) : null
    } catch {
      message = null
    }
    const epoch = this.#epoch
    if (this.#spoken && this.#got !== null) this.#got++
    if (!this.#spoken) {
      if (message?.type === "hub:hello") return this.#onHello(message)
      // What the program sends first may overtake the hub's hello.
      this.#early.push(data)
      const size = this.#early.reduce((sum, each) => sum + (each.length ?? each.byteLength), 0)
      if (this.#early.length > MOST_EARLY || size > MOST_EARLY_SIZE) this.#end("the server sent no hub:hello")
      return
    }
    this.#listeners.emit("message", data)
    if (epoch !== this.#epoch || message === null || typeof message !== "object") return
    guarded(() => this.#dispatch(message))
  }

  #onHello(message) {
    if (message.error !== undefined) return this.#end(`the server refuses: ${message.error}`)
    this.#spoken = true
    const asked = this.#got !== null
    this.#session = typeof message.session === "string" ? message.session : null
    this.#got = whole(message.at)
    this.#id = message.id ?? null
    this.#samples = []
    if (typeof message.now === "number") this.#sample(now() - this.#startedAt, message.now)
    this.#expires(message)
    const early = this.#early
    this.#early = []
    const epoch = this.#epoch
    const gaps = asked ? this.#comeBack(message) : []
    this.#left.clear()
    this.#opened()
    for (const tell of gaps) if (epoch === this.#epoch) tell()
    for (const data of early) if (epoch === this.#epoch) this.#onMessage(data)
  }

  /** Go on with the session, or join the rooms anew if it has ended; return who hears of a gap. */
  #comeBack(message) {
    const gaps = []
    const resumed = message.resumed === true, lost = whole(message.lost) ?? 0
    if (resumed && lost) gaps.push(() => this.#listeners.emit("gap", { lost }))
    for (const room of this.#rooms.values()) {
      if (resumed && room.resume(lost)) gaps.push(() => room.missed())
      this.#join(room)
    }
    if (resumed) for (const name of this.#left) this.#sendNow({ type: "hub:leave", room: name })
    return gaps
  }

  #dispatch(message) {
    const { type, reply, room } = message
    if (reply !== undefined) return this.#onReply(message)
    const own = String(type).startsWith("hub:") // a newer hub may have more of them
    if (typeof room === "string" && (type === undefined || own)) {
      const handle = this.#rooms.get(room)
      if (handle) handle.take(message)
      else if (!own && !this.#named.has(room)) { // the server has let the client into this room
        const data = pushed(message)
        this.#listeners.emitMessage(data?.type, data, EVENTS)
      }
    }
    if (own || (room !== undefined && type === undefined)) return
    if (message.id !== undefined && this.#answers.has(type)) {
      this.#reply(message)
      return
    }
    this.#listeners.emitMessage(type, message, EVENTS)
  }

  async #reply({ type, id, ...fields }) {
    const epoch = this.#epoch
    let answer
    try {
      answer = await this.#answers.get(type)(fields)
    } catch (error) {
      report(error)
      answer = { error: String(error?.message ?? error) }
    }
    if (epoch !== this.#epoch) return
    const body = answer === undefined || answer === null ? {} :
      typeof answer === "object" && !Array.isArray(answer) ? answer : { data: answer }
    this.#post(JSON.stringify({ ...body, type, reply: id }), {})
  }

  #onReply(message) {
    const request = this.#requests.get(message.reply)
    if (!request) return
    if (message.error !== undefined) request.reject(new Refused(String(message.error)))
    else request.resolve(message)
  }

  #post(data, { ttl = Infinity, key, volatile = false, request } = {}) {
    if (this.#state === "resting") this.#attempt()
    if (this.#stale()) this.#wake()
    if (this.#takes && !this.#queue.length) {
      this.#socket.send(data)
      if (request) this.#requests.get(request).sent = true
      return "sent"
    }
    if (volatile || !this.#wish || this.#state === "ended") return "dropped"
    const bytes = typeof data === "string" ? data.length : data.byteLength ?? data.size
    if (key !== undefined)
      this.#queue = this.#queue.filter(entry => entry.key !== key || !(this.#queued -= entry.bytes, true))
    if (this.#queue.length >= this.#options.messages || this.#queued + bytes > this.#options.bytes)
      return "dropped"
    this.#queue.push({ data, bytes, key, until: now() + ttl, request })
    this.#queued += bytes
    this.#arm()
    return "queued"
  }

  /** True if the socket takes a message: while it closes, it throws messages away. */
  get #takes() {
    const socket = this.#socket
    return this.#state === "open" && socket.readyState === 1 && socket.bufferedAmount <= BUFFERED
  }

  #flush() {
    while (this.#queue.length && this.#takes) {
      const { data, bytes, until, request } = this.#queue.shift()
      this.#queued -= bytes
      if (until < now()) continue
      this.#socket.send(data)
      if (request) this.#requests.get(request).sent = true
    }
  }

  #whyDropped() {
    if (this.#state === "ended") return this.#reason
    return this.#wish ? "the queue is full" : "the client is not connected"
  }

  /** Forget what waits, and tell the requests. */
  #forget(reason) {
    this.#queue = []
    this.#queued = 0
    for (const request of [...this.#requests.values()]) request.reject(new Lost(reason))
  }

  // Rooms.

  #roomPort = {
    leave: room => {
      if (this.#rooms.get(room.name) === room) this.#rooms.delete(room.name)
      if (this.#talks) this.#sendNow({ type: "hub:leave", room: room.name })
      else this.#left.add(room.name)
    },
    rejoin: room => this.#join(room),
    send: (room, header, fields, how) => this.send(header, { ...fields, room: room.name }, how),
    // An input is for now: it does not wait for a connection.
    input: message => this.#post(JSON.stringify(message), { volatile: true }) === "sent",
    id: () => this.#id,
    now: () => this.now(),
  }

  /** True behind our hello: what is sent now is taken after it. */
  get #talks() { return this.#openedSocket && !this.#options.plain }

  #join(room) {
    if (!this.#talks || (!this.#spoken && this.#got !== null)) return
    const message = room.joining()
    if (!message) return
    const epoch = this.#epoch
    this.#askHub(
      message,
      answer => room.joined(answer),
      error => epoch === this.#epoch && room.refused(error),
      now() + this.#options.timeout,
    )
  }

  #sendNow(message) { this.#socket.send(JSON.stringify(message)) }

  // Time.

  #best() {
    return this.#samples.reduce((best, each) => (!best || each.rtt < best.rtt ? each : best), null)
  }

  #sample(rtt, serverNow) {
    this.#samples.push({ rtt, offset: serverNow + rtt / 2 - performance.now() })
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  #ask() {
    if (this.#options.plain || this.#state !== "open" || this.#asked !== null) return
    const asked = (this.#asked = now())
    const alive = answer => {
      if (this.#asked === asked) this.#asked = null
      if (typeof answer.now === "number") this.#sample(now() - asked, answer.now)
    }
    // A refusal is a sign of life, too.
    this.#askHub({ type: "hub:time" }, alive, error => error instanceof Refused && alive({}))
  }

  // The token.

  /** Ask the token function, once at a time: a second call may spoil the token of the first. */
  #askToken(again) {
    if (!this.#asking) {
      const asking = this.#asking = Promise.resolve({ again }).then(this.#options.token)
      const done = () => { if (this.#asking === asking) this.#asking = null }
      asking.then(done, error => { done(); report(error) })
    }
    return this.#asking
  }

  #expires({ token_ttl: ttl }) {
    const known = ttl > 0 && typeof ttl === "number" && typeof this.#options.token === "function"
    // At random, so that clients whose tokens expire together do not ask together.
    const part = RENEWED[0] + Math.random() * (RENEWED[1] - RENEWED[0])
    this.#tokenDue = known ? now() + Math.max(ttl * SECOND * part, LEAST_RENEWAL) : Infinity
  }

  async #renew() {
    const epoch = this.#epoch
    this.#tokenDue = Infinity
    let token
    try {
      token = await this.#askToken(false)
    } catch {
      if (epoch !== this.#epoch) return
      this.#tokenDue = now() + TOKEN_RETRY * (0.5 + Math.random() / 2) // the server closes the connection in the end
      return this.#arm()
    }
    if (epoch !== this.#epoch) return
    if (token === null || token === false) return this.#end("not logged in")
    this.#askHub({ type: "hub:token", token }, answer => this.#expires(answer))
  }

  /** Send a request of the hub's own. */
  #askHub(message, resolve, reject = () => {}, deadline = Infinity) {
    const id = ++this.#lastId
    const settle = then => value => {
      this.#requests.delete(id)
      then(value)
      this.#arm()
    }
    this.#requests.set(id, { deadline, sent: true, resolve: settle(resolve), reject: settle(reject) })
    this.#sendNow({ ...message, id })
    this.#arm()
  }

  /** Set the one timer to what is due first. */
  #arm() {
    let due = Math.min(this.#retryDue, this.#connectDue)
    for (const request of this.#requests.values()) due = Math.min(due, request.deadline)
    for (const entry of this.#queue) due = Math.min(due, entry.until)
    if (this.#state === "open") {
      due = Math.min(due, this.#tokenDue)
      if (this.#asked !== null) due = Math.min(due, this.#asked + PATIENCE)
      else if (!this.#options.plain && !hidden())
        due = Math.min(due, now() + Math.max(0, this.#heardAt + QUIET - Date.now()))
      if (this.#queue.length) due = Math.min(due, now() + 100) // the socket's buffer is full
      if (this.#failures || this.#refusedToken) due = Math.min(due, this.#openedAt + STEADY)
    }
    if (due === this.#timerDue) return
    clearTimeout(this.#timer)
    this.#timerDue = due
    this.#timer = due === Infinity ? null : setTimeout(() => this.#onTimer(), Math.min(Math.max(0, due - now()), LONGEST_TIMER))
  }

  #onTimer() {
    this.#timer = null
    this.#timerDue = Infinity
    const time = now()
    for (const request of [...this.#requests.values()])
      if (request.deadline <= time) request.reject(new TimedOut("no answer came in time"))
    this.#queue = this.#queue.filter(entry => entry.until > time || !(this.#queued -= entry.bytes, true))
    if (this.#connectDue <= time) {
      if (this.#openedSocket) this.#end("the server sent no hub:hello")
      else this.#wait("the server does not answer")
    } else if (this.#retryDue <= time) {
      this.#attempt()
    } else if (this.#state === "open") {
      if (this.#asked !== null && this.#asked + PATIENCE <= time) this.#lineIsDead()
      else {
        if (this.#openedAt + STEADY <= time) {
          this.#failures = 0
          this.#refusedToken = false
        }
        if (this.#tokenDue <= time) this.#renew()
        if (!hidden() && Date.now() - this.#heardAt >= QUIET) this.#ask()
        this.#flush()
      }
    }
    this.#arm()
  }

  #lineIsDead() {
    if (now() - this.#openedAt >= STEADY) this.#failures = 0
    this.#wait("the line is dead", this.#spread())
  }

  // The page.

  #watchPage() {
    if (this.#page) return
    const stop = new AbortController()
    const { signal } = stop
    this.#page = stop
    const page = globalThis.document
    const view = globalThis.window
    page?.addEventListener("visibilitychange", () => hidden() ? this.#arm() : this.#wake(), { signal })
    page?.addEventListener("resume", () => this.#wake(), { signal })
    view?.addEventListener("focus", () => this.#stale() && this.#wake(), { signal })
    view?.addEventListener("online", () => this.#wake(), { signal })
    view?.addEventListener("offline", () => this.#offline(), { signal })
    view?.addEventListener("pagehide", () => this.#hide(), { signal })
    view?.addEventListener("pageshow", event => event.persisted && this.#show(), { signal })
  }

  #leavePage() {
    this.#page?.abort()
    this.#page = null
  }

  /** True if the machine may have slept: nothing was heard for longer than the questions allow. */
  #stale() {
    return this.#state === "open" && !this.#options.plain && Date.now() - this.#heardAt > QUIET + PATIENCE
  }

  #wake() {
    if (!this.#wish) return
    this.#samples = []
    if (this.#state === "open") this.#ask()
    else if (this.#state === "waiting" || this.#state === "resting") this.#attempt()
    else if (this.#state === "connecting" && now() - this.#startedAt > STALE_CONNECTING) this.#attempt()
  }

  #offline() {
    if (this.#state === "open" || this.#state === "connecting") this.#wait("offline")
  }

  /** The page goes, or is put away: a socket would keep it out of the back/forward cache. */
  #hide() {
    if (this.#state === "idle" || this.#state === "ended") return
    this.#drop() // without a code: a page may close with 1000 only, and 1000 is for good
    if (this.#options.session === "tab") this.#leaveSession()
    this.#state = "waiting"
    this.#retryDue = Infinity
    this.#arm()
  }

  #show() {
    if (this.#options.session === "tab") this.#takeSession()
    this.#wake()
  }

  // Kept only while no page has it: a tab that is duplicated must not copy it.
  #takeSession() {
    try {
      const key = STORED + this.#address
      const kept = JSON.parse(sessionStorage.getItem(key))
      sessionStorage.removeItem(key)
      if (kept) [this.#session, this.#got] = kept
    } catch { /* the page may store nothing */ }
  }

  #leaveSession() {
    try {
      if (this.#session)
        sessionStorage.setItem(STORED + this.#address, JSON.stringify([this.#session, this.#got]))
    } catch { /* the page may store nothing */ }
  }

  #become(state, reason) {
    if (state !== "waiting") this.#retryAt = null
    if (state === this.#state && reason === this.#reason) return
    this.#state = state
    this.#reason = reason
    // Before the listeners: what waits goes out in front of what they send.
    if (state === "open") this.#flush()
    this.#arm()
    this.#listeners.emit("state", { state, reason, retryAt: this.#retryAt })
  }
}

/** One room.  Made by `hub.room(name)`; each call holds it once more, each `leave` lets go once. */
export class Room {
  #port
  #listeners = new Listeners()
  #held = 0
  #options = {}
  #epoch = null // of the position
  #at = null
  #live = false
  #wasLive = false // before the connection was lost
  #pending = false // a join waits for its answer
  #members = new Map()
  #version = null
  #present = null
  #shared = null // the state of the room, if the room sends it
  #number = 0 // of the state
  #tick = 0
  #time = 0
  #hz = 0
  #inputs = 0 // the number of the last one
  #given = [] // the inputs that no state has yet

  constructor(port, name) {
    this.#port = port
    this.name = name
  }

  /** The state of the room as the server sent it last; null before. Only to read. */
  get state() { return this.#shared }
  /** The tick after which the state is, and its time on the server's clock. */
  get tick() { return { number: this.#tick, time: this.#time } }
  /** The tick of the room at a time of the server's clock, with its fraction; now, if none is given. */
  tickAt(time = this.#port.now()) { return this.#tick + ((time - this.#time) * this.#hz) / SECOND }

  /** Give an input for the tick, or for the next one; return its number, or 0 if it cannot be sent. */
  input(data = {}, { tick } = {}) {
    const n = this.#inputs + 1
    if (!this.#live || !this.#port.input({ type: "hub:input", room: this.name, n, tick, data })) return 0
    this.#inputs = n
    if (this.#given.push({ n, tick, data }) > MOST_GIVEN) this.#given.shift()
    return n
  }
  /** The inputs that the state does not have yet, oldest first: `{ n, tick, data }`. */
  get pending() { return [...this.#given] }

  /** Call `listener(state)` after each change of the state. */
  onState(listener, options) { return this.#listeners.on("hub:state", listener, options) }

  /** Call `add(key, entity)`, `change(key, entity)`, `remove(key, entity)` for the entries of a dict. */
  onEntity(field, { add, change, remove }, options) {
    return this.#listeners.on("hub:entities", changes => {
      for (const [what, key, entity] of changes[field] ?? []) ({ add, change, remove })[what]?.(key, entity)
    }, options)
  }

  /** True while the room's messages come. */
  get live() { return this.#live }
  /** Who is in, if the room tells: key → what the room tells of it. */
  get members() { return new Map(this.#members) }
  /** The number of members, if the room tells it; else null. */
  get present() { return this.#present }
  /** The position of the last message: `{ epoch, at }`, or null. */
  get position() { return this.#at === null ? null : { epoch: this.#epoch, at: this.#at } }

  /**
   * Call `listener` for each message with this header, or for an event: "join", "gap" (messages
   * were missed: fetch a snapshot), "members", "refused", "rejected" (an input), "*".
   */
  on(name, listener, options) { return this.#listeners.on(name, listener, options) }

  send(header, fields, how) { return this.#port.send(this, header, fields, how) }

  /** Let go of the room.  It is left a moment after the last handle: a page may take it again. */
  leave() {
    if (!this.#held) return
    if (--this.#held) return
    setTimeout(() => {
      if (this.#held || !this.#port) return
      const port = this.#port
      this.#live = false
      port.leave(this)
    })
  }

  [Symbol.dispose ?? Symbol.for("dispose")]() { this.leave() }

  // For the hub.

  hold(options) {
    this.#held++
    this.#options = { ...this.#options, ...options }
  }

  lost() {
    this.#wasLive ||= this.#live
    this.#live = this.#pending = false
  }

  /** Stay in the room; but a room with a history recovers what the session has lost. */
  resume(lost) {
    this.#live = this.#wasLive && !(lost && this.#at !== null)
    this.#wasLive = false
    return this.#live && lost > 0
  }

  missed() { this.#listeners.emit("gap", { why: "lost" }) }

  joining() {
    if (this.#live || this.#pending) return null
    this.#pending = true
    const message = { type: "hub:join", room: this.name }
    if (this.#at !== null) Object.assign(message, { epoch: this.#epoch, at: this.#at })
    else if (this.#options.replay) message.replay = this.#options.replay
    return message
  }

  joined(answer) {
    const { epoch, recovered, members } = answer
    const at = whole(answer.at), count = whole(answer.count) ?? 0
    const told = isObject(members) || whole(answer.present) !== null
    this.#pending = false
    if (!this.#held) return
    this.#live = true
    this.#wasLive = false
    this.#inputs = 0 // the room counts from 1, too
    this.#given = []
    const asked = recovered !== undefined
    if (!(recovered && this.#at !== null)) this.#moveTo(epoch, at === null ? null : Math.max(0, at - count))
    if (told) {
      this.#members = new Map(Object.entries(isObject(members) ? members : {}))
      this.#present = whole(answer.present) ?? this.#members.size
      this.#version = whole(answer.v)
    }
    if (asked && !recovered) this.#listeners.emit("gap", { why: answer.why ?? "unknown" })
    this.#listeners.emit("join", { recovered: Boolean(recovered), count })
    if (told) this.#listeners.emit("members", this.members)
  }

  #moveTo(epoch, at) {
    const known = typeof epoch === "string" && at !== null
    this.#epoch = known ? epoch : null
    this.#at = known ? at : null
  }

  refused(error) {
    this.#pending = false
    this.#listeners.emit("refused", error)
  }

  take(message) {
    // While the room joins anew with its position: all of it comes again behind the answer.
    if (!this.#live && this.#at !== null) return
    if (message.type === "hub:gap") {
      this.#moveTo(message.epoch, whole(message.at))
      this.#listeners.emit("gap", { why: message.why ?? "unknown" })
      return
    }
    if (message.type === "hub:members") return this.#onMembers(message)
    if (message.type === "hub:state") return this.#onState(message)
    if (message.type === "hub:input") return this.#onRefused(message)
    if (message.type !== undefined) return
    const n = whole(message.n)
    // A number may be left out: the push was for others.  What is lost is told by "hub:gap".
    if (n !== null && this.#at !== null && n <= this.#at) return
    const data = pushed(message)
    if (data?.type === "hub:state") this.#onState(data)
    else this.#listeners.emitMessage(data?.type, data, ROOM_EVENTS)
    // After the listeners: a page that throws away its work asks for the message again.
    if (n !== null && this.#at !== null) this.#at = n
  }

  #onRefused({ refused = [] }) {
    for (const [n, why] of refused) {
      this.#given = this.#given.filter(each => each.n !== n)
      this.#listeners.emit("rejected", { n, why })
    }
  }

  #onState(message) {
    const { n, full, mine, tick = 0, time = 0, hz = this.#hz, acks = {} } = message
    const before = this.#shared
    const changes = Object.create(null) // a field may be "__proto__", if users name them
    if (isObject(full)) {
      this.#shared = full
      noteWhole(before ?? {}, full, changes)
    } else {
      // A patch of a state that is not here is for another time: the whole state comes.
      if (!before || n !== this.#number + (mine ? 0 : 1)) return
      try {
        applyPatch(before, mine ?? message, changes)
      } catch {
        this.#shared = null // it is not the patch of this state: wait for a whole one
        return
      }
    }
    this.#number = n
    if (!mine) [this.#tick, this.#time, this.#hz] = [tick, time, hz]
    const acked = acks[this.#port.id()] ?? 0
    this.#given = this.#given.filter(each => each.n > acked)
    this.#listeners.emit("hub:entities", changes)
    this.#listeners.emit("hub:state", this.#shared)
  }

  #onMembers({ v: version, came, went, present }) {
    const v = whole(version)
    if (this.#version !== null && v !== this.#version + 1) {
      this.#live = false
      this.#port.rejoin(this)
      return
    }
    this.#version = v
    if (isObject(came)) for (const [key, info] of Object.entries(came)) this.#members.set(key, info)
    if (Array.isArray(went)) for (const key of went) this.#members.delete(key)
    this.#present = whole(present) ?? this.#members.size
    this.#listeners.emit("members", this.members)
  }
}

/** Apply a patch of the server to a state; note in `changes` the entries of its dicts that it concerns. */
export function applyPatch(state, { del = [], set = {}, add = [] }, changes = Object.create(null)) {
  const note = (field, ...change) => (changes[field] ??= []).push(change)
  const at = path => path.reduce((place, key) => Object.hasOwn(place, key) ? place[key] : undefined, state)
  for (const path of del) {
    const place = at(path.slice(0, -1)), key = path.at(-1)
    if (path.length === 2) note(path[0], "remove", key, place[key])
    delete place[key]
  }
  const touched = []
  for (const [field, value] of Object.entries(set)) {
    const old = at([field])
    if (!isObject(value) || !isObject(old)) continue
    for (const key of Object.keys(value)) touched.push([field, Object.hasOwn(old, key) ? "change" : "add", key])
  }
  merge(state, set)
  for (const [path, items] of add) {
    at(path).push(...items)
    if (path.length > 2) touched.push([path[0], "change", path[1]])
  }
  for (const [field, what, key] of touched) note(field, what, key, state[field][key])
}

function merge(into, values) {
  for (const [key, value] of Object.entries(values)) {
    if (isObject(value) && Object.hasOwn(into, key) && isObject(into[key])) merge(into[key], value)
    // Not by assignment: a key of users may be "__proto__".
    else Object.defineProperty(into, key, { value, writable: true, enumerable: true, configurable: true })
  }
}

function noteWhole(before, after, changes) {
  for (const field of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const old = isObject(before[field]) ? before[field] : {}, now = isObject(after[field]) ? after[field] : {}
    const list = changes[field] = []
    for (const [key, entity] of Object.entries(old)) if (!Object.hasOwn(now, key)) list.push(["remove", key, entity])
    for (const [key, entity] of Object.entries(now)) list.push([Object.hasOwn(old, key) ? "change" : "add", key, entity])
  }
}

/** A number of the wire, or null for anything else that a server may send. */
function whole(value) { return Number.isSafeInteger(value) && value >= 0 ? value : null }

function isObject(value) { return typeof value === "object" && value !== null && !Array.isArray(value) }

function now() { return performance.now() }

/** What was pushed, without its envelope. */
function pushed({ data, text, bytes }) { return data ?? text ?? decoded(bytes) }

function decoded(base64) {
  return base64 === undefined ? null : Uint8Array.from(atob(base64), char => char.charCodeAt(0)).buffer
}

function hidden() { return globalThis.document?.visibilityState === "hidden" }
