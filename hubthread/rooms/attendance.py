"""The attendance of a room: calls the room's hooks for each join and leave, in order.

The room's log notes each join and leave here.  A note becomes a closure of the room's thread: the
hub thread, or the tick thread of a room with a clock.  So a hook keeps its place among the other
closures of that thread.  Rooms without hooks have no attendance.

Layer: rooms.  Threads: the log calls ``joins`` and ``leaves`` on any thread, under its lock.
``begin`` and ``end`` may be called on any thread.  Everything else runs on the room's thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hubthread.concurrency.calls import thread_id
from hubthread.errors import Closed

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.concurrency.timers import Timer
    from hubthread.core.core import Core
    from hubthread.core.push_log import PushLog

__all__ = ["Attendance", "Listener", "WhenEmpty"]

ROUNDING = 1e-6
"""Seconds by which a timer may be early."""


class Call(Protocol):
    """Calls the hook with a name, if the room has this hook, and logs its exception."""

    def __call__(self, name: str, *arguments: Any) -> object:
        """Call the hook with the room and ``arguments``."""


class Listener(Protocol):
    """Learns of joins and leaves in addition to the hooks."""

    def joined(self, member: Client[Any, Any]) -> object:
        """Note a member that is new."""

    def left(self, member: Client[Any, Any]) -> object:
        """Note a member that has left."""


class WhenEmpty:
    """An action for a room that has been empty for some seconds.

    :param seconds: the time without a member; 0 acts at once.
    :param act: called at the end of that time.
    :param undo: called when a member joins after that.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        seconds: float,
        act: Callable[[], object],
        undo: Callable[[], object] | None = None,
    ) -> None:
        self._timers = core.timers
        self._now = core.clock.now
        self._seconds = seconds
        self._act = act
        self._undo = undo
        self.post: Callable[[Callable[[], object]], object]
        """Runs a closure on the room's thread; the attendance sets it."""
        self._since: float | None = None  # the time since which the room is empty
        self._acted = False
        self._timer: Timer | None = None

    def emptied(self) -> None:
        """Begin to wait, because the room is empty."""
        self._since = self._now()
        if self._seconds == 0:
            self._do()
        elif self._timer is None:  # otherwise the running timer looks again
            self._wait(self._seconds)

    def filled(self) -> None:
        """Stop waiting, or undo the action, because a member has joined."""
        self._since = None
        if self._acted:
            self._acted = False
            if self._undo is not None:
                self._undo()

    def end(self) -> None:
        """Release the timer.  Any thread."""
        timer = self._timer
        if timer is not None:
            timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = self._timers.set(seconds, self._fire)

    def _fire(self) -> None:
        """Look on the room's thread.  The timers' thread calls this."""
        with contextlib.suppress(Closed):
            self.post(self._look)

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        left = self._since + self._seconds - self._now()
        if left > ROUNDING:  # members came and went meanwhile
            self._wait(left)
        else:
            self._do()

    def _do(self) -> None:
        self._acted = True
        self._act()


class Attendance:
    """The members of a room, as its hooks know them.

    The hooks are called once for each join, and once for each leave, after its join.

    :param log: the room's log.
    :param post: runs a closure on the room's thread, even if many closures wait.
    :param call: calls a hook.
    :param when_empty: the actions for an empty room.
    """

    def __init__(
        self,
        log: PushLog[Client[Any, Any]],
        post: Callable[[Callable[[], object]], object],
        call: Call,
        when_empty: Sequence[WhenEmpty],
    ) -> None:
        self._log = log
        self._post = post
        self._call = call
        self._when_empty = when_empty
        for each in when_empty:
            each.post = post
        self._present: dict[Client[Any, Any], None] = {}

    def begin(self) -> None:
        """Count the time without members from now on."""
        if self._when_empty:
            self._post(self._begin)

    def end(self) -> None:
        """Release the timers of a room that has closed."""
        for each in self._when_empty:
            each.end()

    @property
    def present(self) -> list[Client[Any, Any]]:
        """The members that the hooks know.  The room's thread."""
        return list(self._present)

    # For the log.

    def joins(self, member: Client[Any, Any]) -> None:
        """See ``entries.Watcher``."""
        self._post(partial(self._joined, member))

    def leaves(self, member: Client[Any, Any]) -> None:
        """See ``entries.Watcher``."""
        with contextlib.suppress(Closed):  # the hub thread has ended
            self._post(partial(self._left, member))

    # The room's thread.

    def _begin(self) -> None:
        if not self._present:
            self._emptied()

    def _joined(self, member: Client[Any, Any]) -> None:
        if member in self._present:
            return  # a join that was interrupted and repeated
        if not self._present:
            for each in self._when_empty:
                each.filled()
        self._present[member] = None
        self._tell("on_join", member)

    def _left(self, member: Client[Any, Any]) -> None:
        if member not in self._present:
            return  # a join that was interrupted
        del self._present[member]
        try:
            self._tell("on_leave", member)
        finally:
            if not self._present:
                self._emptied()
                self._tell("on_empty")

    def _emptied(self) -> None:
        if not self._log.closed:
            for each in self._when_empty:
                each.emptied()

    def _tell(self, name: str, *arguments: Any) -> None:
        self._log.telling = thread_id()
        try:
            self._call(name, *arguments)
        finally:
            self._log.telling = None
