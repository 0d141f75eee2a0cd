"""What rooms see of a client: it comes in, goes out, and is sent what they are pushed.

Layer: hub.  Threads: any.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from hubthread.clients.turns import Turns
from hubthread.errors import Closed, TooManyRooms
from hubthread.limits import ROOMS

if TYPE_CHECKING:
    from hubthread.core.push_log import PushLog
    from hubthread.hub.hub import Hub
    from hubthread.net.interfaces import Link
    from hubthread.protocol.batch import FrameBatch

__all__ = ["Membership"]


class Membership(Turns):
    """The part of a client that is in rooms: see ``room.Member``."""

    __slots__ = ("_gone", "_lock", "_rooms")

    hub: Hub[Any, Any]
    ws_conn: Link

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows, and more of the client
        self._rooms: dict[PushLog[Any], None] = {}  # in the order of coming
        self._gone = False

    def send_batch(self, run: FrameBatch) -> int:
        """Send what was pushed to a room that it is in."""
        return self.ws_conn.send_batch(run)

    def is_batch_consumed(self, number: int) -> bool:
        """Whether a push waits no more; one to a client that has gone is waited for by none."""
        return self._gone or self.ws_conn.outbox.is_consumed(number)

    def wait_batch_consumed(self, number: int, timeout: float | None) -> bool:
        """Wait for a push; the room has looked at which thread it is."""
        return self.ws_conn.outbox.wait_consumed(number, timeout)

    # A room's lock is taken under the client's, never the other way round: so being in a
    # room and remembering it, to leave it at the end, are one step.

    def enter_room(self, room: PushLog[Any]) -> None:
        """Join and remember it; nothing once the connection has ended.

        :raises TooManyRooms: when it is in as many as it may be.
        """
        most = self.hub.setting.limits.rooms_per_client
        with self._lock:
            if self._gone:
                return
            full = most is not None and len(self._rooms) >= most and room not in self._rooms
            if not full:
                room.join(self)
                self._rooms[room] = None
        if full:
            text = "%r is in %d rooms, the limit: it is let into no more"
            self.hub.incidents.log_limit(ROOMS, logging.WARNING, text, self, most)
            raise TooManyRooms(
                f"{self!r} is in {most} rooms, the limit: let it leave one first, or set "
                f"Limits.rooms_per_client"
            )

    def leave_room(self, room: PushLog[Any]) -> None:
        """Leave and forget it."""
        # Closed: the thread that fans out has ended.
        with self._lock, contextlib.suppress(Closed):
            self._rooms.pop(room, None)
            room.leave(self)
