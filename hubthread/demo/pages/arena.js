// The arena's page.  It shows the server's messages only with textContent, never as HTML.
// hubthread/demo/arena.py describes the messages.

import { connect } from "/hubthread.js";
import { $, hueOf, make, showLine, showTotals, tryNow } from "/shared.js";

const LOOK_MS = 500; // between requests for the tick statistics, while they are visible
const BEHIND_MS = 100; // others are drawn where they were then, between two states
const REPLAY_MS = 10_000;
const TAPE_TICKS = 80;
const LISTED = 8; // players in the list, the best first
const STALL_MS = 2_100; // until the server allows the next stall
const AHEAD = 15; // ticks: the room takes no input that is further ahead
const JUMP = 300; // a correction of more units is no movement

const me = {
  // Per tab, so that two tabs are two users; a reload keeps the user.
  nick: sessionStorage.getItem("nick") ?? "",
  wants: false, // to play: enter after each connect
};

const hub = connect("/ws");
// Without a line nothing is sent: what steers a disc is of no use later.
const send = (type, fields) => hub.send(type, fields, { volatile: true }) === "sent";

let room = null; // once the user has wanted to play
const game = () => (hub.state === "open" ? (room?.state ?? null) : null);
const mine = () => game()?.players[hub.id];

// ---- Messages of the server.

hub.on("rooms", ({ rooms }) => {
  const people = rooms.reduce((sum, each) => sum + each.people, 0);
  $("chatting").textContent = people;
  $("chatting").hidden = people === 0;
  $("chatting").setAttribute("aria-label", people === 1 ? "1 person" : `${people} people`);
});
hub.on("begins", ({ inputs }) => {
  const those = (state) => inputs.filter((each) => each[1] === state).map(([nick]) => nick);
  const parts = [`A round: ${those("answered").join(", ")}`];
  if (those("defaulted").length) parts.push(`watching: ${those("defaulted").join(", ")}`);
  tell(`${parts.join(" · ")}.`);
});
hub.on("ends", ({ ranking }) => {
  if (!ranking.length) return tell("The round is over: nobody was left.");
  const best = ranking[0][1];
  const winners = ranking.filter((each) => each[1] === best).map(([nick]) => nick);
  tell(`The round is over: ${winners.join(" and ")} won with ${best}.`);
});
hub.on("ticks", (message) => showTicks(message));
hub.on("error", ({ text }) => {
  $($("arena").hidden ? "play-error" : "error").textContent = text;
  if ($("arena").hidden) showWelcome();
});
hub.on("state", () => showState());

function play() {
  me.wants = true;
  if (room) return send("play", { nick: me.nick });
  room = hub.room("arena");
  room.on("join", () => {
    // It may be another server, with another clock.
    pictures.length = tape.length = given.length = ticked = sentInput = 0;
    last = STOPPED;
    replay = null;
    if (me.wants) send("play", { nick: me.nick });
  });
  const changed = () => (listed = false);
  room.onEntity("players", { add: changed, change: changed, remove: changed });
  room.onState(onState);
}

function tell(text) {
  $("news").textContent = text;
  $("error").textContent = "";
}

// ---- States: each is a picture of what is near, at the time at which its tick was due.

const pictures = []; // the newest last
let phase = "free";

function onState(state) {
  const player = state.players[hub.id];
  if (me.wants && player) {
    if ($("arena").hidden) {
      const renamed = player.nick !== me.nick;
      tell(renamed ? `${me.nick} is taken here: you are ${player.nick}.` : `You are in, ${player.nick}.`);
      showArena();
    }
    $("me").textContent = player.nick;
  }
  if (state.phase === "gate" && phase !== "gate" && !player?.ready) tell("Are you ready for a round?");
  phase = state.phase;
  const { number, time } = room.tick;
  const copied = (field) => new Map(Object.entries(field).map(([id, each]) => [id, { ...each }]));
  // The state has all inputs before the first that is pending.
  const acked = (room.pending[0]?.n ?? sentInput + 1) - 1;
  const picture = { tick: number, time, discs: copied(state.discs), dots: copied(state.dots), acked };
  note(number, state.late);
  arriving(() => take(picture));
  showRound();
}

function take(picture) {
  if (!game()) return;
  const before = whereIAm();
  if (pictures.at(-1)?.tick === picture.tick) pictures.pop(); // a newer one of the same tick
  pictures.push(picture);
  while (picture.time - pictures[0].time > REPLAY_MS) pictures.shift();
  for (let at = given.length - 1; at >= 0; at--) if (given[at].n <= picture.acked) given.splice(at, 1);
  ticked = Math.min(ticked, nextTick()); // the clock may have stood still
  predict();
  const after = whereIAm();
  if (!before || !after) return;
  // What was wrong goes over some pictures, so that the disc does not jump.
  const [dx, dy] = [before.x - after.x, before.y - after.y];
  const jumps = Math.hypot(wrong.x + dx, wrong.y + dy) > JUMP;
  wrong = jumps ? { x: 0, y: 0 } : { x: wrong.x + dx, y: wrong.y + dy };
}

const tape = []; // [tick, ms late], or [tick, null] for a skipped tick

function note(tick, late) {
  const newest = tape.at(-1)?.[0] ?? tick - 1;
  if (tick === newest) return;
  for (let skipped = Math.max(newest + 1, tick - TAPE_TICKS); skipped < tick; skipped++) tape.push([skipped, null]);
  tape.push([tick, late]);
  tape.splice(0, tape.length - TAPE_TICKS);
}

// Return the discs and dots at a time: between two pictures of a list.
function shownAt(list, time) {
  const after = list.findIndex((each) => each.time > time);
  if (after < 1) return list.at(after);
  const [from, to] = [list[after - 1], list[after]];
  const share = (time - from.time) / (to.time - from.time);
  const discs = [...to.discs].map(([id, { x, y }]) => {
    const was = from.discs.get(id) ?? { x, y };
    return [id, { x: was.x + (x - was.x) * share, y: was.y + (y - was.y) * share }];
  });
  return { discs: new Map(discs), dots: from.dots };
}

// ---- Prediction: my disc moves at once, by the rules of the server.

const STOPPED = { x: 0, y: 0 };
const given = []; // the inputs that the newest picture does not have: {n, tick, data}
let last = STOPPED; // of these inputs
let sentInput = 0; // the number of the last one
let ticked = 0; // the tick that it was for
let path = []; // the disc in the newest picture, and after each of these inputs
let wrong = STOPPED; // how far the disc is drawn from there

const delay = () => Number($("delay").value);
const [arriving, leaving] = [queue(), queue()];
const now = () => hub.now();

// Return a function that calls others after half of the delay: in order, also if the slider moves.
function queue() {
  const waiting = [];
  return (work) => {
    if (!delay() && !waiting.length) return work();
    waiting.push(work);
    setTimeout(() => waiting.shift()(), delay() / 2);
  };
}

// The tick that an input of now is for: one that it reaches in time.
function nextTick() {
  const trip = ((hub.rtt ?? 0) + delay()) / 2;
  const tick = Math.floor(room.tickAt()) + 2 + Math.ceil((trip * game().rules.hz) / 1000);
  return Math.min(tick, room.tick.number + AHEAD);
}

// Give an input for each tick while the disc moves.
function steer() {
  if (!mine() || game().paused) return;
  const tick = nextTick();
  if (tick <= ticked) return;
  const data = wish();
  const { vx, vy } = path.at(-1) ?? { vx: 0, vy: 0 };
  if (!data.x && !data.y && !last.x && !last.y && Math.hypot(vx, vy) < 2) return;
  ticked = tick;
  last = data;
  const input = { n: Infinity, tick, data };
  given.push(input);
  leaving(() => {
    const n = room.input(data, { tick });
    if (n) sentInput = input.n = n;
    else input.n = 0; // there is no line: the next picture is without it
  });
  predict();
}

function predict() {
  const disc = pictures.at(-1)?.discs.get(String(hub.id));
  path = disc ? [disc] : [];
  if (disc) for (const { data } of given) path.push(moved(path.at(-1), data));
}

// As _move in field.py.
function moved({ x, y, vx, vy }, data) {
  const { hz, speed, grip, width, height } = game().rules;
  const length = Math.max(1, Math.hypot(data.x, data.y));
  const share = Math.min(1, grip / hz);
  vx += ((data.x / length) * speed - vx) * share;
  vy += ((data.y / length) * speed - vy) * share;
  [x, vx] = inWalls(x + vx / hz, vx, width);
  [y, vy] = inWalls(y + vy / hz, vy, height);
  return { x, y, vx, vy };
}

function inWalls(at, speed, size) {
  const { radius, bounce } = game().rules;
  const inside = Math.min(Math.max(at, radius), size - radius);
  return [inside, inside === at ? speed : -speed * bounce];
}

// Return my place now: on the way of the last input, which takes one tick.
function whereIAm() {
  const to = path.at(-1);
  const from = path.at(-2) ?? to;
  if (!to) return null;
  const share = room.tickAt() % 1;
  return { x: from.x + (to.x - from.x) * share + wrong.x, y: from.y + (to.y - from.y) * share + wrong.y };
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

let camera = STOPPED; // the corner of what is shown
let replay = null; // while pictures are shown again: these, and when it began

function drawField() {
  const { width, height, screen_width, screen_height, radius, dot } = game().rules;
  const draw = scaled($("field"), screen_width, screen_height);
  const newest = pictures.at(-1);
  if (!newest) return;
  const shown = replay ? replayed() : game().paused ? newest : shownAt(pictures, now() - BEHIND_MS - delay() / 2);
  const id = String(hub.id);
  const discs = new Map(shown.discs);
  if (!replay && !game().paused && discs.has(id)) discs.set(id, whereIAm());
  const own = discs.get(id);
  if (own) {
    camera = {
      x: Math.min(Math.max(own.x - screen_width / 2, 0), width - screen_width),
      y: Math.min(Math.max(own.y - screen_height / 2, 0), height - screen_height),
    };
  }
  draw.translate(-camera.x, -camera.y);
  drawGround(draw, width, height);
  draw.fillStyle = colours["--warn"];
  for (const { x, y } of shown.dots.values()) disc(draw, x, y, dot);
  draw.textAlign = "center";
  const size = Math.max(15, (11 * screen_width) / $("field").clientWidth); // readable on a phone
  for (const [key, { x, y }] of discs) {
    const { nick, watches } = game().players[key] ?? { nick: "" };
    draw.globalAlpha = watches ? 0.4 : 1;
    draw.fillStyle = "#4b5563";
    if (key > 0) draw.fillStyle = `oklch(52% 0.11 ${hueOf(nick)})`;
    disc(draw, x, y, radius);
    if (key === id) {
      draw.strokeStyle = colours["--text"];
      draw.lineWidth = 4;
      draw.stroke();
    }
    if (key > 0) {
      draw.fillStyle = "white";
      draw.font = "600 24px system-ui, sans-serif";
      draw.textBaseline = "middle";
      draw.fillText([...nick][0]?.toUpperCase() ?? "", x, y + 1);
      draw.fillStyle = colours["--text"];
      draw.font = `${size}px system-ui, sans-serif`;
      draw.textBaseline = "alphabetic";
      const label = short(nick);
      const half = draw.measureText(label).width / 2 + 6;
      const above = y - camera.y > 2 * radius + size;
      draw.fillText(
        label,
        Math.min(Math.max(x, camera.x + half), camera.x + screen_width - half),
        above ? y - radius - 9 : y + radius + 5 + size,
      );
    }
    draw.globalAlpha = 1;
  }
}

// Return what a replay shows now, at half the speed.
function replayed() {
  const time = replay.pictures[0].time + (now() - replay.began) / 2;
  if (time > replay.pictures.at(-1).time) replay = null;
  return replay ? shownAt(replay.pictures, time) : pictures.at(-1);
}

function drawGround(draw, width, height) {
  draw.strokeStyle = colours["--line"];
  draw.lineWidth = 1;
  draw.beginPath();
  const line = (...ends) => ends.forEach(([x, y], end) => (end ? draw.lineTo(x, y) : draw.moveTo(x, y)));
  for (let x = 100; x < width; x += 100) line([x, 0], [x, height]);
  for (let y = 100; y < height; y += 100) line([0, y], [width, y]);
  draw.stroke();
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
    const more = Math.min(1, (late * game().rules.hz) / 1000) * 24;
    draw.fillStyle = colours["--accent"];
    draw.fillRect(x + 0.3, height - 24, 2.6, 24);
    draw.fillStyle = colours["--warn"];
    draw.fillRect(x + 0.3, height - 24 - more, 2.6, more);
  }
}

function frame() {
  requestAnimationFrame(frame);
  wrong = { x: wrong.x * 0.85, y: wrong.y * 0.85 };
  if (!$("arena").hidden && game()) {
    steer();
    drawField();
    drawTape();
    showPlayers();
  }
}

// ---- Steering.

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
let finger = null; // its position on the field's screen

function wish() {
  if (replay) return STOPPED;
  const at = whereIAm();
  if (finger && at) {
    const { radius } = game().rules;
    const [dx, dy] = [finger[0] + camera.x - at.x, finger[1] + camera.y - at.y];
    const distance = Math.hypot(dx, dy);
    if (distance < radius / 2) return STOPPED;
    const reach = Math.max(distance, 3 * radius); // slower near the target
    return { x: round(dx / reach), y: round(dy / reach) };
  }
  const sum = [...held].reduce((to, key) => [to[0] + KEYS[key][0], to[1] + KEYS[key][1]], [0, 0]);
  return { x: Math.sign(sum[0]), y: Math.sign(sum[1]) };
}

const round = (number) => Math.round(number * 20) / 20;

// A page that nobody sees draws no pictures: its disc stops.
function letGo() {
  held.clear();
  finger = null;
  if (!document.hidden || $("arena").hidden) return;
  ticked = 0;
  steer();
}

addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!(event.code in KEYS) || $("arena").hidden) return;
  event.preventDefault(); // or the page would scroll
  held.add(event.code);
});
addEventListener("keyup", (event) => held.delete(event.code));
addEventListener("blur", letGo);

function follow(event) {
  const box = $("field").getBoundingClientRect();
  finger = [
    ((event.clientX - box.left) / box.width) * game().rules.screen_width,
    ((event.clientY - box.top) / box.height) * game().rules.screen_height,
  ];
}

$("field").onpointerdown = (event) => {
  if (!game()) return;
  $("field").setPointerCapture(event.pointerId);
  follow(event);
};
$("field").onpointermove = (event) => {
  if (finger && game()) follow(event);
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
  const now = game();
  const here = Boolean(mine());
  const phase = here ? now.phase : "free";
  const tick = here && (now.paused ? room.tick.number : room.tickAt());
  const left = here ? Math.max(0, Math.ceil((now.until - tick) / now.rules.hz)) : 0;
  const { ready, watches } = mine() ?? {};
  show($("ready"), {
    free: "Play a round",
    gate: ready ? `Waiting for others · ${left} s` : `I am ready · ${left} s`,
    round: `${watches ? "You watch" : "A round is on"} · ${left} s`,
  }[phase]);
  $("ready").disabled = !here || phase === "round" || ready;
  $("pause").disabled = $("again").disabled = !here;
  show($("again"), replay ? "Back to now" : "Replay 10 s");
  show($("pause"), here && now.paused ? "Resume" : "Pause");
  $("stall").disabled = !here || performance.now() < stallUntil;
  const texts = { free: "", gate: `Ready for a round? ${left} s`, round: `Round · ${left} s` };
  const text = here && now.paused ? `Paused ${texts[phase] && `· ${texts[phase]}`}` : texts[phase];
  show($("banner"), replay ? "Replay, half speed" : text);
  show($("trip"), hub.rtt === null ? "" : `${Math.round(hub.rtt + delay())} ms`);
}

// Only changes: the page must not be laid out twenty times a second.
function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let listed = false; // true if the list is as the state says

function showPlayers() {
  if (listed) return;
  listed = true;
  const all = Object.entries(game().players).map(([id, player]) => ({ id, ...player }));
  all.sort((one, other) => other.score - one.score || one.id - other.id);
  const people = all.filter(({ id }) => id > 0).length;
  const bots = all.length - people;
  $("players-count").textContent = all.length;
  const others = people === 1 ? "Only you play" : `${people} play`;
  show($("note"), bots ? `${others}, with ${bots} bots` : others);
  const rows = all.filter(({ id }, place) => place < LISTED || id === String(hub.id));
  $("players").replaceChildren(
    ...rows.map(({ id, nick, score, watches, ready }) => {
      const item = make("li", watches ? "watches" : "");
      const face = make("span", id > 0 ? "avatar" : "avatar bot", [...nick][0]?.toUpperCase() ?? "");
      face.style.setProperty("--hue", hueOf(nick));
      face.setAttribute("aria-hidden", "true");
      const name = make("span", "name", nick);
      name.dir = "auto";
      item.append(face, name);
      if (id === String(hub.id)) item.append(make("span", "hint", "you"));
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
    Pages: figures.members,
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
  sessionStorage.setItem("nick", me.nick);
  play();
  if (hub.state !== "open") tryNow(hub);
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
$("pause").onclick = () => act(game()?.paused ? "resume" : "pause");
$("again").onclick = () => {
  replay = replay || !pictures.length ? null : { pictures: [...pictures], began: now() };
  showRound();
};
$("delay").onpointerup = () => $("field").focus(); // or the arrow keys would move the slider
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
if (me.nick) play(); // a reload enters again
else showWelcome();
showState();
frame();
