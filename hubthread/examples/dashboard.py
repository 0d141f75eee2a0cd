"""A live dashboard in Flask, fed by a background thread.

Layer: top.  Threads: ``measure`` runs on a thread of its own, from the hub's start to its end.

::

    flask --app hubthread.examples.dashboard run            # http://127.0.0.1:5000
    gunicorn --threads 8 'hubthread.examples.dashboard:create_app()'

A new client gets the samples of the last minutes, and then each new one.  A client that does not
keep up gets only the latest sample, because older ones are useless.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import Any

from flask import Flask

from hubthread import HubClosed, HubSetting, IOContext, Overflow
from hubthread.integrations.flask import FlaskHub

__all__ = ["create_app"]

EVERY = 1.0
"""Seconds between two samples."""

KEPT = 120
"""Samples that a new client gets."""

Sample = dict[str, float]


def create_app(every: float = EVERY) -> Flask:
    """Return the application.

    :param every: seconds between two samples.
    """
    app = Flask(__name__)
    samples: deque[Sample] = deque(maxlen=KEPT)  # the hub thread owns it

    def measure(hub: Any) -> None:
        def keep(sample: Sample) -> None:
            samples.append(sample)
            room.push(hub.marshal({"type": "sample", "sample": sample}), key="sample")

        before = time.process_time()
        with contextlib.suppress(HubClosed):
            while not hub.context.wait(every):
                used, before = time.process_time() - before, time.process_time()
                sample = {
                    "load": os.getloadavg()[0],
                    "cpu": 100 * used / every,
                    "threads": threading.active_count(),
                    "viewers": room.members_num,
                }
                hub.exec_async(lambda _, sample=sample: keep(sample))

    def start_measuring(hub: Any) -> None:
        threading.Thread(target=measure, args=(hub,), name="measure", daemon=True).start()

    def before() -> dict[str, object]:
        return {"type": "before", "samples": list(samples)}

    def on_start(ctx: IOContext, meta: dict[str, str]) -> None:
        # On the hub thread, which changes the samples: no sample is missed, none comes twice.
        hub.exec_sync(lambda _: room.answer(ctx, first=hub.marshal(before())))

    setting: HubSetting[dict[str, str], str] = HubSetting(
        dict,
        on_connection_start=on_start,
        overflow=Overflow.LATEST,
        delayed_execution=start_measuring,
    )
    realtime = FlaskHub(setting)
    hub = realtime.init_app(app)
    room = hub.hotline()

    @app.get("/")
    def index() -> str:
        return PAGE

    @realtime.route(app, "/ws")
    def connect() -> dict[str, str]:
        """Let every client in."""
        return {}

    return app


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>Dashboard</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
  h1 { font-size: 1.3rem }
  #charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem }
  figure { margin: 0; padding: .8rem; border: 1px solid #ddd; border-radius: .5rem }
  figcaption { display: flex; justify-content: space-between }
  output { font-weight: 600; font-variant-numeric: tabular-nums }
  svg { width: 100%; height: 4rem; display: block }
  polyline { fill: none; stroke: #2a6fdb; stroke-width: 1.5; vector-effect: non-scaling-stroke }
  #state { color: #777; font-size: .85rem }
</style>
<h1>This server, now</h1>
<div id="charts"></div>
<p id="state">connecting</p>
<script type="module">
  import { connect } from "/_hubthread/hubthread.js"

  const KEPT = 120, samples = []
  const titles = { load: "Load", cpu: "CPU, %", threads: "Threads", viewers: "Viewers" }
  for (const [name, title] of Object.entries(titles)) {
    document.querySelector("#charts").insertAdjacentHTML("beforeend",
      `<figure id="${name}"><figcaption>${title} <output></output></figcaption>` +
      `<svg viewBox="0 0 ${KEPT - 1} 100" preserveAspectRatio="none"><polyline/></svg></figure>`)
  }
  function draw() {
    for (const name of Object.keys(titles)) {
      const values = samples.map(sample => sample[name]), top = Math.max(1, ...values)
      const points = values.map((value, x) => `${x},${98 - 96 * value / top}`)
      document.querySelector(`#${name} polyline`).setAttribute("points", points.join(" "))
      const last = values.at(-1) ?? 0
      document.querySelector(`#${name} output`).textContent =
        Number.isInteger(last) ? last : last.toFixed(2)
    }
  }
  const hub = connect("/ws")
  hub.on("before", message => {
    samples.splice(0, KEPT, ...message.samples)
    draw()
  })
  hub.on("sample", ({ sample }) => {
    samples.push(sample)
    samples.splice(0, samples.length - KEPT)
    draw()
  })
  const line = document.querySelector("#state")
  hub.on("state", ({ state, reason }) =>
    line.textContent = state === "open" ? "live" : `${state}: ${reason}`)
</script>
"""
