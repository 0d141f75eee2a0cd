/** Print what the client does after each close of a list that it reads: the state and the wait. */

import { readFileSync } from "node:fs"
import { load, World } from "./world.mjs"

const { advice, connect } = await load("hubthread.js")

async function closed([code, reason, failures, chance]) {
  const world = new World()
  Math.random = () => chance
  const hub = connect("/ws", { token: () => "t" })
  await world.settle()
  const hello = () => world.socket.receive({ type: "hub:hello", id: 1 })
  for (let count = 0; count < failures; count++) {
    world.socket.open()
    hello()
    world.socket.end(1011)
    await world.pass(hub.retryAt - Date.now() + 1)
  }
  world.socket.open()
  hello()
  world.socket.end(code, reason)
  const wait = hub.state === "waiting" ? (hub.retryAt - Date.now()) / 1000 : null
  const state = hub.state
  const text = hub.reason
  hub.disconnect()
  return { advice: advice(code), state, text, wait }
}

const cases = JSON.parse(readFileSync(0, "utf8"))
const found = []
for (const each of cases) found.push(await closed(each))
console.log(JSON.stringify(found))
