"""``hubthread demo``: a chat and a game, with their pages and a health check, on one port.

Layer: top.  Threads: each page request has a thread of its own; ``chat`` and ``arena`` say which
threads run their handlers.

chat.py      the chat: rooms on the hub thread
arena.py     the game: a ticking room with a state, inputs, an input gate and a countdown
field.py     the rules of the game, without threads
users.py     the users, the chat rooms and their names
figures.py   the statistics panel of the chat
pages/       the HTML, CSS and JavaScript

=============================================  ================================================
``/``, ``/arena``, and their ``.js``, ``.css``  the pages
``/ws``                                        the WebSocket of both; headers separate them
``/cards``                                     the way to the card game, if there is one
``/healthz``                                   the health check, for machines
=============================================  ================================================
"""

from __future__ import annotations

import json
import re
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
    Request,
    Response,
    Server,
    WebsocketPeriod,
)
from hubthread.demo.arena import BOTS, Arena
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

# The page may load only its own script and style and talk only to its own server, so that no
# text of a user can become a script, even if the page's script has a bug.
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

HUB_TIMEOUT = 2.0
"""Seconds in which the hub thread must answer the health check."""


class Demo:
    """The chat and the arena, and their hub, which is not started yet.

    Threads: the callbacks run in the order of their client.

    :param new_hub: makes the hub; ``VirtualHub`` makes one in virtual time.
    :param bots: players in the arena that the server moves.
    """

    def __init__(
        self,
        new_hub: Callable[[HubSetting[User, str]], Hub[User, str]] = Hub,
        bots: int = BOTS,
    ) -> None:
        matcher = MatcherMap[User, str](JsonHeader())
        self.cards_port: int | None = None
        """The port of the card game, which has a hub of its own; ``None`` if it is not served."""
        self.chat = Chat(matcher)
        self.arena = Arena(matcher, bots)
        self.hub = new_hub(
            HubSetting(
                meta_gen=User,
                hub_name="demo",
                receive_matcher=matcher,
                receive_matcher_error=self.on_error,
                on_receive_message=self.arena.on_receive,
                on_connection_start=self.chat.on_start,
                may_join=lambda ctx, user, name: name == "arena",
                # JSON may need 12 bytes for a character ("\\ud83d\\ude00").
                websocket_period=WebsocketPeriod(message_buffer_size=32 * 1024),
            )
        )
        self.chat.hub = self.hub

    def on_error(self, ctx: IOContext, user: User, error: Exception) -> None:
        """Send the page an error; the connection stays open."""
        about = error.header if isinstance(error, MatcherError) else None
        if isinstance(error, (MatcherError, Refused)):
            # The cause is the dataclass's own ValueError, which is worded for users.
            text = str(error.__cause__ or error)
        elif isinstance(error, Closed):
            text = "The server is going away."
        else:
            ctx.logger.error("demo: a handler of %r raised", ctx, exc_info=error)
            text = "The server failed to do that."
        ctx.write_json({"type": "error", "about": about, "text": text})


def serve(demo: Demo, host: str, port: int) -> Server:
    """Serve a demo whose hub runs; call it once.  See ``hub.serve``."""
    demo.arena.open(demo.hub)
    pages = {path: _page(name) for path, name in PAGES.items()}
    pages["/cards"] = lambda request: _way_to_cards(demo, request)
    return demo.hub.serve(
        host,
        port,
        path="/ws",
        client="/hubthread.js",
        pages={**pages, "/healthz": _health_page(demo.hub)},
    )


def _page(name: str) -> Callable[[Request], Response]:
    body = (resources.files(__name__) / "pages" / name).read_bytes()
    content_type = f"{TYPES[name.partition('.')[2]]}; charset=utf-8"
    response = Response(200, body, content_type, HEADERS)
    return lambda request: response


def _way_to_cards(demo: Demo, request: Request) -> Response:
    """Send the browser to the port of the card game."""
    if demo.cards_port is None:
        return Response(404, b"The card game is not served here.")
    host = re.sub(r":[0-9]*$", "", request.headers.get("host", ""))
    location = f"//{host}:{demo.cards_port}/"
    return Response(303, headers=(("Location", location), ("Cache-Control", "no-store")))


def _health_page(hub: Hub[User, str]) -> Callable[[Request], Response]:
    began = time.monotonic()

    def health(request: Request) -> Response:
        try:
            hub.exec_sync(lambda _: None, HUB_TIMEOUT)
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
