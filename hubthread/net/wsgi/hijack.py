"""Hijack a connection from the WSGI server that has accepted it.

Layer: net.  Threads: the thread that runs the WSGI application for the request.

A WSGI server goes on using the socket after the application has returned: it writes a
response, drains, half-closes, or waits for the next request.  So the hub duplicates the
descriptor and replaces the server's copy (``dup2``) by a decoy: one end of a socket pair.  The
other end, the drain, takes what the server still writes and is already half-closed.  The server
therefore sees a client that reads one response and hangs up, which every server can treat.

werkzeug and gunicorn name their socket in the environ.  Of other servers it is below the stream
that they give as ``wsgi.input``, and so is the buffer with the bytes that the server has read
ahead.  A middleware may have put a wrapper around that stream, so the search looks into it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinMethodType, MethodType, ModuleType, NoneType
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
    "refuse_server",
]

CAN_HIJACK = sys.platform != "win32"
"""True where a socket can replace another: Windows has no ``dup2`` for sockets."""

_SUPPORTED = (
    "werkzeug (flask run), gunicorn with sync or gthread workers, cheroot or wsgiref "
    "(Django's runserver)"
)

_DEPTH = 5
"""The most wrappers around a stream that are looked into, one inside another."""

_MOST_PARTS = 100

_NO_STREAMS = (str, bytes, bytearray, int, float, NoneType, Mapping, list, tuple, set, ModuleType)


class Located(NamedTuple):
    """A server's connection, and how to get the bytes that the server has already read."""

    sock: Stream
    """The server's socket."""
    read_ahead: Callable[[], bytes] | None
    """Takes all that the server's buffer holds.  If the buffer is empty, it reads the socket.

    None: a middleware has replaced the stream, and the buffer cannot be found."""


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


def refuse_server(environ: Mapping[str, Any]) -> None:
    """Refuse a server whose threads and sockets are greenlets, or that forks for each request.

    :raises HandshakeRejected: 501, with a sentence that says what to use instead.
    """
    found = _find(environ)
    kind = type(found.sock).__module__.partition(".")[0]
    if "eventlet.input" in environ or kind in ("gevent", "eventlet"):
        raise HandshakeRejected(
            501,
            f"{_name(environ)} runs its workers as greenlets, and hubthread needs threads: "
            f"use {_SUPPORTED}, or hub.serve in a process of its own.",
        )
    forks = environ.get("wsgi.multiprocess") and not environ.get("wsgi.multithread")
    if "werkzeug.socket" in environ and forks:
        raise HandshakeRejected(
            501,
            f"{_name(environ)} with processes=… forks a process for each request, which ends "
            f"with it: use threaded=True, or hub.serve in a process of its own.",
        )


def locate(environ: Mapping[str, Any]) -> Located:
    """Return the server's connection behind a request.

    :raises HandshakeRejected: 501, with a sentence that says what to use instead.
    """
    found = _find(environ)
    if isinstance(found.sock, socket.socket):
        return Located(found.sock, found.read_ahead)
    raise HandshakeRejected(
        501,
        f"{_name(environ)} does not let go of a connection, or a middleware has replaced "
        f"wsgi.input: use {_SUPPORTED}, and exempt requests with 'Upgrade: websocket' from such "
        f"middleware; or use hub.serve on a port of its own.",
    )


class _Found(NamedTuple):
    """A server's socket, if it was found, and the reader of its buffer, if that was found."""

    sock: Any
    read_ahead: Callable[[], bytes] | None


def _find(environ: Mapping[str, Any]) -> _Found:
    sock = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
    level: list[Any] = [environ.get("wsgi.input")]
    for _ in range(_DEPTH):
        for each in level:
            found = _buffer_of(each)
            if found is not None and (sock is None or found.sock is sock):
                return found
        level = [part for each in level for part in _parts(each)][:_MOST_PARTS]
    return _Found(sock, None)


def _buffer_of(stream: Any) -> _Found | None:
    """Return the socket below a server's stream, and the reader of what was read ahead of it."""
    raw, read1 = getattr(stream, "raw", None), getattr(stream, "read1", None)
    if isinstance(raw, socket.SocketIO) and read1 is not None:
        sock = getattr(raw, "_sock", None)
        return None if sock is None else _Found(sock, read1)
    if type(stream).__module__.startswith("gunicorn."):
        sock, read = getattr(stream, "sock", None), getattr(stream, "read", None)
        return None if sock is None or read is None else _Found(sock, read)
    return None


def _parts(wrapper: Any) -> Iterator[Any]:
    """Yield what a wrapper of ``wsgi.input`` holds: streams, or methods of them."""
    slots = [name for kind in type(wrapper).__mro__ for name in getattr(kind, "__slots__", ())]
    held = [getattr(wrapper, name, None) for name in slots]
    for value in [*getattr(wrapper, "__dict__", {}).values(), *held]:
        part = value.__self__ if isinstance(value, MethodType | BuiltinMethodType) else value
        if not isinstance(part, _NO_STREAMS):
            yield part


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
    if located.read_ahead is None:
        return b""
    with contextlib.suppress(OSError):  # nothing there, or broken: the next read says so
        return located.read_ahead()
    return b""
