"""A Flask application whose page of metrics answers for all workers of gunicorn.

A client at ``/ws`` is told the process.
"""

from __future__ import annotations

import os

from flask import Flask

from hubthread import HubSetting, IOContext
from hubthread.integrations.flask import FlaskHub


def start(ctx: IOContext, meta: object) -> None:
    ctx.write(str(os.getpid()))


app = Flask(__name__)
app.config["HUBTHREAD_METRICS"] = "/metrics"
app.config["HUBTHREAD_METRICS_DIR"] = os.environ["METRICS_DIR"]
realtime: FlaskHub[dict[str, str], str] = FlaskHub(HubSetting(dict, on_connection_start=start))
realtime.init_app(app)


@realtime.route(app, "/ws")
def connect() -> dict[str, str]:
    return {}
