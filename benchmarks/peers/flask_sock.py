"""flask-sock: simple-websocket inside werkzeug's threaded development server.

A lock keeps one order for all members, as the other servers do; ``flask-sock-unlocked`` is the
usual loop, run by all threads at once.  simple-websocket accepts compression whenever it is
offered.  Its ``send`` calls ``socket.send`` once and may send only a part of a large message.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

from flask import Flask
from flask_sock import Sock
from simple_websocket import ConnectionClosed
from werkzeug.serving import make_server

from benchmarks.peers.contract import JOINED, Job, Publisher, listening


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    members: dict[Any, None] = {}
    locked = not name.endswith("unlocked")
    one_order = threading.Lock()

    def to_all(message: str) -> None:
        with one_order if locked else contextlib.nullcontext():
            for member in list(members):
                try:
                    member.send(message)
                except (ConnectionClosed, OSError):
                    members.pop(member, None)

    publisher = Publisher(job, to_all)
    app = Flask(__name__)

    def attend(connection: Any) -> None:
        if job.mode == "echo":
            while True:
                connection.send(connection.receive())
        with one_order:
            connection.send(JOINED)
            members[connection] = None
        try:
            while True:
                message = connection.receive()
                if job.mode == "room":
                    to_all(message)
                else:
                    publisher.told(message)
        finally:
            with one_order:
                members.pop(connection, None)

    Sock(app).route("/")(attend)
    server = make_server(
        "127.0.0.1",
        0,
        app,
        threaded=True,
        ssl_context=job.tls(),
    )
    listening(server.server_port)
    server.serve_forever()
