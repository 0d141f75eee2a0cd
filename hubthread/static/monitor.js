// The monitor page: asks its hub for figures every two seconds, and shows them.
//
// Names of clients and rooms come from strangers.  They are shown with textContent only.

const PACE_MS = 2000;
const PATIENCE_MS = 10_000;
const KEPT = 300;
const LEAST_SPAN = 60;
const SIZE = 15; // rows of a table
const LONG = 1; // seconds after which a job of the hub is shown as stuck
const SVG = "http://www.w3.org/2000/svg";
const KEY = `hubthread monitor ${location.pathname}`;

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function drawn(tag, className) {
  const element = document.createElementNS(SVG, tag);
  if (className) element.setAttribute("class", className);
  return element;
}

function put(element, text) {
  // Only changes: the browser keeps what the user has selected.
  if (element.textContent !== text) element.textContent = text;
}

// Numbers in words.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const count = (n) => whole.format(Math.round(n));
const rate = (n) => (n >= 100 ? count(n) : short.format(n));
const perSecond = (n) => `${rate(n)}/s`;
const percent = (n) => `${short.format(n >= 0.1 ? Math.round(n * 100) : n * 100)} %`;

function bytes(n) {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (n < 1000 || unit === "GB") return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1000;
  }
}

function seconds(n) {
  if (n <= 0) return "0 ms";
  if (n < 0.001) return "< 1 ms";
  if (n < 1) return `${short.format(n * 1000)} ms`;
  if (n < 120) return `${short.format(n)} s`;
  if (n < 7200) return `${Math.floor(n / 60)} min`;
  if (n < 172_800) return `${Math.floor(n / 3600)} h ${Math.floor((n % 3600) / 60)} min`;
  return `${Math.floor(n / 86_400)} days`;
}

const over = (n, warn, bad) => (n > bad ? "bad" : n > warn ? "warn" : "");

// Curves.

const CURVES = [
  { name: "clients", label: "Clients", show: count, more: (s) => `${count(s.rooms)} rooms` },
  { name: "received", label: "Messages in", show: perSecond, more: (s) => `${bytes(s.received_bytes)}/s` },
  { name: "sent", label: "Messages out", show: perSecond, more: (s) => `${bytes(s.sent_bytes)}/s` },
  {
    name: "waiting_bytes", label: "Waits for clients", show: bytes, least: 1000,
    more: (s) => `${count(s.lagging)} ${s.lagging === 1 ? "client lags" : "clients lag"}`,
  },
  {
    name: "queue_age", label: "Hub's queue, delay", show: seconds, least: 0.01,
    more: (s) => `${count(s.queue)} ${s.queue === 1 ? "job waits" : "jobs wait"}`, level: (n) => over(n, 0.5, 5),
  },
  { name: "running", label: "Hub's present job", show: seconds, least: 0.01, more: () => "", level: (n) => over(n, 0.5, 5) },
  { name: "dropped", label: "Messages dropped", show: perSecond, more: () => "", level: (n) => over(n, 0, Infinity) },
  { name: "cpu", label: "Processor", show: percent, least: 0.1, more: () => "of one core" },
  {
    name: "load", label: "Busiest room, load", show: percent, least: 0.1, ticking: true,
    more: () => "work of a tick / period", level: (n) => over(n, 0.8, 1),
  },
  {
    name: "late", label: "Lateness, p99", show: (n) => (n ? `≤ ${seconds(n)}` : "< 1 ms"), least: 0.01, ticking: true,
    more: () => "", level: (n) => over(n, 0.025, 0.25),
  },
  { name: "skipped", label: "Ticks skipped", show: perSecond, ticking: true, more: () => "", level: (n) => over(n, 0, Infinity) },
  { name: "ticks", label: "Ticks", show: perSecond, ticking: true, more: (s) => `work ${percent(s.work)} of a thread` },
];

class Curve {
  constructor(what) {
    this.what = what;
    this.card = make("div", "curve");
    this.value = make("div", "value", "–");
    this.more = make("div", "more");
    this.top = make("div", "top");
    this.svg = drawn("svg");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("aria-hidden", "true");
    this.area = drawn("path", "area");
    this.line = drawn("path", "line");
    this.cursor = drawn("path", "cursor");
    this.svg.append(this.area, this.line, this.cursor);
    this.card.append(make("div", "label", what.label), this.value, this.more, this.top, this.svg);
    this.svg.onpointermove = (event) => look(event, this.svg);
    this.svg.onpointerleave = () => lookAt(null);
  }

  draw() {
    const { name, show, least = 1 } = this.what;
    const values = samples[name];
    const top = values.reduce((a, b) => Math.max(a, b), least) * 1.08;
    const start = span() - values.length;
    this.svg.setAttribute("viewBox", `0 0 ${span() - 1} 100`);
    const points = values.map((n, i) => `${start + i},${(97 - (94 * n) / top).toFixed(1)}`);
    this.line.setAttribute("d", points.length ? `M${points.join("L")}` : "");
    this.area.setAttribute("d", points.length ? `M${start},100L${points.join("L")}L${span() - 1},100Z` : "");
    const most = values.reduce((a, b) => Math.max(a, b), 0);
    put(this.top, values.length ? `max ${show(most)}` : "");
    this.tell();
  }

  tell() {
    const { name, show, more, level } = this.what;
    const length = samples[name].length;
    const place = looked === null ? length - 1 : looked - (span() - length);
    const known = place >= 0 && place < length;
    put(this.value, known ? show(samples[name][place]) : "–");
    put(this.more, known ? more(sampleAt(place)) : "");
    this.card.dataset.level = (known && level?.(samples[name][place])) || "";
    this.cursor.setAttribute("d", looked === null ? "" : `M${looked},0V100`);
  }
}

let looked = null; // the place of the curves that the pointer is on
let samples = noSamples();
let nextSample = 0;
const curves = CURVES.map((what) => new Curve(what));

function noSamples() {
  return Object.fromEntries(CURVES.map(({ name }) => [name, []]));
}

const sampleAt = (place) => Object.fromEntries(Object.keys(samples).map((name) => [name, samples[name][place]]));

// The curves fill their width after two minutes, and then show more and more until ten.
const span = () => Math.max(LEAST_SPAN, samples.clients.length);

function look(event, svg) {
  const box = svg.getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  lookAt(Math.max(0, Math.min(span() - 1, Math.round(share * (span() - 1)))));
}

function lookAt(place) {
  looked = place;
  const ago = place === null ? 0 : (span() - 1 - place) * interval;
  put($("moment"), place === null ? "" : ago < 1 ? "now" : `${ago < 120 ? `${ago} s` : `${(ago / 60).toFixed(1)} min`} ago`);
  for (const curve of curves) curve.tell();
}

let interval = 2;

function keep({ next, interval: pace, columns }) {
  interval = pace;
  for (const [name, values] of Object.entries(columns)) {
    samples[name] = [...(samples[name] ?? []), ...values].slice(-KEPT);
  }
  nextSample = next;
  const ticking = samples.ticks.some((n) => n > 0);
  const minutes = Math.round((span() * interval) / 60);
  put($("curves-title"), `The last ${minutes} minutes`);
  for (const curve of curves) {
    curve.card.hidden = Boolean(curve.what.ticking) && !ticking;
    curve.draw();
  }
}

// Tables.

const FIGURE = (key, show = count) => (row) => (row[key] === undefined ? "" : show(row[key]));

const CLIENTS = [
  { title: "Client", text: (row) => `${row.id}`, hint: "The client's number, as in the log", tag: (row) => (row.kind === "websocket" ? "" : row.kind) },
  { title: "Address", text: (row) => row.peer, hint: "The address that it came from; behind a proxy, the proxy's" },
  { title: "User", text: (row) => row.user ?? "–", hint: "The name of its user: ctx.user", level: (row) => (row.user === null ? "none" : "") },
  { title: "Age", sort: "age", text: FIGURE("age", seconds), hint: "The time since it came" },
  { title: "In", sort: "received", text: FIGURE("received"), hint: "Messages received from it" },
  { title: "Out", sort: "sent", text: FIGURE("sent"), hint: "Messages written and pushed to it" },
  { title: "Waits", sort: "lag", text: FIGURE("waiting"), hint: "Messages that it has not read yet", level: (row) => over(row.waiting, 0, 1000) },
  { title: "Bytes", sort: "bytes", text: FIGURE("bytes", bytes), hint: "The bytes of these messages", level: (row) => over(row.bytes, 0, 1e6) },
  { title: "Dropped", sort: "dropped", text: FIGURE("dropped"), hint: "Messages that the overflow policy dropped", level: (row) => over(row.dropped, 0, Infinity) },
  { title: "Rooms", sort: "rooms", text: FIGURE("rooms"), hint: "Rooms that it is in" },
];

const TICKING = (show) => (row) => (row.ticking ? show(row) : "–");
const quiet = (level) => (row) => (row.ticking ? level?.(row) ?? "" : "none");

const ROOMS = [
  { title: "Room", text: (row) => row.name || `${row.id}`, hint: "The room's name, or its number", tag: (row) => row.kind, tooltip: (row) => `number ${row.id}` },
  { title: "Members", sort: "members", text: FIGURE("members"), hint: "Clients that are in" },
  { title: "Pushes", sort: "pushes", text: FIGURE("pushes"), hint: "Pushes so far" },
  { title: "Lagging", sort: "lagging", text: FIGURE("lagging"), hint: "Members with pushes that are not sent yet", level: (row) => over(row.lagging, 0, Infinity) },
  { title: "Rate", text: TICKING((row) => (row.paused ? "paused" : row.hz ? `${short.format(row.hz)} Hz` : "no ticks")), hint: "Ticks per second", level: quiet((row) => (row.paused ? "warn" : "")) },
  { title: "Load", sort: "load", text: TICKING((row) => (row.load === null ? "–" : percent(row.load))), hint: "Work of a tick as a share of its period", level: quiet((row) => over(row.load, 0.8, 1)) },
  { title: "Work", text: TICKING((row) => seconds(row.work)), hint: "99 of its last ticks in 100 took this long at most", level: quiet() },
  { title: "Late", text: TICKING((row) => seconds(row.late)), hint: "99 of its last ticks in 100 began this late at most", level: quiet((row) => over(row.late, 0.025, 0.25)) },
  { title: "Skipped", sort: "skipped", text: TICKING((row) => count(row.skipped)), hint: "Ticks left out so far", level: quiet((row) => over(row.skipped, 0, Infinity)) },
  { title: "Errors", text: TICKING((row) => count(row.errors)), hint: "Ticks whose logic raised", level: quiet((row) => over(row.errors, 0, 0)) },
];

class Table {
  page = 0;
  find = "";
  #rows = [];

  constructor(id, columns, sort, what, acts) {
    this.id = id;
    this.columns = columns;
    this.sort = sort;
    this.what = what;
    this.acts = acts;
    const section = $(id);
    const part = (name) => section.querySelector(`[data-${name}]`);
    [this.count, this.head, this.body, this.empty, this.pager] = ["count", "head", "body", "empty", "pager"].map(part);
    this.#makeHead();
    this.#makePager();
    let timer = 0;
    part("find").oninput = (event) => {
      this.find = event.target.value;
      this.page = 0;
      clearTimeout(timer);
      timer = setTimeout(refreshNow, 200);
    };
  }

  addTo(query) {
    query.set(`${this.id}.sort`, this.sort);
    query.set(`${this.id}.page`, this.page);
    query.set(`${this.id}.size`, SIZE);
    if (this.find.trim()) query.set(`${this.id}.find`, this.find);
  }

  #makeHead() {
    const line = make("tr");
    this.columns.forEach((column, place) => {
      const cell = make("th", place && !/Address|User/.test(column.title) ? "number" : "");
      cell.scope = "col";
      cell.title = column.hint;
      if (column.sort) {
        const button = make("button", "", column.title);
        button.type = "button";
        button.onclick = () => {
          this.sort = column.sort;
          this.page = 0;
          this.#showSort();
          refreshNow();
        };
        cell.append(button);
      } else {
        cell.textContent = column.title;
      }
      column.head = cell;
      line.append(cell);
    });
    this.actions = make("th", "number");
    this.actions.append(make("span", "unseen", "Actions"));
    this.actions.hidden = true;
    line.append(this.actions);
    this.head.append(line);
    this.#showSort();
  }

  #showSort() {
    for (const { sort, head } of this.columns) {
      if (sort && sort === this.sort) head.setAttribute("aria-sort", "descending");
      else head.removeAttribute("aria-sort");
    }
  }

  #makePager() {
    const turn = (text, by) => {
      const button = make("button", "quiet", text);
      button.type = "button";
      button.onclick = () => {
        this.page += by;
        refreshNow();
      };
      return button;
    };
    this.back = turn("← Before", -1);
    this.on = turn("Next →", 1);
    this.where = make("span");
    this.pager.append(this.back, this.where, this.on);
  }

  show({ total, found, page, pages, size, rows }, acting) {
    this.page = page;
    put(this.count, count(total));
    this.actions.hidden = !acting;
    while (this.#rows.length < rows.length) this.#addRow();
    for (const { line } of this.#rows.splice(rows.length)) line.remove();
    rows.forEach((row, place) => this.#fill(this.#rows[place], row, acting));
    this.empty.hidden = rows.length > 0;
    put(this.empty, this.find.trim() ? `No ${this.what} matches.` : `There is no ${this.what}.`);
    this.pager.hidden = pages < 2;
    this.back.disabled = page === 0;
    this.on.disabled = page === pages - 1;
    put(this.where, `${count(page * size + 1)}–${count(page * size + rows.length)} of ${count(found)}`);
  }

  #addRow() {
    const line = make("tr");
    const cells = this.columns.map((column, place) => {
      const cell = make("td", place && !/Address|User/.test(column.title) ? "number" : "");
      const text = make("span");
      const tag = column.tag ? make("span", "tag") : null;
      if (tag) {
        const both = make("div", "tagged");
        both.append(text, tag);
        cell.append(both);
      } else {
        cell.append(text);
      }
      line.append(cell);
      return { cell, text, tag };
    });
    const last = make("td", "number");
    line.append(last);
    this.body.append(line);
    this.#rows.push({ line, cells, last, acts: "" });
  }

  #fill(place, row, acting) {
    place.row = row;
    this.columns.forEach(({ text, tag, level, tooltip }, number) => {
      const { cell, text: span, tag: mark } = place.cells[number];
      const words = text(row);
      put(span, words);
      const title = tooltip ? tooltip(row) : words.length > 20 ? words : "";
      if (cell.title !== title) cell.title = title;
      const kind = level?.(row) ?? "";
      if ((cell.dataset.level ?? "") !== kind) cell.dataset.level = kind;
      if (mark) {
        put(mark, tag(row));
        mark.hidden = !tag(row);
      }
    });
    place.last.hidden = !acting;
    const acts = acting ? this.acts(row) : [];
    const key = acts.map(([name]) => name).join();
    if (key !== place.acts) {
      place.acts = key;
      place.last.replaceChildren(
        ...acts.map(([name, danger]) => {
          const button = make("button", danger ? "act danger" : "act", name);
          button.type = "button";
          button.onclick = () => act(name, this.what, place.row);
          return button;
        }),
      );
    }
  }
}

const clients = new Table("clients", CLIENTS, "lag", "client", () => [["Close", true]]);
const rooms = new Table("rooms", ROOMS, "load", "room", (row) => [
  ...(row.ticking ? (row.paused ? [["Step"], ["Resume"]] : [["Pause"]]) : []),
  ["Close", true],
]);

// Actions.

function act(name, what, row) {
  if (name !== "Close") return void carryOut(name.toLowerCase(), row.id, "");
  // The row may show another client by the time of the answer: the question names this one.
  const isClient = what === "client";
  put($("confirm-title"), isClient ? `Close client ${row.id}?` : `Close the room ${row.name || row.id}?`);
  put(
    $("confirm-what"),
    isClient
      ? `${row.user ?? "It"}, from ${row.peer}, is told 1008 and does not come back by itself.`
      : `Its ${count(row.members)} members leave it.  Nobody can join it any more.`,
  );
  for (const each of [$("confirm-label"), $("confirm-reason")]) each.hidden = !isClient;
  $("confirm-reason").value = "";
  confirm(isClient ? "Close the client" : "Close the room", () =>
    carryOut(isClient ? "kick" : "close", row.id, $("confirm-reason").value),
  );
}

function confirm(text, then) {
  put($("confirm-yes"), text);
  $("confirm-yes").onclick = () => {
    $("confirm").close();
    then();
  };
  $("confirm").showModal();
}

$("drain").onclick = () => {
  put($("confirm-title"), "Send all clients elsewhere?");
  put($("confirm-what"), "The hub takes no new clients from now on, until its process starts again.");
  for (const each of [$("confirm-label"), $("confirm-reason")]) each.hidden = true;
  $("confirm-reason").value = "";
  confirm("Drain the hub", () => carryOut("drain", "", ""));
};

$("confirm-no").onclick = () => $("confirm").close();

async function carryOut(action, id, reason) {
  const query = new URLSearchParams({ do: action, id, ...(reason && { reason }) });
  try {
    const response = await ask(`act?${query}`, { method: "POST" });
    const text = await response.text();
    note(response.ok ? `Done: ${JSON.parse(text).done}` : text, response.ok ? "" : "bad");
  } catch {
    note("The hub gave no answer.", "bad");
  }
  refreshNow();
}

let noteTimer = 0;

function note(text, kind) {
  $("note").textContent = text;
  $("note").dataset.kind = kind;
  $("note").hidden = false;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => ($("note").hidden = true), 8000);
}

// What is stuck.

const stuck = new Map();

function showStuck({ number, shown }) {
  $("stuck").hidden = number === 0;
  put($("stuck-count"), count(number));
  const gone = new Set(stuck.keys());
  shown.forEach((each, place) => {
    gone.delete(each.name);
    let found = stuck.get(each.name);
    if (!found) {
      const box = make("details");
      const line = make("summary");
      found = { box, name: make("span"), long: make("span", "long"), line: make("span", "line"), stack: make("pre") };
      line.append(found.name, found.long, found.line);
      box.append(line, found.stack);
      box.open = stuck.size === 0;
      stuck.set(each.name, found);
      $("stuck-list").append(box);
      box.ontoggle = () => (found.stack.scrollTop = found.stack.scrollHeight);
    }
    put(found.name, each.name);
    put(found.long, `for ${seconds(each.seconds)}`);
    put(found.stack, each.stack.trimEnd() || "Its thread has no stack.");
    put(found.line, each.stack.trimEnd().split("\n").at(-1).trim());
    if ($("stuck-list").children[place] !== found.box) $("stuck-list").insertBefore(found.box, $("stuck-list").children[place]);
  });
  for (const name of gone) {
    stuck.get(name).box.remove();
    stuck.delete(name);
  }
}

// The rest.

function showPairs(id, pairs, otherwise) {
  const list = $(id);
  const shown = pairs.length ? pairs : [[otherwise, ""]];
  const flat = shown.flat();
  if (list.children.length !== flat.length) {
    list.replaceChildren(...flat.map((_, place) => make(place % 2 ? "dd" : "dt")));
  }
  flat.forEach((text, place) => put(list.children[place], `${text}`));
}

function showNodes(nodes) {
  $("nodes").hidden = nodes.length === 0;
  put($("nodes-count"), count(nodes.length));
  const body = $("nodes-body");
  while (body.rows.length > nodes.length) body.deleteRow(-1);
  while (body.rows.length < nodes.length) {
    const line = make("tr");
    const name = make("td");
    const both = make("div", "tagged");
    both.append(make("span"), make("span", "tag", "this one"));
    name.append(both);
    line.append(name, make("td"), make("td", "number"), make("td", "number"), make("td", "number"));
    body.append(line);
  }
  nodes.forEach(({ id, name, state, clients, rooms, age, own }, place) => {
    const [who, what, ...figures] = body.rows[place].cells;
    const [text, tag] = who.firstChild.children;
    put(text, name);
    who.title = id;
    tag.hidden = !own;
    put(what, state);
    what.dataset.level = state === "running" ? "" : "warn";
    put(figures[0], count(clients));
    put(figures[1], count(rooms));
    put(figures[2], own || age < 1 ? "now" : `${seconds(age)} ago`);
    figures[2].dataset.level = over(age, 4, 7); // it tells every 2.5 s, and is left out after 10
  });
}

function showState({ hub, now, stuck: { number } }) {
  const busy = now.closure_running >= LONG;
  const [state, text] =
    hub.state !== "running"
      ? ["warn", hub.state]
      : busy
        ? ["bad", `The hub is busy for ${seconds(now.closure_running)}`]
        : number
          ? ["warn", `${count(number)} ${number === 1 ? "callback is" : "callbacks are"} stuck`]
          : ["well", "Running"];
  $("state").dataset.state = state;
  put($("state"), text);
}

function show(data) {
  const { hub, now } = data;
  document.title = `${hub.name} – hubthread monitor`;
  put($("name"), hub.name);
  const python = `Python ${hub.python}${hub.free_threaded ? ", free-threaded" : ""}`;
  put($("about"), `up ${seconds(hub.up)} · hubthread ${hub.version} · ${python} · process ${hub.process}`);
  showState(data);
  showStuck(data.stuck);
  keep(data.samples);
  $("drain").hidden = !data.actions || hub.state !== "running";
  clients.show(data.clients, data.actions);
  rooms.show(data.rooms, data.actions);
  showPairs("queue", [
    ["Jobs that wait", count(now.queue_depth)],
    ["The oldest waits", seconds(now.queue_age)],
    ["The present job runs", seconds(now.closure_running)],
    ["The longest job ran", seconds(now.closure_longest)],
    ["Closures so far", count(now.closures_run)],
    ["Closures that raised", count(now.closures_failed)],
  ]);
  showPairs("threads", Object.entries(data.threads).map(([role, n]) => [role, count(n)]), "none");
  const limits = Object.entries(now.limits_struck).filter(([, n]) => n > 0);
  showPairs("limits", limits.map(([name, n]) => [name, count(n)]), "No limit was reached.");
  showPairs(
    "ended",
    [
      ...Object.entries(now.ended_by).map(([cause, n]) => [`Ended: ${cause}`, count(n)]),
      ...Object.entries(data.refused).map(([status, n]) => [`Refused: ${status}`, count(n)]),
    ],
    "No client has ended.",
  );
  showNodes(data.nodes);
  $("backplane-panel").hidden = !now.backplane;
  if (now.backplane) {
    showPairs("backplane", Object.entries(now.backplane).map(([name, value]) => [name.replaceAll("_", " "), typeof value === "number" ? short.format(value) : value]));
  }
}

// Ask the hub.

function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (found) {
    sessionStorage.setItem(KEY, decodeURIComponent(found[1]));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(KEY);
}

let token = takeToken();
let timer = 0;
let asking = null;
let process = null;

function ask(path, options = {}) {
  const headers = { "X-Hubthread-Monitor": "1" };
  if (token) headers.Authorization = `Bearer ${token}`;
  return fetch(path, { headers, cache: "no-store", redirect: "error", ...options });
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const patience = setTimeout(() => mine.abort(), PATIENCE_MS);
  const query = new URLSearchParams({ after: nextSample });
  for (const table of [clients, rooms]) table.addTo(query);
  const began = performance.now();
  try {
    const response = await ask(`data?${query}`, { signal: mine.signal });
    if (response.status === 401) return void askToken(token ? "This token is not the right one." : "");
    if (!response.ok) throw new Error(await response.text());
    const data = await response.json();
    if (mine !== asking) return;
    $("ask").hidden = true;
    $("page").hidden = false;
    if (process !== null && process !== data.hub.process) {
      // A server with several processes: its hubs have numbers and curves of their own.
      note("Another process of the server answers now: its hub has other clients.", "");
      samples = noSamples();
      nextSample = 0;
      process = data.hub.process;
      return void schedule(0);
    }
    process = data.hub.process;
    show(data);
    performance.clearMeasures("refresh");
    performance.measure("refresh", { start: began });
  } catch (error) {
    if (mine !== asking) return;
    $("page").hidden = false;
    $("state").dataset.state = "bad";
    put($("state"), error.name === "Error" && error.message ? error.message.slice(0, 80) : "No answer");
  } finally {
    clearTimeout(patience);
    if (mine === asking) schedule(PACE_MS);
  }
}

function schedule(delay) {
  clearTimeout(timer);
  if (!document.hidden && $("ask").hidden) timer = setTimeout(refresh, delay);
}

function refreshNow() {
  if (!document.hidden) refresh();
}

function askToken(text) {
  token = null;
  sessionStorage.removeItem(KEY);
  $("page").hidden = true;
  $("ask").hidden = false;
  $("token-error").textContent = text;
  $("token").focus();
}

$("token-form").onsubmit = (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  if (!token) return;
  $("token").value = "";
  sessionStorage.setItem(KEY, token);
  refresh();
};

document.addEventListener("visibilitychange", refreshNow);
addEventListener("hashchange", () => {
  const found = takeToken();
  if (found) {
    token = found;
    refresh();
  }
});

$("curves").append(...curves.map((curve) => curve.card));
refresh();
