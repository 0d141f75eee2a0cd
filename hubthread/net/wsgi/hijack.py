"""Takes a connection away from the WSGI server that has accepted it.

Layer: net.  Threads: the one that runs the WSGI application for that request.

A WSGI server keeps its hands on the socket after the application has returned: it writes
a response, drains, half-closes, waits for the next request.  So the hub gets a duplicate
of the descriptor, and under the server's own number comes one end of a socket pair.  Its
other end takes what the server still says, and has said its own last word: the server
finds a peer that waits for one answer and then goes, which every server can treat.

Where each server has its socket is in ``_PLACES``; none of them says so in its
documentation, except werkzeug and gunicorn.
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
    "CAN_MOVE",
    "Place",
    "Sink",
    "Taken",
    "bury",
    "find",
    "is_plain",
    "read_buffer",
    "refuse_green",
    "take",
]

CAN_MOVE = sys.platform != "win32"
"""Whether a descriptor can be put in another's place: Windows has no ``dup2`` for sockets."""

_WORKS = "werkzeug (flask run), gunicorn with sync or gthread workers, cheroot or wsgiref"


class Place(NamedTuple):
    """Where a server has a connection, and what of it it has read already."""

    sock: Stream
    read_ahead: Callable[[], bytes]
    """Takes all that the server's buffer holds; where that is nothing, reads the socket."""


class Sink:
    """The far end of what a server is left with, until the answer is through.

    Threads: that of the request.
    """

    def __init__(self, far: Stream) -> None:
        self._far = far

    def close(self) -> None:
        """Let the server see that nobody is there."""
        self._far.close()

    # A server that fails in the middle of an answer may not close it.
    __del__ = close


class Taken(NamedTuple):
    """A connection that is the hub's now."""

    sock: Stream
    trailing: bytes
    """What the server had read beyond the request."""
    sink: Sink
    place: Place

    def undo(self) -> None:
        """Give the connection back to the server."""
        os.dup2(self.sock.fileno(), self.place.sock.fileno(), inheritable=False)
        self.sock.close()
        self.sink.close()


def refuse_green(environ: Mapping[str, Any]) -> None:
    """:raises HandshakeRejected: 501, where greenlets play threads and sockets."""
    sock, _ = _look(environ)
    kind = type(sock).__module__.partition(".")[0]
    if "eventlet.input" in environ or kind in ("gevent", "eventlet"):
        raise HandshakeRejected(
            501,
            f"{_name(environ)} runs its workers as greenlets, and hubthread is for threads: "
            f"use {_WORKS}, or hub.serve in a process of its own.",
        )


def find(environ: Mapping[str, Any]) -> Place:
    """The connection behind a request.

    :raises HandshakeRejected: 501, with a sentence that says what to use instead.
    """
    sock, read_ahead = _look(environ)
    if not isinstance(sock, socket.socket):
        raise HandshakeRejected(
            501,
            f"{_name(environ)} does not let go of a connection: use {_WORKS}, or hub.serve on "
            f"a port of its own.",
        )
    if read_ahead is None:
        raise HandshakeRejected(
            501,
            f"A middleware has replaced wsgi.input, so what {_name(environ)} has read of this "
            f"connection would be lost: let it leave requests with 'Upgrade: websocket' alone.",
        )
    return Place(sock, read_ahead)


def _look(environ: Mapping[str, Any]) -> tuple[Any, Callable[[], bytes] | None]:
    for place in _PLACES:
        found = place(environ, environ.get("wsgi.input"))
        if found[0] is not None:
            return found
    return None, None


def _name(environ: Mapping[str, Any]) -> str:
    return environ.get("SERVER_SOFTWARE") or "This WSGI server"


def is_plain(sock: Stream) -> bool:
    """Whether the bytes on the socket are the peer's own, and not TLS of the server's."""
    return not isinstance(sock, ssl.SSLSocket)


def take(place: Place) -> Taken:
    """Take a plain connection; the server keeps one whose peer has gone.

    :raises OSError: when there is no descriptor left; nothing has happened then.
    """
    with contextlib.ExitStack() as undo:
        ours = undo.enter_context(socket.socket(fileno=os.dup(place.sock.fileno())))
        sink = bury(place.sock)
        undo.pop_all()
    # What comes now is what the buffer held: the socket itself says end of file.
    return Taken(ours, read_buffer(place), sink, place)


def bury(sock: Stream) -> Sink:
    """Put a peer in the place of a server's, that takes an answer and says nothing."""
    near, far = socket.socketpair()
    with near:
        far.shutdown(socket.SHUT_WR)
        os.dup2(near.fileno(), sock.fileno(), inheritable=False)
    return Sink(far)


def read_buffer(place: Place) -> bytes:
    """What the server has read beyond the request; the socket must not block.

    One read empties a buffer.  Where that was empty it is of the socket, and not repeated:
    a peer that goes on sending is the connection's to bound.
    """
    with contextlib.suppress(OSError):  # would block; or broken, as the next read will say
        return place.read_ahead()
    return b""


# One function for each kind of server: environ and wsgi.input → socket or None, and what
# reads its buffer or None.

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
    """The same, in a wrapper that knows the length of the body; gevent's is alike."""
    return _wsgiref(environ, getattr(source, "rfile", None))


_PLACES = (_werkzeug, _gunicorn, _wsgiref, _cheroot)
