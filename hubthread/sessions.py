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
    """The belongings of a client that was in another hub before; see ``Sessions.load``."""

    saved: Any
    """The value that ``Sessions.save`` has returned there."""
    rooms: tuple[str, ...]
    """The names of the shared rooms that the client was in.

    It is let into those that are open here when ``Sessions.load`` has returned."""
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
    """The number of clients that are away at most.  A client that loses its connection beyond
    it has left.  ``Limits.connections_per_address`` limits those of one address in the same
    way."""
    sent_bytes: int = 64 << 10
    """Bytes of the latest sent messages that are kept for each client.  A connection is lost some
    time before anybody notices, and the messages of that time go out again.  Pushes are kept once
    for all members."""
    save: Callable[[Any, Any], object] | None = None
    """A function of ``(ctx, meta)``: returns what JSON can say of a client, for other hubs.

    With ``save`` and ``load`` a client may come back in any hub of the backplane.  It is called in
    the order of the client's callbacks: after the start, when the connection is lost, when the
    client has come into a shared room or left one, and when another hub asks."""
    load: Callable[[Any, Moved], Any] | None = None
    """A function of ``(ctx, moved)``: returns the meta of a client that was in another hub.

    It is called before ``on_connection_resume``.  Its result takes the place of what ``meta_gen``
    has returned at the handshake."""

    def __post_init__(self) -> None:
        check_number("grace", self.grace, 0)
        check_number("limit", self.limit, 1, whole=True)
        check_number("sent_bytes", self.sent_bytes, 1, whole=True)
        check_function("save", self.save, "ctx", "meta")
        check_function("load", self.load, "ctx", "moved")
        if (self.save is None) != (self.load is None):
            raise SettingError("load", "expected save and load, or neither of them")
