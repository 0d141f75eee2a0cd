/**
 * A browser's page in fake time: sockets, timers, page events and chance, all by hand.
 *
 * `new World(seed)` replaces the globals that hubthread.js uses.  `step` lets the next timer run.
 */

import { readFile } from "node:fs/promises"

export class World {
  constructor(seed = 1) {
    this.time = 1_000_000
    this.slept = 0 // the wall clock goes on in sleep, the monotonic clock does not
    this.timers = new Map()
    this.inOrder = [] // all timers, the next one last; those that were cleared too
    this.nextTimer = 1
    this.sockets = []
    this.fetches = []
    this.reported = []
    this.document = new Page("visible")
    this.window = new Page()
    this.onLine = true
    let state = seed
    this.random = () => {
      state = (state + 0x6d2b79f5) | 0
      let mixed = Math.imul(state ^ (state >>> 15), state | 1)
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
    }
    const world = this
    class FakeSocket {
      static made = world.sockets
      constructor(url, protocols) {
        Object.assign(this, { url, protocols, protocol: "", readyState: 0, sent: [], bufferedAmount: 0 })
        world.sockets.push(this)
      }
      send(data) {
        if (this.readyState === 2) return // as a browser does
        if (this.readyState !== 1) throw new Error(`send in state ${this.readyState}`)
        this.sent.push(data)
      }
      close(code) {
        if (this.readyState === 0) throw new Error("a connecting socket must not be closed")
        if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999))
          throw new Error(`a page must not close with ${code}`)
        this.readyState = 3
        this.closed = true
        this.closedWith = code
      }
      // What the server and the line do.
      open(protocol = this.protocols[0] ?? "") {
        if (this.readyState !== 0) return
        this.readyState = 1
        this.protocol = protocol
        this.onopen?.({})
      }
      receive(message) {
        if (this.readyState !== 1) return
        this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) })
      }
      end(code = 1006, reason = "") {
        if (this.readyState === 3) return
        this.readyState = 3
        this.onclose?.({ code, reason, wasClean: code !== 1006 })
      }
      messages() { return this.sent.map(text => JSON.parse(text)) }
    }
    const replace = (name, value) =>
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    replace("WebSocket", FakeSocket)
    replace("setTimeout", (run, delay = 0) => {
      const id = this.nextTimer++
      const timer = { id, due: this.time + Math.max(0, delay), run }
      this.timers.set(id, timer)
      this.#insert(timer)
      return id
    })
    replace("clearTimeout", id => void this.timers.delete(id))
    replace("performance", { now: () => this.time })
    Date.now = () => 1.7e12 + this.time + this.slept
    Math.random = this.random
    replace("fetch", (url, options) => new Promise((resolve, reject) => {
      options.signal?.addEventListener("abort", () => reject(options.signal.reason))
      this.fetches.push({ url, options, resolve, reject })
    }))
    replace("document", this.document)
    replace("window", this.window)
    replace("navigator", { get onLine() { return world.onLine } })
    replace("location", { href: "http://hub.example/page" })
    replace("reportError", error => this.reported.push(error))
  }

  get socket() { return this.sockets.at(-1) }
  live() { return this.sockets.filter(socket => socket.onclose && socket.readyState !== 3) }

  /** Let promises settle, as between two tasks of a page. */
  async settle() { for (let turn = 0; turn < 12; turn++) await null }

  /** Let `delay` milliseconds pass; run what is due meanwhile, in order. */
  async pass(delay) {
    await this.settle()
    const until = this.time + delay
    while (this.inOrder.length && this.inOrder.at(-1).due <= until) {
      const timer = this.inOrder.pop()
      if (!this.timers.delete(timer.id)) continue
      this.time = Math.max(this.time, timer.due)
      timer.run()
      await this.settle()
    }
    this.time = until
    await this.settle()
  }

  /** Put a timer in its place, behind those that are due at the same time. */
  #insert(timer) {
    let low = 0, high = this.inOrder.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.inOrder[middle].due > timer.due) low = middle + 1
      else high = middle
    }
    this.inOrder.splice(low, 0, timer)
  }

  hide() { this.document.visibilityState = "hidden"; this.document.dispatchEvent(new Event("visibilitychange")) }
  show() { this.document.visibilityState = "visible"; this.document.dispatchEvent(new Event("visibilitychange")) }
  fire(name, fields = {}) { this.window.dispatchEvent(Object.assign(new Event(name), fields)) }
  offline() { this.onLine = false; this.fire("offline") }
  online() { this.onLine = true; this.fire("online") }
}

/** An event target that counts its listeners.  Node's own looks at all for each that comes. */
class Page {
  #listeners = new Set()
  constructor(visibilityState) { this.visibilityState = visibilityState }
  get listeners() { return this.#listeners.size }
  addEventListener(name, listener, { signal }) {
    if (signal.aborted) return
    const entry = { name, listener }
    this.#listeners.add(entry)
    signal.addEventListener("abort", () => this.#listeners.delete(entry))
  }
  dispatchEvent(event) {
    for (const entry of [...this.#listeners])
      if (entry.name === event.type && this.#listeners.has(entry)) entry.listener(event)
  }
}

/** Load a script of the package, which no package.json declares to be a module. */
export async function load(name) {
  const source = await readFile(new URL(`../../hubthread/static/${name}`, import.meta.url))
  return import(`data:text/javascript;base64,${source.toString("base64")}`)
}
