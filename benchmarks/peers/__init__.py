"""The compared servers: one module each, with the contract that ``contract`` describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata

__all__ = ["BARE", "HISTORY", "PEERS", "SHARED", "SUBJECT", "Peer"]

SUBJECT = "hubthread"
SHARED = "hubthread-shared"
HISTORY = "hubthread-history"
BARE = "bare"

_STALLS = "blocks for ever on a member that does not read, by design"

_ONLY_STORM = dict.fromkeys(
    ("fanout", "echo", "stalled", "idle", "large", "compression", "tls"),
    "differs only where several threads send to a room",
)


@dataclass(frozen=True)
class Peer:
    """A server to compare with."""

    name: str
    what: str
    module: str
    needs: tuple[str, ...] = ()
    """The distributions; the first one's version matters most."""
    without: Mapping[str, str] = field(default_factory=dict)
    """The works that it takes no part in, with the reasons."""
    client: tuple[str, ...] = ()
    """The options of the load client for this server."""

    def versions(self) -> dict[str, str] | None:
        """Return the versions of its distributions; None if one is not installed."""
        try:
            return {name: metadata.version(name) for name in self.needs}
        except metadata.PackageNotFoundError:
            return None


_ALL = (
    Peer(SUBJECT, "hubthread, as installed", "hubthread", ("hubthread", "wsproto", "h11")),
    Peer(
        SHARED,
        "hubthread with Readers.SHARED",
        "hubthread",
        ("hubthread", "wsproto", "h11"),
    ),
    Peer(
        HISTORY,
        "hubthread with a room that keeps 1,000 pushes",
        "hubthread",
        ("hubthread", "wsproto", "h11"),
        dict.fromkeys(
            ("echo", "stalled", "idle", "large", "compression", "tls"),
            "differs only where pushes go to a room",
        ),
    ),
    Peer(
        "hubthread-sessions",
        "hubthread with Readers.SHARED, and a session for each client",
        "hubthread",
        ("hubthread", "wsproto", "h11"),
        dict.fromkeys(
            ("storm", "fanout", "echo", "stalled", "large", "compression", "tls"),
            "differs only in what a client keeps",
        ),
        ("--session",),
    ),
    Peer(
        BARE,
        "a plain loop over send(), frames of known size, nothing checked: the limit for one "
        "send a message",
        "bare",
        without={
            "stalled": _STALLS,
            "compression": "has none",
            "tls": "has none",
            "idle": "has no protocol, so nothing to compare",
        },
    ),
    Peer(
        "picows",
        "picows (Cython on asyncio), send to each",
        "picows",
        ("picows", "aiofastnet"),
        {"compression": "has none"},
    ),
    Peer(
        "websockets",
        "websockets on asyncio, broadcast()",
        "websockets_asyncio",
        ("websockets",),
    ),
    Peer(
        "websockets-loop",
        "websockets on asyncio, await send() to each",
        "websockets_asyncio",
        ("websockets",),
        dict.fromkeys(("echo", "idle"), "the same as websockets"),
    ),
    Peer("sync", "websockets.sync, send() to each", "websockets_sync", ("websockets",)),
    Peer(
        "sync-broadcast",
        "websockets.sync, its broadcast()",
        "websockets_sync",
        ("websockets",),
        dict.fromkeys(("echo", "idle"), "the same as sync"),
    ),
    Peer(
        "sync-unlocked",
        "websockets.sync, send() to each by all threads at once: no common order",
        "websockets_sync",
        ("websockets",),
        _ONLY_STORM,
    ),
    Peer(
        "flask-sock",
        "flask-sock with simple-websocket on werkzeug, threaded",
        "flask_sock",
        ("flask-sock", "simple-websocket", "flask", "werkzeug", "wsproto"),
    ),
    Peer(
        "flask-sock-unlocked",
        "flask-sock, send() to each by all threads at once: no common order",
        "flask_sock",
        ("flask-sock", "simple-websocket", "flask", "werkzeug", "wsproto"),
        _ONLY_STORM,
    ),
    Peer(
        "socketio",
        "python-socketio in threading mode, with simple-websocket on werkzeug",
        "socketio",
        ("python-socketio", "python-engineio", "simple-websocket", "werkzeug", "wsproto"),
        client=("--socketio",),
    ),
)

PEERS = {peer.name: peer for peer in _ALL}
