"""A Flask application whose room spans the workers of gunicorn.

A client at ``/ws`` is told the process, and is in the room.  A POST to ``/push`` pushes its body,
and waits until it has its place.  The room is made when the module is imported, before
``--preload`` forks.
"""

from __future__ import annotations

import os

from flask import Flask, request

from hubthread import History, HotlineOption, HubSetting, IOContext
from hubthread.integrations.flask import FlaskHub


def start(ctx: IOContext, meta: object) -> None:
    room.answer(ctx, since=None, first=f"process {os.getpid()}")


app = Flask(__name__)
app.config["HUBTHREAD_REDIS_URL"] = os.environ["REDIS_URL"]
app.config["HUBTHREAD_REDIS_PREFIX"] = "shared-app"
realtime: FlaskHub[dict[str, str], str] = FlaskHub(HubSetting(dict, on_connection_start=start))
room = realtime.init_app(app).hotline(
    HotlineOption("table 7", shared=True, history=History(size=1000))
)


@realtime.route(app, "/ws")
def connect() -> dict[str, str]:
    return {"user": "somebody"}


@app.post("/push")
def push() -> str:
    number = room.push(request.get_data(as_text=True))
    assert room.wait_push_consumed(number, 20.0)
    return str(number)
