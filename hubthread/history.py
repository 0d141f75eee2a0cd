"""Positions in the order of a shared room, and the bounds of its history.

Layer: base.  Threads: immutable values; any thread may read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hubthread.checks import check_number

__all__ = ["History", "Position", "Recovery"]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the order of a shared room's pushes."""

    epoch: str
    """The run of numbers that the offset belongs to.  A new epoch begins when earlier numbers may
    be lost, for example after a restart of the server."""
    offset: int
    """The number of a push in its epoch, from 1; 0 is the place before the first push."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The result of an ``answer`` to a client that comes back, or that asks for a replay."""

    recovered: bool
    """True if the client gets every push since its position.  False if the client must start
    afresh: then nothing is replayed, and the program should send a snapshot."""
    count: int
    """The number of pushes that the client gets before the live pushes."""
    position: Position
    """The position of the join.  The live pushes follow it."""


@dataclass(frozen=True)
class History:
    """The recent pushes that a shared room keeps, for clients that come back and for newcomers.

    :raises SettingError: for a value out of range.
    """

    size: int = 1000
    """The most pushes that are kept."""
    ttl: float = 600.0
    """Seconds without a push after which the pushes are forgotten."""
    max_bytes: int = 4 << 20
    """The most bytes of pushes that are kept."""
    recovery: int = 300
    """The most pushes that one client gets when it comes back.  A client that has missed more
    pushes starts afresh.  The pushes wait in the client's outbox, which has to hold them."""
    recovery_bytes: int = 1 << 20
    """The most bytes of pushes that one client gets when it comes back."""

    def __post_init__(self) -> None:
        check_number("size", self.size, 1, whole=True)
        check_number("ttl", self.ttl, 0)
        check_number("max_bytes", self.max_bytes, 1, whole=True)
        check_number("recovery", self.recovery, 1, whole=True)
        check_number("recovery_bytes", self.recovery_bytes, 1, whole=True)
