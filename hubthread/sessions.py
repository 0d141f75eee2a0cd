"""The sessions of a hub: clients that come back after a lost connection.

Layer: base.  Threads: immutable values; any thread may read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hubthread.checks import check_number

__all__ = ["Sessions"]


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

    def __post_init__(self) -> None:
        check_number("grace", self.grace, 0)
        check_number("limit", self.limit, 1, whole=True)
        check_number("sent_bytes", self.sent_bytes, 1, whole=True)
