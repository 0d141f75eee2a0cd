"""``hubthread demo``: a chat, its page and its health, on one port.

Layer: top.  Threads: each page request has one of its own; see ``chat`` for the rest.

====================================  ==================================================
``/``, ``/chat.js``, ``/chat.css``    the page
``/ws``                               the WebSocket (``chat``)
``/healthz``                          for a machine that asks whether all is well
====================================  ==================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib import resources

from hubthread import ExecTimeout, Request, Response, Server
from hubthread.demo.chat import Chat as Chat

__all__ = ["Chat", "serve"]

PAGES = {
    "/": ("chat.html", "text/html; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
}

# The page loads its own script and style, talks to its own server, and nothing else: what
# a user types cannot become more than text even if the script forgot to see to it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),
)

HUB_PATIENCE = 2.0
"""Seconds that the hub thread may take to answer before it counts as ill."""


def serve(chat: Chat, host: str, port: int) -> Server:
    """Serve a chat whose hub runs; see ``hub.serve``."""
    pages = {path: _page(*page) for path, page in PAGES.items()}
    return chat.hub.serve(host, port, path="/ws", pages={**pages, "/healthz": _health_page(chat)})


def _page(name: str, content_type: str) -> Callable[[Request], Response]:
    body = (resources.files(__name__) / "pages" / name).read_bytes()
    response = Response(200, body, content_type, HEADERS)
    return lambda request: response


def _health_page(chat: Chat) -> Callable[[Request], Response]:
    began = time.monotonic()

    def health(request: Request) -> Response:
        hub = chat.hub
        try:
            hub.exec_sync(lambda _: None, HUB_PATIENCE)  # whether it still turns
            status, well = 200, "ok"
        except ExecTimeout:
            status, well = 503, "the hub thread does not answer"
        figures = hub.statistics()
        report = {
            "status": well,
            "clients": figures.clients,
            "rooms": figures.hotlines,
            "uptime": round(time.monotonic() - began, 1),
        }
        return Response(
            status,
            json.dumps(report).encode(),
            "application/json",
            (("Cache-Control", "no-store"),),
        )

    return health
