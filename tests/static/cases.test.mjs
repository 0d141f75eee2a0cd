/** The cases that the Python client is tested with, too: tests/client/cases.json. */

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import test from "node:test"
import { load, World } from "./world.mjs"

const { connect } = await load("hubthread.js")
const cases = JSON.parse(await readFile(new URL("../client/cases.json", import.meta.url)))

/** A message without what differs between the clients. */
function plainly({ id, client, ...fields }) { return fields }

class Player {
  constructor({ token, messages, bytes, plain, greets }) {
    this.world = new World()
    Math.random = () => 1
    this.heard = []
    this.asked = []
    this.rooms = new Map()
    const options = { plain, queue: { messages, bytes } }
    if (token !== undefined)
      options.token = token === "function" ? ({ again }) => { this.asked.push(again); return "t" } : token
    this.hub = connect("/ws", options)
    this.hub.on("open", () => this.heard.push(["open"]))
    if (greets) this.hub.on("open", () => this.heard.push(["greeted", this.hub.send("greet", {}, { volatile: true })]))
    this.hub.on("*", message => this.heard.push(message.type === undefined ? [message] : [message.type, message]))
    if (plain) this.hub.on("message", data => this.heard.push(["message", data]))
  }

  async play(step) {
    const { world, hub } = this
    const [what] = Object.keys(step)
    await this[what](step)
    await world.settle()
  }

  server({ server, message, text, subprotocol, code, reason }) {
    const { socket } = this.world
    if (server === "open") socket.open(subprotocol)
    else if (server === "receive") socket.receive(text ?? message)
    else if (server === "end") socket.end(code, reason)
    else socket.receive({ ...message, reply: socket.messages().findLast(each => each.id !== undefined).id })
  }
  pass(step) { return this.world.pass(step.pass) }
  send({ send: [header, fields, how], became }) { assert.equal(this.hub.send(header, fields, how), became) }
  raw({ raw, became }) { assert.equal(this.hub.raw.send(raw), became) }
  call({ call }) { this.hub[call]() }
  room({ room: name, replay }) {
    const known = this.rooms.has(name)
    const room = this.hub.room(name, { replay })
    this.rooms.set(name, room)
    if (known) return
    room.on("join", ({ recovered, count }) => this.heard.push([name, "join", recovered, count]))
    room.on("gap", ({ why }) => this.heard.push([name, "gap", why]))
    room.on("refused", error => this.heard.push([name, "refused", error.message]))
    room.on("*", data => this.heard.push([name, data]))
  }
  leave({ leave }) { this.rooms.get(leave).leave() }

  expect({ expect }) {
    const { world, hub } = this
    const sent = world.socket?.sent ?? []
    const found = {
      state: () => hub.state,
      reason: () => hub.reason,
      id: () => hub.id,
      connections: () => world.sockets.length,
      asked: () => this.asked,
      closed: () => world.socket.closedWith,
      heard: () => this.heard.splice(0),
      sent: () => sent.map(text => plainly(JSON.parse(text))),
      sentRaw: () => sent,
      lastSent: () => plainly(JSON.parse(sent.at(-1))),
      members: () => Object.fromEntries([...this.rooms].map(([name, room]) => [name, Object.fromEntries(room.members)])),
    }
    for (const [name, wanted] of Object.entries(expect)) {
      if (name === "delay") {
        const delay = hub.retryAt - Date.now()
        assert.ok(delay >= wanted[0] - 1 && delay <= wanted[1] + 1, `a delay of ${delay}`)
      } else if (name === "reasonStarts") assert.ok(hub.reason.startsWith(wanted), hub.reason)
      else assert.deepEqual(found[name](), wanted, name)
    }
  }
}

for (const { name, options, steps } of cases)
  test(name, async () => {
    const player = new Player(options)
    await player.world.settle()
    for (const [number, step] of steps.entries())
      try {
        await player.play(step)
      } catch (error) {
        error.message = `step ${number}, ${JSON.stringify(step)}: ${error.message}`
        throw error
      }
    player.hub.disconnect()
  })
