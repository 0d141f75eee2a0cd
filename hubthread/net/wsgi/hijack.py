"""Hijack a connection from the WSGI server that has accepted it.

A WSGI server goes on using the socket after the application has returned: it writes a
response, drains, half-closes, or waits for the next request.  So the hub duplicates the
descriptor and replaces the server's copy (``dup2``) by a decoy: one end of a socket pair.  The
other end, the drain, takes what the server still writes and is already half-closed.  The server
therefore sees a client that reads one response and hangs up, which every server can treat.

``_LOCATORS`` says where each server keeps its socket.  Only werkzeug and gunicorn document the
place.

Layer: net.  Threads: the thread that runs the WSGI application for the request.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hubthread.errors import HandshakeRejected
from hubthread.net.transport import Stream

__all__ = [
    "CAN_HIJACK",
    "Drain",
    "Hijacked",
    "Located",
    "decoy",
    "hijack",
    "is_plain",
    "locate",
    "read_buffer",
    "refuse_greenlets",
]

CAN_HIJACK = sys.platform != "win32"
"""True where a socket can replace another: Windows has no ``dup2`` for sockets."""

_SUPPORTED = "werkzeug (flask run), gunicorn with sync or gthread workers, cheroot or wsgiref"


class Located(NamedTuple):
    """A server's connection, and how to get the bytes that the server has already read."""

    sock: Stream
    """The server's socket."""
    read_ahead: Callable[[], bytes]
    """Takes all that the server's buffer holds.  If the buffer is empty, it reads the socket."""


class Drain:
    """The far end of a decoy.  It takes the server's answer; keep it until that is written.

    Threads: the thread of the request.
    """

    def __init__(self, far: Stream) -> None:
        self._far = far

    def close(self) -> None:
        """Let the server see that its peer has gone."""
        self._far.close()

    # A server that fails in the middle of an answer may not call close.
    __del__ = close


class Hijacked(NamedTuple):
    """A connection that belongs to the hub now."""

    sock: Stream
    """The hub's socket."""
    trailing: bytes
    """The bytes that the server had read beyond the request."""
    drain: Drain
    """The far end of the decoy that the server has."""
    located: Located
    """The server's place for the connection."""

    def give_back(self) -> None:
        """Give the connection back to the server."""
        os.dup2(self.sock.fileno(), self.located.sock.fileno(), inheritable=False)
        self.sock.close()
        self.drain.close()


def refuse_greenlets(environ: Mapping[str, Any]) -> None:
    """Refuse a server whose threads and sockets are greenlets.

    :raises HandshakeRejected: 501, with a sentence that says what to use instead.
    """
    sock, _ = _find(environ)
    kind = type(sock).__module__.partition(".")[0]
    if "eventlet.input" in environ or kind in ("gevent", "eventlet"):
        raise HandshakeRejected(
            501,
            f"{_name(environ)} runs its workers as greenlets, and hubthread needs threads: "
            f"use {_SUPPORTED}, or hub.serve in a process of its own.",
        )


def locate(environ: Mapping[str, Any]) -> Located:
    """Return the server's connection behind a request.

    :raises HandshakeRejected: 501, with a sentence that says what to use instead.
    """
    sock, read_ahead = _find(environ)
    if not isinstance(sock, socket.socket):
        raise HandshakeRejected(
            501,
            f"{_name(environ)} does not let go of a connection: use {_SUPPORTED}, or hub.serve "
            f"on a port of its own.",
        )
    if read_ahead is None:
        raise HandshakeRejected(
            501,
            f"A middleware has replaced wsgi.input, so the bytes that {_name(environ)} has read "
            f"of this connection would be lost: exempt requests with 'Upgrade: websocket' from "
            f"that middleware.",
        )
    return Located(sock, read_ahead)


def _find(environ: Mapping[str, Any]) -> tuple[Any, Callable[[], bytes] | None]:
    for locator in _LOCATORS:
        found = locator(environ, environ.get("wsgi.input"))
        if found[0] is not None:
            return found
    return None, None


def _name(environ: Mapping[str, Any]) -> str:
    return environ.get("SERVER_SOFTWARE") or "This WSGI server"


def is_plain(sock: Stream) -> bool:
    """Return True if the socket carries the peer's own bytes, without TLS of the server's."""
    return not isinstance(sock, ssl.SSLSocket)


def hijack(located: Located) -> Hijacked:
    """Take a plain connection; leave the server a decoy.

    :raises OSError: when no descriptor is left; the server still has its connection then.
    """
    with contextlib.ExitStack() as undo:
        ours = undo.enter_context(socket.socket(fileno=os.dup(located.sock.fileno())))
        drain = decoy(located.sock)
        undo.pop_all()
    # Read after the replacement: the buffer gives its bytes, and the decoy only end of file.
    return Hijacked(ours, read_buffer(located), drain, located)


def decoy(sock: Stream) -> Drain:
    """Replace a server's ``sock`` by a peer that reads one response and sends nothing."""
    near, far = socket.socketpair()
    with near:
        far.shutdown(socket.SHUT_WR)
        os.dup2(near.fileno(), sock.fileno(), inheritable=False)
    return Drain(far)


def read_buffer(located: Located) -> bytes:
    """Return the bytes that the server has read beyond the request.

    The server's socket must not block.  One call empties the buffer; if the buffer was empty, the
    call reads the socket.  There is no second call, because the connection itself bounds a peer
    that goes on sending.
    """
    with contextlib.suppress(OSError):  # nothing there, or broken: the next read says so
        return located.read_ahead()
    return b""


# One function for each kind of server.  Each takes environ and wsgi.input, and returns the
# socket or None, and the reader of the server's buffer or None.

_Found = tuple[Any, Callable[[], bytes] | None]


def _werkzeug(environ: Mapping[str, Any], source: Any) -> _Found:
    return environ.get("werkzeug.socket"), getattr(source, "read1", None)


def _gunicorn(environ: Mapping[str, Any], source: Any) -> _Found:
    unreader = getattr(getattr(source, "reader", None), "unreader", None)
    return environ.get("gunicorn.socket"), getattr(unreader, "read", None)


def _wsgiref(environ: Mapping[str, Any], source: Any) -> _Found:
    raw = getattr(source, "raw", None)
    return getattr(raw, "_sock", None), getattr(source, "read1", None)


def _cheroot(environ: Mapping[str, Any], source: Any) -> _Found:
    """Look into a wrapper that knows the length of the body; gevent has the like."""
    return _wsgiref(environ, getattr(source, "rfile", None))


_LOCATORS = (_werkzeug, _gunicorn, _wsgiref, _cheroot)
