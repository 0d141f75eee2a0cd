// The chat's page.  It shows the server's messages only with textContent, never as HTML.
// hubthread/demo/chat.py describes the messages.

import { connect } from "/hubthread.js";
import { $, hueOf, make, showLine, showTotals, tryNow } from "/shared.js";

const MOST_SHOWN = 500; // messages and notices on the page
const SAME_SPEAKER_S = 300; // seconds in which a speaker is named only once
const LOOK_MS = 2_000; // between requests for statistics, while they are visible

const me = {
  // Per tab, so that two tabs are two users; a reload keeps the user.
  nick: sessionStorage.getItem("nick") ?? "",
  room: new URLSearchParams(location.search).get("room") ?? "",
  key: sessionStorage.getItem("key") ?? crypto.getRandomValues(new Uint32Array(4)).join("-"),
  as: "", // the nick that the server gave
  id: 0,
  wants: false, // to be in the room: join after each connect
};
sessionStorage.setItem("key", me.key);
const room = { name: null, run: "", seq: 0, people: [], known: new Set() };
let rooms = [];

const hub = connect("/ws");
// Without a line nothing is sent: the page says so, and keeps what the user has written.
const send = (type, fields) => hub.send(type, fields, { volatile: true }) === "sent";
const join = () => send("join", { nick: me.nick, room: me.room, key: me.key });

// ---- Messages of the server.

const handlers = {
  rooms(message) {
    rooms = message.rooms;
    showRooms();
  },

  joined(message) {
    const again = room.name === message.room; // a reconnect: keep the messages on the page
    const notice = again ? whatWasMissed(message) : `You are in ${message.room}`;
    const { run, seq, people } = message;
    Object.assign(room, { name: message.room, run, seq, people });
    Object.assign(me, { room: message.room, as: message.nick, id: message.id });
    if (!again) {
      room.known.clear();
      $("messages").replaceChildren();
    }
    $("log").setAttribute("aria-busy", "true"); // screen readers must not read the history
    if (!again) for (const each of message.messages) addMessage(each);
    $("log").removeAttribute("aria-busy");
    addNotice(notice, "divider");
    if (again) for (const each of message.messages) addMessage(each);
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

  statistics: (message) => showFigures(message),

  error(message) {
    if ($("chat").hidden) {
      showWelcome();
      $("join-error").textContent = message.text;
    } else {
      if (message.about === "join") me.room = room.name; // the room that the user is still in
      $("say-error").textContent = message.text;
    }
  },
};

for (const [type, handler] of Object.entries(handlers)) hub.on(type, handler);
hub.on("state", showState);
hub.on("open", () => me.wants && join());

// What a page that was connected before is told, above the messages that are new to it.
function whatWasMissed({ run, messages }) {
  if (run !== room.run) return "Connected again: the server was restarted, and has forgotten this room";
  const missed = messages.filter((each) => each.seq > room.seq).length;
  if (!missed) return "Connected again: nothing was said meanwhile";
  const more = missed === messages.length && messages[0].seq > room.seq + 1 ? " at least" : "";
  return `Connected again: you have missed${more} ${missed} message${missed === 1 ? "" : "s"}`;
}

// Events of the old room, and events that "joined" already contains, may follow it.
function isNext(message) {
  if (message.room !== room.name || message.seq <= room.seq) return false;
  room.seq = message.seq;
  return true;
}

// ---- The page: messages.

function avatar(nick) {
  const element = make("span", "avatar", [...nick][0]?.toUpperCase() ?? "");
  element.style.setProperty("--hue", hueOf(nick));
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

let stay = true; // at the newest message, even when the page changes its size

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
  showLine(hub);
  $("send").disabled = hub.state !== "open";
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
  look();
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
  showTotals({ ...totals, Up: span(figures.uptime) });
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

// ---- Actions of the user.

function enter(nick, name) {
  Object.assign(me, { nick: nick.trim(), room: name.trim(), wants: true });
  sessionStorage.setItem("nick", me.nick);
  if (!join()) tryNow(hub);
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
  send("leave");
  showWelcome();
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
  if (stay) scrollDown(); // for example after a phone's keyboard appears
}).observe($("log"));
$("retry").onclick = () => tryNow(hub);

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
    look();
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
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  unread = 0;
  showTitle();
});

// ---- Start.

function look() {
  const seen = !document.hidden && $("people-side").getClientRects().length > 0;
  if (seen) send("statistics");
}

setInterval(look, LOOK_MS);
setInterval(() => hub.state === "open" || showState(), 500); // the countdown
if (me.nick && me.room) me.wants = true; // a reload joins again
else showWelcome();
showState();
