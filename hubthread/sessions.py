"""The sessions of a hub: clients that come back after a lost connection.

Layer: base.  Threads: immutable values; any thread may read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hubthread.checks import check_function, check_number
from hubthread.errors import SettingError
from hubthread.nodes import Address

__all__ = ["Moved", "Sessions"]


@dataclass(frozen=True)
class Moved:
    """The data of a client that was in another hub before; see ``Sessions.load``."""

    saved: Any
    """The value that ``Sessions.save`` has returned in the other hub."""
    rooms: tuple[str, ...]
    """The names of the shared rooms that the client was in.

    When ``Sessions.load`` has returned, the client is let into those of them that are open."""
    address: Address
    """``ctx.address`` in the other hub."""


@dataclass(frozen=True)
class Sessions:
    """Clients of ``hubthread.1`` stay the same client when they come back in time.

    :raises SettingError: for a value out of range.
    """

    grace: float = 30.0
    """Seconds for which a client whose connection is lost may come back."""
    limit: int = 10_000
    """The most clients that may be away.  When more clients lose their connections, these clients
    end.  ``Limits.connections_per_address`` limits the clients of one address in the same way."""
    sent_bytes: int = 64 << 10
    """The most bytes of sent messages that are kept for each client.  The hub notices a lost
    connection only after some time, and sends the messages of this time again.  Pushes are kept
    once for all members."""
    save: Callable[[Any, Any], object] | None = None
    """Called with ``(ctx, meta)``; returns data about the client for other hubs, a value that JSON
    can express.

    With ``save`` and ``load`` a client may come back in any hub of the backplane.  ``save`` runs
    in the order of the client's callbacks: after the start, when the connection is lost, when the
    client has joined or left a shared room, and when another hub asks."""
    load: Callable[[Any, Moved], Any] | None = None
    """Called with ``(ctx, moved)``; returns the meta of a client that was in another hub.

    It runs before ``on_connection_resume``.  Its result replaces the meta that ``meta_gen`` has
    returned at the handshake."""

    def __post_init__(self) -> None:
        check_number("grace", self.grace, 0)
        check_number("limit", self.limit, 1, whole=True)
        check_number("sent_bytes", self.sent_bytes, 1, whole=True)
        check_function("save", self.save, "ctx", "meta")
        check_function("load", self.load, "ctx", "moved")
        if (self.save is None) != (self.load is None):
            raise SettingError("load", "expected save and load, or neither of them")
