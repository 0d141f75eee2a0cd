// The arena's page.  It shows the server's messages only with textContent, never as HTML.
// hubthread/demo/arena.py describes the messages.

import { connect } from "/hubthread.js";
import { $, hueOf, make, showLine, showTotals, tryNow } from "/shared.js";

const LOOK_MS = 500; // between requests for the tick statistics, while they are visible
const STEER_MS = 40; // between two steering messages
const DELAY_TICKS = 2; // the display is this far behind, to interpolate between two pictures
const JUMP_MS = 250; // a larger lag means that the room's clock was paused
const TAPE_TICKS = 80;
const STALL_MS = 2_100; // until the server allows the next stall

const me = {
  // Per tab, so that two tabs are two users; a reload keeps the user.
  nick: sessionStorage.getItem("nick") ?? "",
  id: 0,
  wants: false, // to play: enter after each connect
};
const room = { hz: 20, width: 1000, height: 640, radius: 24, dot: 8 };
let names = new Map(); // by id

const hub = connect("/ws");
// Without a line nothing is sent: what steers a disc is of no use later.
const send = (type, fields) => hub.send(type, fields, { volatile: true }) === "sent";

// ---- Messages of the server.

const handlers = {
  rooms({ rooms }) {
    const people = rooms.reduce((sum, each) => sum + each.people, 0);
    $("chatting").textContent = people;
    $("chatting").hidden = people === 0;
    $("chatting").setAttribute("aria-label", people === 1 ? "1 person" : `${people} people`);
  },

  entered({ id, nick, ...field }) {
    const renamed = nick !== me.nick;
    Object.assign(room, field);
    me.id = id;
    $("me").textContent = nick;
    tell(renamed ? `${me.nick} is taken here: you are ${nick}.` : `You are in, ${nick}.`);
    showArena();
  },

  players({ players }) {
    names = new Map(players);
    showPlayers();
  },

  picture(message) {
    const asked = message.phase === "gate" && pictures.at(-1)?.phase !== "gate";
    if (asked && !message.ready.includes(me.id)) tell("Are you ready for a round?");
    take(message);
    showRound();
    showPlayers();
  },

  begins({ inputs }) {
    const those = (state) => inputs.filter((each) => each[1] === state).map(([nick]) => nick);
    const parts = [`A round: ${those("answered").join(", ")}`];
    if (those("defaulted").length) parts.push(`watching: ${those("defaulted").join(", ")}`);
    if (those("left").length) parts.push(`left: ${those("left").join(", ")}`);
    tell(`${parts.join(" · ")}.`);
  },

  ends({ ranking }) {
    if (!ranking.length) return tell("The round is over: nobody was left.");
    const best = ranking[0][1];
    const winners = ranking.filter((each) => each[1] === best).map(([nick]) => nick);
    tell(`The round is over: ${winners.join(" and ")} won with ${best}.`);
  },

  ticks: (message) => showTicks(message),

  error({ text }) {
    $($("arena").hidden ? "play-error" : "error").textContent = text;
    if ($("arena").hidden) showWelcome();
  },
};

for (const [type, handler] of Object.entries(handlers)) hub.on(type, handler);
hub.on("state", () => showState());
hub.on("open", () => {
  // It may be another server, with another clock.
  pictures.length = tape.length = 0;
  sent = STOPPED;
  if (me.wants) send("play", { nick: me.nick });
});

function tell(text) {
  $("news").textContent = text;
  $("error").textContent = "";
}

// ---- Time: a picture belongs to the scheduled time of its tick.

const pictures = []; // the newest last
let offset = 0; // of this page's clock to the room's, by the fastest picture

function take(picture) {
  picture.time = (picture.tick * 1000) / room.hz;
  picture.byId = new Map(picture.players.map((each) => [each[0], each]));
  const last = pictures.at(-1);
  if (last?.tick === picture.tick) pictures.pop(); // a newer picture of the same tick
  else note(picture, last);
  const passed = performance.now() - picture.time;
  if (!last || passed < offset || passed > offset + JUMP_MS) offset = passed;
  else offset += (passed - offset) * 0.002; // two clocks always drift apart
  pictures.push(picture);
  if (pictures.length > 20) pictures.shift();
}

const tape = []; // [tick, ms late], or [tick, null] for a skipped tick

function note({ tick, late }, last) {
  const first = last ? Math.max(last.tick + 1, tick - TAPE_TICKS) : tick;
  for (let skipped = first; skipped < tick; skipped++) tape.push([skipped, null]);
  tape.push([tick, late]);
  tape.splice(0, tape.length - TAPE_TICKS);
}

// Return the players at a time: [id, x, y, score, watches].
function between() {
  const newest = pictures.at(-1);
  const time = performance.now() - offset - (DELAY_TICKS * 1000) / room.hz;
  const after = pictures.findIndex((each) => each.time > time);
  if (after < 1 || newest.paused) return newest.players;
  const [from, to] = [pictures[after - 1], pictures[after]];
  const share = (time - from.time) / (to.time - from.time);
  return to.players.map(([id, x, y, ...rest]) => {
    const before = from.byId.get(id);
    if (!before) return [id, x, y, ...rest];
    return [id, before[1] + (x - before[1]) * share, before[2] + (y - before[2]) * share, ...rest];
  });
}

// ---- Drawing.

const COLOURS = ["--text", "--soft", "--line", "--accent", "--warn", "--bad", "--good"];
let colours = {};

function readColours() {
  const probe = document.body.appendChild(make("i"));
  for (const name of COLOURS) {
    probe.style.color = `var(${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

// Set the canvas to the screen's resolution and the given units.
function scaled(canvas, width, height) {
  const [across, down] = [canvas.clientWidth, canvas.clientHeight].map((size) =>
    Math.round(size * devicePixelRatio),
  );
  if (canvas.width !== across || canvas.height !== down) {
    Object.assign(canvas, { width: across, height: down });
  }
  const draw = canvas.getContext("2d");
  draw.setTransform(across / width, 0, 0, down / height, 0, 0);
  draw.clearRect(0, 0, width, height);
  return draw;
}

let drawn = new Map(); // where the players are on the screen, for fingers and tests

function drawField() {
  const draw = scaled($("field"), room.width, room.height);
  const newest = pictures.at(-1);
  if (!newest) return;
  draw.fillStyle = colours["--warn"];
  for (const [x, y] of newest.dots) disc(draw, x, y, room.dot);
  draw.textAlign = "center";
  const size = Math.max(17, (11 * room.width) / $("field").clientWidth); // readable on a phone
  drawn = new Map();
  for (const [id, x, y, , watches] of between()) {
    drawn.set(id, [x, y]);
    const nick = names.get(id) ?? "";
    draw.globalAlpha = watches ? 0.4 : 1;
    draw.fillStyle = "#4b5563";
    draw.fillStyle = `oklch(52% 0.11 ${hueOf(nick)})`;
    disc(draw, x, y, room.radius);
    if (id === me.id) {
      draw.strokeStyle = colours["--text"];
      draw.lineWidth = 4;
      draw.stroke();
    }
    draw.fillStyle = "white";
    draw.font = "600 24px system-ui, sans-serif";
    draw.textBaseline = "middle";
    draw.fillText([...nick][0]?.toUpperCase() ?? "", x, y + 1);
    draw.fillStyle = colours["--text"];
    draw.font = `${size}px system-ui, sans-serif`;
    draw.textBaseline = "alphabetic";
    const label = short(nick);
    const half = draw.measureText(label).width / 2 + 6;
    const above = y > 2 * room.radius + size;
    draw.fillText(
      label,
      Math.min(Math.max(x, half), room.width - half),
      above ? y - room.radius - 9 : y + room.radius + 5 + size,
    );
    draw.globalAlpha = 1;
  }
}

function short(nick) {
  const letters = [...nick];
  return letters.length > 16 ? `${letters.slice(0, 15).join("")}…` : nick;
}

function disc(draw, x, y, radius) {
  draw.beginPath();
  draw.arc(x, y, radius, 0, 2 * Math.PI);
  draw.fill();
}

function drawTape() {
  const [width, height] = [TAPE_TICKS * 4, 48];
  const draw = scaled($("tape"), width, height);
  const newest = tape.at(-1)?.[0];
  for (const [tick, late] of tape) {
    const x = width - (newest - tick + 1) * 4;
    if (late === null) {
      draw.strokeStyle = colours["--bad"];
      draw.lineWidth = 0.8;
      draw.strokeRect(x + 0.6, height - 23.5, 2, 23);
      continue;
    }
    // The lateness, up to one period, on top of the bar of the tick.
    const more = Math.min(1, (late * room.hz) / 1000) * 24;
    draw.fillStyle = colours["--accent"];
    draw.fillRect(x + 0.3, height - 24, 2.6, 24);
    draw.fillStyle = colours["--warn"];
    draw.fillRect(x + 0.3, height - 24 - more, 2.6, more);
  }
}

function frame() {
  if (!$("arena").hidden) {
    drawField();
    drawTape();
    steer();
  }
  requestAnimationFrame(frame);
}

// ---- Steering: only the newest direction is sent, at a limited rate.

const STOPPED = { x: 0, y: 0 };
const KEYS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  KeyA: [-1, 0],
  KeyD: [1, 0],
  KeyW: [0, -1],
  KeyS: [0, 1],
};
const held = new Set();
let finger = null; // its position in the field's units
let sent = STOPPED;
let sentAt = 0;
let steerTimer = 0;

function wish() {
  const at = drawn.get(me.id);
  if (finger && at) {
    const [dx, dy] = [finger[0] - at[0], finger[1] - at[1]];
    const distance = Math.hypot(dx, dy);
    if (distance < room.radius / 2) return STOPPED;
    const reach = Math.max(distance, 3 * room.radius); // slower near the target
    return { x: round(dx / reach), y: round(dy / reach) };
  }
  const sum = [...held].reduce((to, key) => [to[0] + KEYS[key][0], to[1] + KEYS[key][1]], [0, 0]);
  return { x: Math.sign(sum[0]), y: Math.sign(sum[1]) };
}

const round = (number) => Math.round(number * 20) / 20;

function steer() {
  const { x, y } = wish();
  if (x === sent.x && y === sent.y) return;
  clearTimeout(steerTimer);
  const wait = sentAt + STEER_MS - performance.now();
  if (wait > 0) {
    steerTimer = setTimeout(steer, wait);
  } else if (send("steer", { x, y })) {
    sent = { x, y };
    sentAt = performance.now();
  }
}

function letGo() {
  held.clear();
  finger = null;
  steer();
}

addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!(event.code in KEYS) || $("arena").hidden) return;
  event.preventDefault(); // or the page would scroll
  held.add(event.code);
  steer();
});
addEventListener("keyup", (event) => {
  held.delete(event.code);
  if (!$("arena").hidden) steer();
});
addEventListener("blur", letGo);

function follow(event) {
  const box = $("field").getBoundingClientRect();
  finger = [
    ((event.clientX - box.left) / box.width) * room.width,
    ((event.clientY - box.top) / box.height) * room.height,
  ];
  steer();
}

$("field").onpointerdown = (event) => {
  $("field").setPointerCapture(event.pointerId);
  follow(event);
};
$("field").onpointermove = (event) => {
  if (finger) follow(event);
};
$("field").onpointerup = $("field").onpointercancel = letGo;

// ---- The page around the field.

function showState() {
  showLine(hub);
  $("arena").dataset.state = hub.state === "open" ? "here" : "away";
  showRound();
}

function showArena() {
  const wasHidden = $("arena").hidden;
  $("welcome").hidden = true;
  $("arena").hidden = false;
  if (wasHidden) $("field").focus();
}

function showWelcome() {
  me.wants = false;
  $("arena").hidden = true;
  $("welcome").hidden = false;
  $("nick").value = me.nick;
  $("nick").focus();
}

let stallUntil = 0;

function showRound() {
  const now = pictures.at(-1);
  const here = hub.state === "open" && now !== undefined;
  const phase = here ? now.phase : "free";
  const left = here ? Math.ceil(now.left) : 0;
  const answered = here && now.ready.includes(me.id);
  const watches = here && now.byId.get(me.id)?.[4];
  show($("ready"), {
    free: "Play a round",
    gate: answered ? `Waiting for others · ${left} s` : `I am ready · ${left} s`,
    round: `${watches ? "You watch" : "A round is on"} · ${left} s`,
  }[phase]);
  $("ready").disabled = !here || phase === "round" || answered;
  $("pause").disabled = !here;
  show($("pause"), here && now.paused ? "Resume" : "Pause");
  $("stall").disabled = !here || performance.now() < stallUntil;
  const texts = { free: "", gate: `Ready for a round? ${left} s`, round: `Round · ${left} s` };
  show($("banner"), here && now.paused ? `Paused ${texts[phase] && `· ${texts[phase]}`}` : texts[phase]);
}

// Only changes: the page must not be laid out twenty times a second.
function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let shown = "";

function showPlayers() {
  const now = pictures.at(-1);
  const players = [...names].map(([id, nick]) => {
    const [, , , score = 0, watches = 0] = now?.byId.get(id) ?? [];
    return { id, nick, score, watches, ready: now?.ready.includes(id) ?? false };
  });
  players.sort((one, other) => other.score - one.score || one.id - other.id);
  const all = JSON.stringify([me.id, players]);
  if (all === shown) return;
  shown = all;
  $("players-count").textContent = players.length;
  show($("note"), players.length === 1 ? "Only you play" : `${players.length} play`);
  $("players").replaceChildren(
    ...players.map(({ id, nick, score, watches, ready }) => {
      const item = make("li", watches ? "watches" : "");
      const face = make("span", "avatar", [...nick][0]?.toUpperCase() ?? "");
      face.style.setProperty("--hue", hueOf(nick));
      face.setAttribute("aria-hidden", "true");
      const name = make("span", "name", nick);
      name.dir = "auto";
      item.append(face, name);
      if (id === me.id) item.append(make("span", "hint", "you"));
      if (ready) item.append(make("span", "hint", "ready"));
      if (watches) item.append(make("span", "hint", "watches"));
      item.append(make("span", "score", score));
      return item;
    }),
  );
}

const count = new Intl.NumberFormat("en");

function showTicks(figures) {
  showTotals({
    Ticks: count.format(figures.ticks),
    Skipped: count.format(figures.skipped),
    Late: count.format(figures.late),
    Players: figures.members,
  });
  for (const name of ["work", "lateness"]) {
    const cells = ["p50", "p99", "max"].map((each) =>
      make("td", "number", (figures[name][each] * 1000).toFixed(1)),
    );
    $(name).replaceChildren($(name).firstElementChild, ...cells);
  }
}

// ---- Actions of the user.

$("play").onsubmit = (event) => {
  event.preventDefault();
  $("play-error").textContent = "";
  me.nick = $("nick").value.trim();
  if (!me.nick) {
    $("play-error").textContent = "Give yourself a name.";
    $("nick").focus();
    return;
  }
  me.wants = true;
  sessionStorage.setItem("nick", me.nick);
  if (!send("play", { nick: me.nick })) tryNow(hub);
};

$("leave").onclick = () => {
  showWelcome();
  hub.disconnect();
  hub.connect(); // a new connection is not in the arena
};

function act(type) {
  $("error").textContent = "";
  send(type, {});
}

$("ready").onclick = () => act("ready");
$("pause").onclick = () => act(pictures.at(-1)?.paused ? "resume" : "pause");
$("stall").onclick = () => {
  stallUntil = performance.now() + STALL_MS;
  act("stall");
};
$("retry").onclick = () => tryNow(hub);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) letGo();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);

// ---- Start.

readColours();
setInterval(() => document.hidden || send("ticks"), LOOK_MS);
setInterval(showState, 250);
if (me.nick) me.wants = true; // a reload enters again
else showWelcome();
showState();
frame();
