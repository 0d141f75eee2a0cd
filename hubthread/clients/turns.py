"""What others see of a turn: whose it is, and whether it goes on.

Layer: hub.  Threads: any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hubthread.concurrency.calls import thread_id

if TYPE_CHECKING:
    from hubthread.concurrency.calls import Call
    from hubthread.concurrency.strand import Strand
    from hubthread.protocol.request import Request

__all__ = ["HookCall", "Turns"]

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
        return self._strand.runner == thread_id()

    def wait_for(self, call: Call[T], timeout: float | None) -> T:
        """Wait for what is to run in this client's turn; see ``Call.result``."""
        return call.result(self._strand, self._strand.name, timeout)


class HookCall:
    """A hook or page that is asked about a request, and is watched (``watchdog.Watched``)."""

    __slots__ = ("_request", "_what", "runner")

    def __init__(self, what: str, request: Request) -> None:
        self._what = what
        self._request = request
        self.runner: int | None = thread_id()

    @property
    def name(self) -> str:
        """What the log calls it; the path is the peer's to choose, so it is quoted and cut."""
        return f"{self._what} for {self._request.path[:100]!r} of {self._request.peer}"

    def turn(self) -> int | None:
        """The only one, until it has answered."""
        return None if self.runner is None else 0
