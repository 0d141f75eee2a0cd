"""The entries of a room's log, and what the log calls: the room's driver and its watcher.

Layer: core.  Threads: an entry is made on any thread, and read by the thread that flushes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from hubthread.core.delivery import Member
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame

__all__ = ["Change", "Driver", "Push", "PushExcept", "Step", "Watcher"]

M = TypeVar("M", bound=Member)
M_contra = TypeVar("M_contra", bound=Member, contravariant=True)


class Driver(Protocol[M_contra]):
    """The thread of a ticking room: it flushes the room's log, and ends the room."""

    def schedule(self) -> None:
        """Call ``PushLog.flush(self)`` soon, on the driver's thread; return at once."""

    def left(self, member: M_contra) -> None:
        """Note that a member has left; return at once, and do not call the member."""

    def end(self, reason: str) -> None:
        """Finish the remaining work, then call ``PushLog.shut``.  The log is sealed already."""


class Watcher(Protocol[M_contra]):
    """Notes who joins and leaves, in order.

    Threads: the log calls it on any thread, under the log's lock, so it only queues work.
    """

    def joins(self, member: M_contra) -> None:
        """Note that ``member`` is about to join.

        :raises Closed: the member does not join.
        """

    def leaves(self, member: M_contra) -> None:
        """Note that ``member`` is about to leave."""


class Push:
    """An entry of the log: a message for the members."""

    __slots__ = ("frame", "key")

    def __init__(self, frame: Frame, key: Hashable) -> None:
        self.frame = frame
        self.key = key


class PushExcept(Push, Generic[M]):
    """An entry of the log: a message for all members but some."""

    __slots__ = ("exclude", "reached")

    def __init__(
        self,
        frame: Frame,
        key: Hashable,
        exclude: Sequence[M],
        reached: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__(frame, key)
        self.exclude = exclude
        self.reached = reached
        """For a push to several rooms: each member that has got it, and through which log."""

    def left_out(self, members: Iterable[M], log: object) -> Iterable[M]:
        """Return the members of ``log`` that do not get the message."""
        reached = self.reached
        if reached is None:
            return self.exclude
        others = [member for member in members if reached.setdefault(member, log) is not log]
        return [*self.exclude, *others]


class Change(Generic[M]):
    """An entry of the log: a member joins or leaves."""

    __slots__ = ("first", "joins", "member")

    def __init__(self, member: M, joins: bool, first: Sequence[FrameBatch] = ()) -> None:
        self.member = member
        self.joins = joins
        self.first = first
        """The first messages for a member that joins."""


class Step(Generic[M]):
    """An entry of the log: a function that is called with the members."""

    __slots__ = ("work",)

    def __init__(self, work: Callable[[list[M]], None]) -> None:
        self.work = work
