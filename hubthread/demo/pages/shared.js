// The parts that both pages use.  They show the server's messages only with textContent.

export const $ = (id) => document.getElementById(id);

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const PATIENCE_MS = 10_000; // without a reply, after which the connection counts as lost

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function hueOf(nick) {
  let hash = 0;
  for (const char of nick) hash = (hash * 31 + char.codePointAt(0)) % 65_521;
  return (hash * 137.5) % 360; // golden angles keep hues far apart
}

// A connection that reconnects by itself, with growing delays.
//
// It sends `question` every `pace()` milliseconds; without a reply it counts as lost.  It calls
// `opened()`, `received(message)` and, when its state has changed, `changed()`.
export class Connection {
  socket = null;
  retryAt = 0;
  #use;
  #failures = 0;
  #timer = 0;
  #asked = 0; // the time of the question without a reply; 0 if there is none
  #lastAsked = 0;

  constructor(use) {
    this.#use = use;
  }

  open() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#asked = 0;
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url));
    socket.onopen = () => {
      this.#use.changed();
      this.#use.opened();
      this.ask();
    };
    socket.onmessage = (event) => {
      this.#failures = 0;
      const message = JSON.parse(event.data);
      if (message.type === this.#use.question) this.#asked = 0;
      this.#use.received(message);
    };
    socket.onclose = () => this.#lost();
    this.#use.changed();
  }

  send(type, fields) {
    if (!this.isOpen) return false;
    this.socket.send(JSON.stringify({ type, ...fields }));
    return true;
  }

  retryNow() {
    if (!this.socket) this.open();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  // The question also tests the connection: a line that was cut without a packet would look
  // connected for minutes.
  ask() {
    if (!this.isOpen) return;
    const now = Date.now();
    if (this.#asked && now - this.#asked > PATIENCE_MS) {
      this.#lost();
    } else if (!this.#asked && now - this.#lastAsked >= this.#use.pace()) {
      this.#asked = this.#lastAsked = now;
      this.send(this.#use.question, {});
    }
  }

  #drop() {
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  #lost() {
    this.#drop();
    const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#failures++);
    // Random, so that not all clients of a restarted server come at once.
    const spread = delay * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + spread;
    this.#timer = setTimeout(() => this.open(), spread);
    this.#use.changed();
  }
}

export function showLine(connection) {
  const waits = !connection.socket;
  const [state, text] = connection.isOpen
    ? ["open", "Connected"]
    : waits
      ? ["waiting", "No connection"]
      : ["connecting", "Connecting…"];
  for (const line of document.querySelectorAll("[data-state-line]")) {
    line.dataset.state = state;
    // Only changes, because screen readers read them; the button has the countdown.
    if (line.textContent !== text) line.textContent = text;
  }
  const seconds = Math.max(1, Math.ceil((connection.retryAt - Date.now()) / 1000));
  $("retry").hidden = !waits;
  $("retry").textContent = `Try now · ${seconds} s`;
}

export function showTotals(totals) {
  $("totals").replaceChildren(
    ...Object.entries(totals).map(([name, value]) => {
      const pair = make("div");
      pair.append(make("dt", "", name), make("dd", "", value));
      return pair;
    }),
  );
}
