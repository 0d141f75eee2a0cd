"""What others see of a client's turn: whose it is, and whether it goes on.

Layer: hub.  Threads: any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hubthread.concurrency.waits import me

if TYPE_CHECKING:
    from hubthread.concurrency.strand import Strand
    from hubthread.concurrency.waits import Call

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """The part of a client that waits for its order, and is watched (``watchdog.Watched``)."""

    __slots__ = ("_strand", "received")

    _strand: Strand
    received: int

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self._strand.name

    @property
    def runner(self) -> int | None:
        """The thread that runs one of its callbacks now."""
        return self._strand.runner

    def turn(self) -> tuple[int, int] | None:
        """What runs now, ``None`` while nothing does: one turn may be many messages."""
        turn = self._strand.turn()
        return None if turn is None else (turn, self.received)

    def is_here(self) -> bool:
        """Whether the caller is in one of this client's callbacks."""
        return self._strand.runner == me()

    def wait_for(self, call: Call[T], timeout: float | None) -> T:
        """Wait for what is to run in this client's turn; see ``Call.result``."""
        return call.result(self._strand, self._strand.name, timeout)
