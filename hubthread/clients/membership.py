"""The rooms that one client is in.

Layer: clients.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from hubthread.core.push_log import PushLog
from hubthread.errors import Closed

__all__ = ["Memberships"]


class Memberships:
    """The push logs that a client is a member of, until its connection ends.

    Joining a room and remembering it are one step, so that the client leaves every room at its
    end.  Therefore a push log's lock is taken under this one, never the other way round.

    Threads: every method may be called on any thread.

    :param client: the member.
    :param most: the number of rooms that the client may be in; ``None`` sets no limit.
    """

    __slots__ = ("_client", "_last", "_lock", "_most", "_rooms", "ended")

    def __init__(self, client: Any, most: int | None) -> None:
        self._client = client
        self._most = most
        self._lock = threading.RLock()  # guards what follows
        self._rooms: dict[PushLog[Any], None] = {}  # oldest first
        self._last: tuple[Any, ...] = ()  # the rooms at the end
        self.ended = False
        """True once the connection has ended: the client joins no room any more."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._rooms)

    def hotlines(self) -> tuple[Any, ...]:
        """Return the rooms, oldest first; after the end those that the client was in then."""
        with self._lock:
            if self.ended:
                return self._last
            return tuple(log.room for log in self._rooms if log.room is not None)

    def enter(self, room: PushLog[Any], join: Callable[[Any], object]) -> bool:
        """Join a room, unless the connection has ended.

        :param join: called with the member: it lets the member into the room.
        :returns: False if the client is in as many rooms as it may be.
        """
        try:
            with self._lock:
                if self.ended:
                    return True
                full = self._most is not None and len(self._rooms) >= self._most
                if full and room not in self._rooms:
                    return False
                # Remembered first: otherwise, after an interrupt, the client would stay in.
                self._rooms[room] = None
                join(self._client)
        except BaseException:
            with self._lock:
                if self._client not in room:
                    self._rooms.pop(room, None)
            raise
        self._tell()
        return True

    def _tell(self) -> None:
        tell = self._client.on_rooms
        if tell is not None:
            tell()

    def leave(self, room: PushLog[Any]) -> None:
        """Leave a room."""
        # Closed: the hub thread has ended, and nothing is sent any more.
        with self._lock, contextlib.suppress(Closed):
            self._rooms.pop(room, None)
            room.leave(self._client)
        self._tell()

    def end(self) -> None:
        """Leave every room, and refuse later joins."""
        with self._lock:
            if not self.ended:
                self._last = self.hotlines()
            self.ended = True
            rooms = list(self._rooms)
        for room in rooms:
            self.leave(room)
