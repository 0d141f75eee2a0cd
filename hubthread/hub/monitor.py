"""The monitor page of a hub: its files, its figures as JSON, and actions.

An open page asks for the figures every two seconds.  The thread of the request makes them, without
the hub thread, so that the page also shows a hub that is stuck.

Layer: hub.  Threads: any thread may call the methods of a ``Monitor``.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from hubthread.checks import check_callable, check_kind
from hubthread.concurrency.clock import RealClock
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import (
    Closed,
    HandshakeRejected,
    HubThreadError,
    SettingError,
    SettingTypeError,
    UsageError,
    WrongValue,
)
from hubthread.hub.overview import overview
from hubthread.hub.sampler import Sampler
from hubthread.net.bind import is_loopback
from hubthread.protocol.http import Response
from hubthread.protocol.request import Request
from hubthread.protocol.wsgi_environ import request_of
from hubthread.rooms.ticking.control import FrameControl
from hubthread.serving.accept import check_host, refusal_response
from hubthread.serving.listening import Endpoint
from hubthread.serving.server import Server
from hubthread.serving.wsgi import WSGIAnswer, answer_with

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Iterable

__all__ = ["Guard", "Monitor"]

Guard = Callable[[Request], "str | None"]

LEAST_TOKEN: Final = 16
"""Characters of the shortest token, which cannot be guessed."""

FILES: Final = {"": "monitor.html", "monitor.js": "monitor.js", "monitor.css": "monitor.css"}
TYPES: Final = {"html": "text/html", "js": "text/javascript", "css": "text/css"}

# The page may load only its own script and style and talk only to its own server, so that no
# name of a client can become a script, even if the page's script has a bug.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)

MARK: Final = "x-hubthread-monitor"
"""The header field that every action needs.  A page of another origin cannot send it."""


class Monitor:
    """A page that shows what a hub does, and lets an operator act.  Made by ``hub.monitor``.

    ``serve`` listens on a port of its own.  ``app`` is a WSGI application for a server that runs
    already.  The page samples the hub from the moment that the monitor is made, and keeps ten
    minutes.

    Threads: every method may be called on any thread.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        token: str | None,
        guard: Guard | None,
        actions: bool,
    ) -> None:
        check_kind("actions", actions, bool, "True or False")
        if guard is not None:
            check_callable("guard", guard, "request")
            if token is not None:
                raise SettingError("token", "expected None together with guard")
        elif token is None:
            token = secrets.token_urlsafe(24)
        else:
            _check_token(token)
        self.token = token
        """The token that the page asks for; ``None`` with a guard."""
        self._core = core
        self._guard = guard
        self._actions = actions
        self._sampler = Sampler(core)
        core.on_start.append(self._sampler.begin)
        self._sampler.begin()

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, ssl: tls.SSLContext | None = None
    ) -> Server:
        """Listen for browsers; return at once.  The default reaches this machine only.

        :param host: as for ``Hub.serve``; a host that others reach should have ``ssl``.
        :param port: 0 takes a free port; ``url(server)`` says which.
        :raises OSError, SettingError, HubClosed: as ``Hub.serve``.
        """
        if not isinstance(self._core.clock, RealClock):
            raise UsageError("a virtual hub has no sockets: call monitor.app")
        self._core.state.refuse_closing("opens no server")
        endpoint = Endpoint(host, port, ssl, backlog=64)
        endpoint.check("host")
        places = [f"/{name}" for name in (*FILES, "data", "act")]
        server = _Server(self._core, endpoint, None, dict.fromkeys(places, self._page))
        server._open(endpoint, MOST_CONNECTIONS)
        if ssl is None and not is_loopback(server.address):
            text = "the monitor at %s is reachable from other machines and not encrypted"
            log_safely(self._core.logger, logging.WARNING, text, server.http_url)
        return server

    def url(self, server: Server) -> str:
        """Return the address of the page on that server, with the token.

        The token stands after a ``#``.  A browser never sends this part, so no log contains it.
        """
        return server.http_url + ("" if self.token is None else f"#token={self.token}")

    def app(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request inside a WSGI server.  A WSGI application, to be mounted at a path."""
        check_kind("environ", environ, dict, "the environ of a WSGI request")
        place = environ.get("PATH_INFO", "")
        return self._answer_wsgi(environ, place.removeprefix("/") if place else None)(
            environ, start_response
        )

    def _answer_wsgi(self, environ: Mapping[str, Any], name: str | None) -> WSGIAnswer:
        """Return the answer to a request for one of the files; see ``_answer``."""
        request: Request | None = None
        try:
            request = request_of(environ, post=name == "act")
            check_host(self._core, request, self._core.hosts)
            response = self._answer(request, name)
        except HandshakeRejected as refusal:
            self._core.refusals.add(request, refusal.status, refusal.reason)
            response = refusal_response(self._core, refusal)
        return answer_with(response, head=environ.get("REQUEST_METHOD") == "HEAD")

    def _page(self, request: Request) -> Response:
        return self._answer(request, request.path[1:])

    def _answer(self, request: Request, name: str | None) -> Response:
        """Answer one request.

        :param name: the last part of the request's path; ``None`` if the path of the page lacks
            its slash at the end.
        :raises HandshakeRejected: for a request that is refused.
        """
        if name is None:  # with the slash, the page finds its files below its own path
            last = request.target.partition("?")[0].rpartition("/")[2]
            return Response(308, headers=(("Location", f"./{last}/"),))
        if name in FILES and self._guard is None:  # the files say nothing about the hub
            return _file(FILES[name])
        who = self._who(request)
        if name in FILES:
            return _file(FILES[name])
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HandshakeRejected(403, "The monitor does not answer pages of other origins.")
        if name == "data":
            found = overview(self._core, self._sampler, request.query)
            found["actions"] = self._actions
            return _json(found)
        if name == "act":
            return self._act(request, who)
        raise HandshakeRejected(404, "The monitor has no such page.")

    def _who(self, request: Request) -> str:
        """Return the operator's name, for the log.

        :raises HandshakeRejected: for a request without the token, or that the guard refuses.
        """
        if self._guard is not None:
            name: object = self._guard(request)
            if not isinstance(name, str | None):
                wanted = f"expected the name of the user, or None, got {name!r}"
                raise SettingTypeError("guard", wanted)
            if not name:
                raise HandshakeRejected(403, "You may not see the monitor.")
            return name[:100]
        assert self.token is not None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self.token.encode()
        ):
            return f"the token, from {request.peer}"
        if given:
            text = "the monitor was asked with a wrong token by %s"
            incidents = self._core.incidents
            incidents.log_limited("monitor", logging.WARNING, text, request.peer)
        challenge = (("WWW-Authenticate", 'Bearer realm="hubthread monitor"'),)
        raise HandshakeRejected(401, "The monitor needs its token.", challenge)

    def _act(self, request: Request, who: str) -> Response:
        if request.method != "POST":
            raise HandshakeRejected(405, "An action needs POST.", (("Allow", "POST"),))
        if MARK not in request.headers:
            raise HandshakeRejected(403, f"An action needs the header field {MARK}.")
        if not self._actions:
            raise HandshakeRejected(403, "Actions are off: see hub.monitor(actions=True).")
        action = ACTIONS.get(request.query.get("do", ""))
        if action is None:
            allowed = ", ".join(ACTIONS)
            raise HandshakeRejected(400, f"do: expected one of {allowed}.")
        try:
            text = action(self._core, request.query)
        except HandshakeRejected:
            raise
        except HubThreadError as error:
            status = 400 if isinstance(error, WrongValue) else 409
            raise HandshakeRejected(status, f"{error}") from None
        line = "the monitor: %s, by %s"
        log_safely(self._core.logger, logging.WARNING, line, text, who)
        return _json({"done": text})


MOST_CONNECTIONS: Final = 100
"""Connections to the monitor's own port; a page uses one at a time."""


class _Server(Server):
    """A server of the monitor's page, without WebSockets."""

    _posts = ("/act",)

    def _is_here(self, request: Request) -> bool:
        return False


def _check_token(token: object) -> None:
    wanted = f"a string of {LEAST_TOKEN} or more printable ASCII characters without blanks"
    check_kind("token", token, str, wanted)
    assert isinstance(token, str)
    if len(token) < LEAST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise SettingError("token", f"expected {wanted}")


def _json(found: dict[str, Any]) -> Response:
    made = Response.json(found)
    return Response(made.status, made.body, made.content_type, HEADERS)


@cache
def _file(name: str) -> Response:
    body = (resources.files("hubthread") / "static" / name).read_bytes()
    kind = TYPES[name.partition(".")[2]]
    return Response(200, body, f"{kind}; charset=utf-8", HEADERS)


# Actions.  Each returns a text for the operator and the log, which says what was done.


def _kick(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    client = core.registry.client(_number(query))
    if client is None:
        raise HandshakeRejected(404, "This client is gone.")
    reason = query.get("reason", "")
    client.close(KICKED, reason)
    return f"closed {client!r}" + (f", for {reason[:100]!r}" if reason else "")


def _close_room(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    room = _room(core, query)
    room.close()
    return f"closed {room!r}"


def _pause(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    room = _ticking(core, query)
    room.pause()
    return f"paused {room!r}"


def _resume(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    room = _ticking(core, query)
    room.resume()
    return f"resumed {room!r}"


def _step(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    room = _ticking(core, query)
    room.step()
    return f"stepped {room!r} by one tick"


def _drain(core: Core[Any, Any], query: Mapping[str, str]) -> str:
    hub: Any = core.hub
    if hub.state != "running":
        raise HandshakeRejected(409, f"The hub is {hub.state}.")

    def drain() -> None:
        core.threads.leave()  # the hub's own threads must not wait for its clients
        with contextlib.suppress(Closed):
            hub.drain()

    core.threads.start(drain, "drain")
    return f"began to drain {hub!r}"


KICKED: Final = 1008
"""The close code for a client that an operator closes.  Such a client does not come back."""

ACTIONS: Final[Mapping[str, Callable[[Core[Any, Any], Mapping[str, str]], str]]] = {
    "kick": _kick,
    "close": _close_room,
    "pause": _pause,
    "resume": _resume,
    "step": _step,
    "drain": _drain,
}


def _number(query: Mapping[str, str]) -> Any:
    text = query.get("id", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise HandshakeRejected(400, "id: expected the number of a client or room.")
    return int(text)


def _room(core: Core[Any, Any], query: Mapping[str, str]) -> Any:
    room = core.registry.hotline(_number(query))
    if room is None:
        raise HandshakeRejected(404, "This room is closed.")
    return room


def _ticking(core: Core[Any, Any], query: Mapping[str, str]) -> FrameControl[Any]:
    room = _room(core, query)
    if not isinstance(room, FrameControl):
        raise HandshakeRejected(409, "This room has no clock.")
    return room
