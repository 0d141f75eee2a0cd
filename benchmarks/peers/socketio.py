"""python-socketio in threading mode: simple-websocket on werkzeug's threaded server.

It uses WebSocket from the first byte, without long polling; the load client speaks Engine.IO
and Socket.IO (``--socketio``).  A message is the argument of a ``message`` event and therefore
quoted as JSON (133 bytes for 100).  python-socketio encodes it once for all members.  ``send``
without a room reaches every client.

With ``Job.redis`` the servers are one through its Redis manager, which also publishes.

A lock keeps one order for all members, as the other servers do.  Handlers run on the connection's
own thread (``async_handlers=False``): the default is a new thread for each message, which keeps no
order.  There is no backpressure: each client has an unbounded queue and a thread that empties it.
"""

from __future__ import annotations

import importlib
import logging
import threading
from typing import Any

from werkzeug.serving import make_server

from benchmarks.peers.contract import JOINED, Job, Publisher, listening

# By name, because this module has the name of the package.
socketio: Any = importlib.import_module("socketio")


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = socketio.Server(
        async_mode="threading",
        transports=["websocket"],
        async_handlers=False,
        always_connect=True,  # or ``connect`` could not send
        max_http_buffer_size=2 * job.size + 1024,
        client_manager=socketio.RedisManager(job.redis) if job.redis else None,
    )
    one_order = threading.Lock()

    def to_all(message: str) -> None:
        with one_order:
            server.send(message)

    publisher = Publisher(job, to_all)

    def connect(sid: str, environ: object) -> None:
        if job.mode != "echo":
            server.send(JOINED, to=sid)

    def message(sid: str, data: str) -> None:
        if job.mode == "echo":
            server.send(data, to=sid)
        elif job.mode == "room":
            to_all(data)
        else:
            publisher.told(data)

    server.on("connect", connect)
    server.on("message", message)
    wsgi = make_server(
        "127.0.0.1", 0, socketio.WSGIApp(server), threaded=True, ssl_context=job.tls()
    )
    listening(wsgi.server_port)
    wsgi.serve_forever()
