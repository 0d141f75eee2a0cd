"""The join of one client to one room, after the pushes that the client has missed.

Layer: rooms.  Threads: the thread that lets the client in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hubthread.core.push_log import PushLog
from hubthread.core.sequencer import Sequencer
from hubthread.history import Position, Recovery
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["Join"]


class Join:
    """One join.

    :param shared: the sequencer of a shared room.
    :param keeps: True for a room with a history.
    :param first: called with the result, under a lock; returns the client's first message.
    :param since: the position of a client that comes back.
    :param replay: for a newcomer: the number of latest pushes that it gets.
    :param again: True sends the same to a client that is in the room already.
    """

    def __init__(
        self,
        log: PushLog[Client[Any, Any]],
        shared: Sequencer[Client[Any, Any]] | None,
        keeps: bool,
        first: Callable[[Recovery | None], Frame | None],
        since: Position | None,
        replay: int,
        again: bool,
    ) -> None:
        self._log = log
        self._shared = shared
        self._keeps = keeps
        self._first = first
        self._since = since
        self._replay = replay
        self._again = again
        self._found = Recovery(False, 0, Position("", 0))
        self.was_in = False
        """True if the client was in already, and got everything again."""

    def run(self, client: Client[Any, Any], *, may_wait: bool) -> Recovery:
        """Let the client in; return the result.

        :param may_wait: see ``Sequencer.prepare``.
        """
        shared = self._shared
        if shared is not None:
            shared.prepare(self._since, self._replay, may_wait=may_wait)
            self._found = Recovery(False, 0, shared.position)
        client.enter_room(self._log, self._join)
        return self._found

    def _join(self, member: Client[Any, Any]) -> None:
        shared = self._shared
        if shared is not None:
            enter = partial(self._enter, member)
            self._found = shared.join(enter, member, self._opening, self._since, self._replay)
            return
        frame = self._first(None)
        self._enter(member, [] if frame is None else [FrameBatch([frame], [None])])

    def _opening(self, recovery: Recovery) -> Frame | None:
        return self._first(recovery if self._keeps else None)

    def _enter(self, member: Client[Any, Any], batches: Sequence[FrameBatch]) -> bool:
        log, at_once = self._log, self._shared is not None
        self.was_in = self._again and log.rejoin(member, batches, at_once=at_once)
        return self.was_in or log.join(member, batches, at_once=at_once)
