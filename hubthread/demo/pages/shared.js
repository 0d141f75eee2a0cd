// The parts that both pages use.  They show the server's messages only with textContent.

export const $ = (id) => document.getElementById(id);

const LINE = { open: "Connected", connecting: "Connecting…" };

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

// Show the state of the line, and a button that ends a wait.
export function showLine(hub) {
  const { state, reason } = hub;
  const text = LINE[state] ?? `No connection: ${reason}`;
  for (const line of document.querySelectorAll("[data-state-line]")) {
    line.dataset.state = state in LINE ? state : "waiting";
    // Only changes, because screen readers read them; the button has the countdown.
    if (line.textContent !== text) line.textContent = text;
  }
  $("retry").hidden = state in LINE;
  const seconds = Math.max(1, Math.ceil((hub.retryAt - Date.now()) / 1000));
  $("retry").textContent = hub.retryAt ? `Try now · ${seconds} s` : "Try now";
}

export function tryNow(hub) {
  hub.connect(); // if it has ended
  hub.retryNow();
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
