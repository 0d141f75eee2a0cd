"""A WSGI application with a hub, as the servers under test run it.

A client at ``/ws`` gets its messages back and is in the room.  A POST to ``/push`` pushes its body
to the room.  Every other path is a page with the hub's figures.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from hubthread import Hub, HubSetting

logging.basicConfig(stream=sys.stderr, level=logging.INFO)


def start(ctx: Any, meta: Any) -> None:
    room.answer(ctx)


def message(ctx: Any, meta: Any) -> bool:
    request = ctx.handshake
    if ctx.payload == "request":
        facts = (request.path, request.query["room"], request.cookies["user"], request.peer[0])
        ctx.write(" ".join(facts))
    else:
        ctx.write(ctx.payload)
    return True


hub: Hub[Any, Any] = Hub(HubSetting(dict, on_connection_start=start, on_receive_message=message))
room = hub.hotline()


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The WSGI application."""
    path = environ["PATH_INFO"]
    if path.startswith("/ws"):
        return hub.websocket_handler(environ, start_response)
    if path == "/twice":
        hub.websocket_handler(environ)
        return hub.websocket_handler(environ, start_response)
    if path == "/push":
        length = int(environ.get("CONTENT_LENGTH") or 0)
        room.push(environ["wsgi.input"].read(length).decode())
    figures = hub.statistics()
    body = json.dumps(
        {
            "clients": figures.clients,
            "moved": figures.wsgi_moved,
            "parked": figures.wsgi_parked,
            "threads": threading.active_count(),
        }
    ).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def read_first(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The same application behind a middleware that reads the body and puts it back."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return application(environ | {"wsgi.input": io.BytesIO(body)}, start_response)


proxied = ProxyFix(application, x_for=1, x_proto=1)
"""The same application behind a proxy."""
