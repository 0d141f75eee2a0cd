// The chat's page.  What the server sends is shown with textContent alone, never as HTML.
// The messages both ways are described in hubthread/demo/chat.py.

const $ = (id) => document.getElementById(id);

const MOST_SHOWN = 500; // messages and notices on the page
const SAME_SPEAKER_S = 300; // seconds within which a speaker is named once
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15_000;
const LOOK_MS = 2_000; // between questions for figures that somebody sees
const BEAT_MS = 20_000; // between those that only ask whether the server is there
const PATIENCE_MS = 10_000; // without an answer the connection counts as lost

const me = {
  // A tab's own, so that two tabs are two people; a reload stays the same one.
  nick: sessionStorage.getItem("nick") ?? "",
  room: new URLSearchParams(location.search).get("room") ?? "",
  as: "", // the nick that the server gave
  id: 0,
  wants: false, // to be in the room: join whenever there is a connection
};
const room = { name: null, seq: 0, people: [], known: new Set() };
let rooms = [];

// ---- The connection: it comes back by itself, ever more slowly.

const connection = {
  socket: null,
  failures: 0,
  timer: 0,
  retryAt: 0,
  asked: 0, // when an unanswered question was asked; 0: none is open
  lastAsked: 0,

  open() {
    clearTimeout(this.timer);
    this.drop();
    this.asked = 0;
    const url = new URL("/ws", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.socket = new WebSocket(url));
    socket.onopen = () => {
      showState();
      if (me.wants) send("join", { nick: me.nick, room: me.room });
      this.ask();
    };
    socket.onmessage = (event) => {
      this.failures = 0;
      const message = JSON.parse(event.data);
      handlers[message.type]?.(message);
    };
    socket.onclose = () => this.lost();
    showState();
  },

  drop() {
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  },

  lost() {
    this.drop();
    const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.failures++);
    // Not all at once, where a server has lost many.
    const spread = delay * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + spread;
    this.timer = setTimeout(() => this.open(), spread);
    showState();
  },

  retryNow() {
    if (!this.socket) this.open();
  },

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  },

  // The question for figures tells too whether the server is there: a line that was cut
  // without a word would stay "connected" for minutes.
  ask() {
    if (!this.isOpen) return;
    const now = Date.now();
    if (this.asked && now - this.asked > PATIENCE_MS) {
      this.lost();
      return;
    }
    const seen = !document.hidden && $("people-side").getClientRects().length > 0;
    if (!this.asked && now - this.lastAsked >= (seen ? LOOK_MS - 100 : BEAT_MS)) {
      this.asked = this.lastAsked = now;
      send("statistics", {});
    }
  },
};

function send(type, fields) {
  if (!connection.isOpen) return false;
  connection.socket.send(JSON.stringify({ type, ...fields }));
  return true;
}

// ---- What the server says.

const handlers = {
  rooms(message) {
    rooms = message.rooms;
    showRooms();
  },

  joined(message) {
    const again = room.name === message.room; // after a break: keep what is on the page
    Object.assign(room, { name: message.room, seq: message.seq, people: message.people });
    Object.assign(me, { room: message.room, as: message.nick, id: message.id });
    if (!again) {
      room.known.clear();
      $("messages").replaceChildren();
    }
    $("log").setAttribute("aria-busy", "true"); // history is not read out
    for (const each of message.messages) addMessage(each);
    $("log").removeAttribute("aria-busy");
    addNotice(again ? "Connected again" : `You are in ${message.room}`, "divider");
    if (me.as !== me.nick) addNotice(`${me.nick} is taken here: you are ${me.as}.`);
    const address = new URL(location.href);
    if (address.searchParams.get("room") !== message.room) {
      address.searchParams.set("room", message.room);
      history.pushState(null, "", address);
    }
    showChat();
    scrollDown();
  },

  came(message) {
    if (!isNext(message)) return;
    room.people.push(message.nick);
    addNotice(`${message.nick} came in`);
    showPeople();
  },

  went(message) {
    if (!isNext(message)) return;
    room.people = room.people.filter((nick) => nick !== message.nick);
    addNotice(`${message.nick} left`);
    showPeople();
  },

  said(message) {
    if (!isNext(message)) return;
    addMessage(message);
    if (document.hidden) {
      unread += 1;
      showTitle();
    }
  },

  statistics(message) {
    connection.asked = 0;
    showFigures(message);
  },

  error(message) {
    if ($("chat").hidden) {
      showWelcome();
      $("join-error").textContent = message.text;
    } else {
      if (message.about === "join") me.room = room.name; // where the user still is
      $("say-error").textContent = message.text;
    }
  },
};

// Events of the room that was left, and those that "joined" told of already, may follow it.
function isNext(message) {
  if (message.room !== room.name || message.seq <= room.seq) return false;
  room.seq = message.seq;
  return true;
}

// ---- The page: messages.

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function avatar(nick) {
  const element = make("span", "avatar", [...nick][0]?.toUpperCase() ?? "");
  let hash = 0;
  for (const char of nick) hash = (hash * 31 + char.codePointAt(0)) % 65_521;
  element.style.setProperty("--hue", (hash * 137.5) % 360); // by golden angles: far apart
  element.setAttribute("aria-hidden", "true");
  return element;
}

let last = { nick: null, at: 0 };

function addMessage({ seq, nick, text, at }) {
  const key = `${seq}/${at}`;
  if (room.known.has(key)) return;
  room.known.add(key);
  const first = nick !== last.nick || at - last.at > SAME_SPEAKER_S;
  last = { nick, at };
  const item = make("li", `message${first ? " first" : ""}${nick === me.as ? " mine" : ""}`);
  if (first) {
    const head = make("div", "head");
    const when = new Date(at * 1000);
    const time = make("time", "", when.toLocaleTimeString([], { timeStyle: "short" }));
    time.dateTime = when.toISOString();
    const who = make("span", "who", nick);
    who.dir = "auto";
    head.append(who, time);
    item.append(avatar(nick), head);
  }
  const body = make("div", "text", text);
  body.dir = "auto";
  item.append(body);
  add(item);
}

function addNotice(text, kind = "") {
  last = { nick: null, at: 0 };
  const item = make("li", `notice ${kind}`);
  item.append(make("span", "", text));
  add(item);
}

let stay = true; // at the newest message, whatever happens to the page's size

function add(item) {
  const list = $("messages");
  list.append(item);
  while (list.childElementCount > MOST_SHOWN) list.firstElementChild.remove();
  if (stay) scrollDown();
  else $("newer").hidden = false;
}

function isDown() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function scrollDown() {
  stay = true;
  $("log").scrollTop = $("log").scrollHeight;
  $("newer").hidden = true;
}

// ---- The page: around the messages.

let unread = 0;

function showTitle() {
  const name = $("chat").hidden ? "" : `${room.name} · `;
  document.title = `${unread ? `(${unread}) ` : ""}${name}hubthread chat`;
}

function showState() {
  const waits = !connection.socket;
  const [state, text] = connection.isOpen
    ? ["open", "Connected"]
    : waits
      ? ["waiting", "No connection"]
      : ["connecting", "Connecting…"];
  for (const line of document.querySelectorAll("[data-state-line]")) {
    line.dataset.state = state;
    // Only what is new, since changes are read out; the countdown is on the button.
    if (line.textContent !== text) line.textContent = text;
  }
  const seconds = Math.max(1, Math.ceil((connection.retryAt - Date.now()) / 1000));
  $("retry").hidden = !waits;
  $("retry").textContent = `Try now · ${seconds} s`;
  $("send").disabled = !connection.isOpen;
}

function showChat() {
  $("welcome").hidden = true;
  const wasHidden = $("chat").hidden;
  $("chat").hidden = false;
  $("room-name").textContent = room.name;
  $("me").textContent = me.as;
  $("say-error").textContent = "";
  closeSides();
  showRooms();
  showPeople();
  showTitle();
  connection.ask();
  if (wasHidden) $("text").focus();
}

function showWelcome() {
  me.wants = false;
  $("chat").hidden = true;
  $("welcome").hidden = false;
  $("nick").value = me.nick;
  $("room").value = me.room || "lobby";
  showTitle();
  $("nick").focus();
}

function showRooms() {
  const shown = [...rooms];
  if (room.name !== null && !shown.some((each) => each.name === room.name)) {
    shown.push({ name: room.name, people: room.people.length });
  }
  shown.sort((one, other) => one.name.localeCompare(other.name));
  const focused = document.activeElement?.dataset?.room;
  $("rooms").replaceChildren(
    ...shown.map(({ name, people }) => {
      const button = make("button");
      button.type = "button";
      button.dataset.room = name;
      button.append(make("span", "name", name));
      const count = make("span", "count", people);
      count.setAttribute("aria-label", people === 1 ? "1 person" : `${people} people`);
      button.append(count);
      if (name === room.name) button.setAttribute("aria-current", "true");
      button.onclick = () => moveTo(name);
      const item = make("li");
      item.append(button);
      return item;
    }),
  );
  if (focused !== undefined) {
    const again = [...$("rooms").querySelectorAll("button")];
    again.find((button) => button.dataset.room === focused)?.focus();
  }
  $("offers").replaceChildren(
    ...rooms.slice(0, 8).map(({ name, people }) => {
      const button = make("button", "", `${name} · ${people}`);
      button.type = "button";
      button.onclick = () => {
        $("room").value = name;
        ($("nick").value ? $("room") : $("nick")).focus();
      };
      return button;
    }),
  );
}

function showPeople() {
  const count = room.people.length;
  $("people-count").textContent = count;
  $("room-note").textContent = count === 1 ? "Only you are here" : `${count} people here`;
  $("people").replaceChildren(
    ...room.people.map((nick) => {
      const item = make("li");
      const name = make("span", "name", nick);
      name.dir = "auto";
      item.append(avatar(nick), name);
      if (nick === me.as) item.append(make("span", "hint", "you"));
      return item;
    }),
  );
}

function span(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

function showFigures(figures) {
  const totals = { Clients: figures.clients, Rooms: figures.rooms, Threads: figures.threads };
  $("totals").replaceChildren(
    ...Object.entries({ ...totals, Up: span(figures.uptime) }).map(([name, value]) => {
      const pair = make("div");
      pair.append(make("dt", "", name), make("dd", "", value));
      return pair;
    }),
  );
  $("connections").replaceChildren(
    ...figures.connections.map((each) => {
      const row = make("tr", each.id === me.id ? "mine" : "");
      const who = make("td", "", each.nick || "not in a room");
      who.append(make("small", "", each.room ? `#${each.id} · ${each.room}` : `#${each.id}`));
      row.append(who);
      for (const value of [each.received, each.written, each.waiting, each.rooms]) {
        row.append(make("td", "number", value));
      }
      row.append(make("td", "number", span(each.seconds)));
      return row;
    }),
  );
}

// ---- What the user does.

function enter(nick, name) {
  Object.assign(me, { nick: nick.trim(), room: name.trim(), wants: true });
  sessionStorage.setItem("nick", me.nick);
  if (!send("join", { nick: me.nick, room: me.room })) connection.retryNow();
}

function moveTo(name) {
  if (name === room.name) closeSides();
  else enter(me.nick, name);
  $("text").focus();
}

$("join").onsubmit = (event) => {
  event.preventDefault();
  $("join-error").textContent = "";
  if (!$("nick").value.trim()) {
    $("join-error").textContent = "Give yourself a name.";
    $("nick").focus();
    return;
  }
  enter($("nick").value, $("room").value || "lobby");
};

$("move").onsubmit = (event) => {
  event.preventDefault();
  if ($("other-room").value.trim()) moveTo($("other-room").value);
  $("other-room").value = "";
};

$("leave").onclick = () => {
  room.name = null;
  showWelcome();
  connection.open(); // a new connection is in no room
};

$("say").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !send("say", { text })) return;
  $("text").value = "";
  $("say-error").textContent = "";
  fitText();
  scrollDown();
  $("text").focus();
};

$("text").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
};

function fitText() {
  const field = $("text");
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
  const left = field.maxLength - field.value.length;
  $("left").textContent = left <= 200 ? `${left} characters left` : "";
}

$("text").oninput = fitText;
$("newer").onclick = scrollDown;
$("log").onscroll = () => {
  stay = isDown();
  if (stay) $("newer").hidden = true;
};
new ResizeObserver(() => {
  if (stay) scrollDown(); // a phone's keyboard, say
}).observe($("log"));
$("retry").onclick = () => connection.retryNow();

const SIDES = [
  ["show-rooms", "rooms-side"],
  ["show-figures", "people-side"],
];

function closeSides() {
  for (const [button, side] of SIDES) {
    $(side).classList.remove("open");
    $(button).setAttribute("aria-expanded", "false");
  }
}

for (const [button, side] of SIDES) {
  $(button).onclick = () => {
    const opens = !$(side).classList.contains("open");
    closeSides();
    $(side).classList.toggle("open", opens);
    $(button).setAttribute("aria-expanded", String(opens));
    if (opens) $(side).focus();
    connection.ask();
  };
}
$("shade").onclick = closeSides;

addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = SIDES.find(([, side]) => $(side).classList.contains("open"));
  closeSides();
  if (open) $(open[0]).focus();
});
addEventListener("popstate", () => {
  const name = new URLSearchParams(location.search).get("room");
  if (name && me.wants && name !== room.name) enter(me.nick, name);
});
addEventListener("online", () => connection.retryNow());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  showTitle();
  connection.retryNow();
});

// ---- Begin.

setInterval(() => {
  connection.ask();
  if (!connection.isOpen) showState();
}, 500);
if (me.nick && me.room) me.wants = true; // a reload goes back to where it was
else showWelcome();
connection.open();
