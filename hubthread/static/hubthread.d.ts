/** The types of hubthread.js. */

/** The subprotocol in which the hub's own messages ("hub:…") are agreed. */
export const PROTOCOL: "hubthread.1"

export type State = "idle" | "connecting" | "open" | "waiting" | "resting" | "ended"
export type Fate = "sent" | "queued" | "dropped"
export type Advice = "rest" | "token" | "restart" | "overloaded" | "end" | "back"

/** What a close code asks a client to do. */
export function advice(code: number): Advice

/** The connection ended before the answer came: nobody knows what became of the request. */
export class Lost extends Error {}
/** The server answered that it failed, or refused. */
export class Refused extends Error {}
/** No answer came in time. */
export class TimedOut extends Error {}

export interface Options {
  /**
   * The token for the hub's hello, or a function that fetches one.  `again` is true if the hub
   * has refused the last one.  A function that returns null says that nobody is logged in.  It is
   * called once at a time, and may take as long as it needs: give a fetch a time-out.
   */
  token?: string | ((asked: { again: boolean }) => Promise<string | null> | string | null)
  /** True for a server with a format of its own: use `hub.raw` and the event "message". */
  plain?: boolean
  /** The bounds of what waits for a connection: 64 messages and 256 KB unless told otherwise. */
  queue?: { messages?: number; bytes?: number }
  /** "slow": a hidden page tries every half minute or so; "wait": it does not try. */
  whenHidden?: "slow" | "wait"
  /**
   * How long the session of the server (`HubSetting.sessions`) is kept: "page", unless told
   * otherwise, or "tab": a page that is reloaded is the same client.
   */
  session?: "page" | "tab"
  /** Milliseconds for the answer to a request; 10,000 unless told otherwise. */
  timeout?: number
  /** The longest message that is taken, in characters or bytes; 4 MB unless told otherwise.  A longer one ends the line. */
  maxMessage?: number
}

export interface How {
  /** Milliseconds that the message may wait. */
  ttl?: number
  /** A later message with the same key replaces this one while it waits. */
  key?: string | number
  /** True: the message never waits. */
  volatile?: boolean
}

export interface Message {
  type?: string | number
  [field: string]: any
}

declare global {
  // Also for a `lib` before "esnext.disposable", in which nobody says `using`.
  interface SymbolConstructor { readonly dispose: unique symbol }
}

type Off = () => void
type Listening = { signal?: AbortSignal }

/** Connect to a hub.  The address may be relative, and may begin with http or ws. */
export function connect(url?: string, options?: Options): Hub

export class Hub {
  private constructor()
  readonly state: State
  /** The reason of the state, for people. */
  readonly reason: string
  /** The time of the next attempt, as `Date.now` counts; null unless there is one. */
  readonly retryAt: number | null
  /** The client's number in the hub. */
  readonly id: number | null
  /** The smallest round trip that was measured, in milliseconds. */
  readonly rtt: number | null
  /** For servers with a format of their own: sends text or bytes as they are. */
  readonly raw: { send(data: string | ArrayBuffer | ArrayBufferView | Blob, how?: How): Fate }
  /** The server's clock, in milliseconds. */
  now(): number
  /** Connect, and connect again after each loss. */
  connect(): void
  /** Close, and stay away until `connect`, which begins a new session. */
  disconnect(): void
  /** Try at once instead of at `retryAt`. */
  retryNow(): void
  on(event: "open", listener: () => void, options?: Listening): Off
  on(
    event: "state",
    listener: (now: { state: State; reason: string; retryAt: number | null }) => void,
    options?: Listening,
  ): Off
  /** The session has gone on, and so many messages were lost meanwhile. */
  on(event: "gap", listener: (what: { lost: number }) => void, options?: Listening): Off
  on(event: "message", listener: (data: string | ArrayBuffer) => void, options?: Listening): Off
  /** A header that has the name of an event calls no listener: its messages come to "*". */
  on(header: string | number, listener: (message: any) => void, options?: Listening): Off
  /** Answer the server's requests with this header. */
  answer(header: string | number, answer: (message: any) => unknown): Off
  /** Send a message.  Messages go out in the order of the calls. */
  send(header: string | number, fields?: object, how?: How): Fate
  /** Send a request, once: rejected with `TimedOut`, `Refused` or `Lost`. */
  request<Answer = any>(
    header: string | number,
    fields?: object,
    options?: { timeout?: number; signal?: AbortSignal },
  ): Promise<Answer>
  /** Join a room, or hold the one that is joined once more. */
  room(name: string, options?: { replay?: number }): Room
  [Symbol.dispose](): void
}

export class Room {
  private constructor()
  readonly name: string
  /** True while the room's messages come. */
  readonly live: boolean
  /** The members and what the room tells of each, if it tells them. */
  readonly members: Map<string, any>
  /** The number of members, if the room tells it. */
  readonly present: number | null
  readonly position: { epoch: string; at: number } | null
  /** The state of the room as the server sent it last, if it sends it: only to read. */
  readonly state: any
  /** The tick after which the state is, and its time on the server's clock, in milliseconds. */
  readonly tick: { number: number; time: number }
  /** The tick of the room at a time of the server's clock, with its fraction; now, if none is given. */
  tickAt(time?: number): number
  /** Give an input for the tick, or for the next one; return its number, or 0 if it cannot be sent. */
  input(data?: object, options?: { tick?: number }): number
  /** The inputs that the state does not have yet, oldest first. */
  readonly pending: { n: number; tick?: number; data: any }[]
  onState(listener: (state: any) => void, options?: Listening): Off
  /** Hear of the entries of a dict at the top of the state. */
  onEntity(
    field: string,
    hear: {
      add?: (key: string, entity: any) => void
      change?: (key: string, entity: any) => void
      remove?: (key: string, entity: any) => void
    },
    options?: Listening,
  ): Off
  on(event: "join", listener: (how: { recovered: boolean; count: number }) => void, options?: Listening): Off
  on(event: "gap", listener: (what: { why: string }) => void, options?: Listening): Off
  on(event: "members", listener: (members: Map<string, any>) => void, options?: Listening): Off
  on(event: "refused", listener: (error: Error) => void, options?: Listening): Off
  /** The room does not take an input: "early", "late", "full" or "unfit". */
  on(event: "rejected", listener: (input: { n: number; why: string }) => void, options?: Listening): Off
  on(header: string | number, listener: (message: any) => void, options?: Listening): Off
  send(header: string | number, fields?: object, how?: How): Fate
  leave(): void
  [Symbol.dispose](): void
}

/** Apply a patch of the server to a state, for a page with a client of its own. */
export function applyPatch(state: object, patch: { del?: string[][]; set?: object; add?: [string[], any[]][] }): void
