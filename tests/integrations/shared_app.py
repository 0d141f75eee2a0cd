"""A Flask application whose room spans the workers of gunicorn.

A client at ``/ws`` is told the process, and is in the room.  One of ``hubthread.1`` joins by
itself, and may come back in any worker.  A POST to ``/push`` pushes its body, and waits until it
has its place.  ``/health`` is the page of the worker that answers.  The room is made when the
module is imported, before ``--preload`` forks.
"""

from __future__ import annotations

import os

from flask import Flask, request

from hubthread import History, HotlineOption, HubSetting, IOContext, Sessions
from hubthread.integrations.flask import FlaskHub


def start(ctx: IOContext, meta: object) -> None:
    if ctx.subprotocol is None:
        room.answer(ctx, since=None, first=f"process {os.getpid()}")


app = Flask(__name__)
app.config["HUBTHREAD_REDIS_URL"] = os.environ["REDIS_URL"]
app.config["HUBTHREAD_REDIS_PREFIX"] = "shared-app"
app.config["HUBTHREAD_DRAIN"] = 1.0
realtime: FlaskHub[dict[str, str], str] = FlaskHub(
    HubSetting(
        dict,
        on_connection_start=start,
        may_join=lambda ctx, meta, name: True,
        sessions=Sessions(save=lambda ctx, meta: meta, load=lambda ctx, moved: moved.saved),
    )
)
hub = realtime.init_app(app)
room = hub.hotline(HotlineOption("table 7", shared=True, history=History(size=1000)))


@realtime.route(app, "/ws")
def connect() -> dict[str, str]:
    return {"user": "somebody"}


@app.get("/health")
def health() -> tuple[bytes, int, dict[str, str]]:
    hub.start_once()
    page = hub.health()
    return page.body, page.status, {"Content-Type": page.content_type}


@app.post("/push")
def push() -> str:
    number = room.push(request.get_data(as_text=True))
    assert room.wait_push_consumed(number, 20.0)
    return str(number)
