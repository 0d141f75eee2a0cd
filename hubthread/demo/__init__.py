"""``hubthread demo``: a chat and a game, their pages and their health, on one port.

Layer: top.  Threads: each page request has one of its own; see ``chat`` and ``arena`` for
the rest.

=========================================  =============================================
``/``, ``/arena``, their ``.js``, ``.css``  the pages
``/ws``                                    the WebSocket, of both: headers tell apart
``/healthz``                               for a machine that asks whether all is well
=========================================  =============================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib import resources

from hubthread import (
    Closed,
    ExecTimeout,
    Hub,
    HubSetting,
    IOContext,
    JsonHeader,
    MatcherError,
    MatcherMap,
    Overflow,
    Request,
    Response,
    Server,
    WebsocketPeriod,
)
from hubthread.demo.arena import Arena
from hubthread.demo.chat import Chat
from hubthread.demo.users import Refused, User

__all__ = ["Demo", "serve"]

PAGES = {
    "/": "chat.html",
    "/arena": "arena.html",
    **{f"/{name}": name for name in ("arena.js", "arena.css", "chat.js", "chat.css")},
    **{f"/{name}": name for name in ("shared.js", "style.css")},
}
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}

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


class Demo:
    """The chat and the arena.  ``hub`` is made here, and not started yet.

    Threads: the callbacks run in the order of their client.

    :param new_hub: a ``VirtualHub`` plays it in virtual time.
    """

    def __init__(self, new_hub: Callable[[HubSetting[User, str]], Hub[User, str]] = Hub) -> None:
        matcher = MatcherMap[User, str](JsonHeader())
        self.chat = Chat(matcher)
        self.arena = Arena(matcher)
        self.hub = new_hub(
            HubSetting(
                meta_gen=User,
                hub_name="demo",
                receive_matcher=matcher,
                receive_matcher_error=self.on_error,
                on_receive_message=self.arena.on_receive,
                on_connection_start=self.chat.on_start,
                on_connection_close=self.on_close,
                # Of the arena's pictures a slow page gets the newest.  The chat's messages
                # have no key: whoever does not take them is closed, and comes back.
                overflow=Overflow.LATEST,
                # JSON may write a character in 12 bytes ("\\ud83d\\ude00").
                websocket_period=WebsocketPeriod(message_buffer_size=32 * 1024),
            )
        )
        self.chat.hub = self.hub

    def on_error(self, ctx: IOContext, user: User, error: Exception) -> None:
        """Tell the page what was wrong; the connection stays."""
        about = error.header if isinstance(error, MatcherError) else None
        if isinstance(error, (MatcherError, Refused)):
            # What the dataclass itself objects to is the cause, in words for users.
            text = str(error.__cause__ or error)
        elif isinstance(error, Closed):
            text = "The server is going away."
        else:
            ctx.logger.error("demo: a handler of %r raised", ctx, exc_info=error)
            text = "The server failed to do that."
        ctx.write_json({"type": "error", "about": about, "text": text})

    def on_close(self, ctx: IOContext, user: User) -> None:
        """The last of it, however the connection ended."""
        self.chat.on_close(ctx, user)
        self.arena.on_close(ctx, user)


def serve(demo: Demo, host: str, port: int) -> Server:
    """Serve a demo whose hub runs, once; see ``hub.serve``."""
    demo.arena.open(demo.hub)
    pages = {path: _page(name) for path, name in PAGES.items()}
    return demo.hub.serve(
        host, port, path="/ws", pages={**pages, "/healthz": _health_page(demo.hub)}
    )


def _page(name: str) -> Callable[[Request], Response]:
    body = (resources.files(__name__) / "pages" / name).read_bytes()
    content_type = f"{TYPES[name.partition('.')[2]]}; charset=utf-8"
    response = Response(200, body, content_type, HEADERS)
    return lambda request: response


def _health_page(hub: Hub[User, str]) -> Callable[[Request], Response]:
    began = time.monotonic()

    def health(request: Request) -> Response:
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
