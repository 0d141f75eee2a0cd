"""One message for the members of several rooms, each of whom gets it once.

Layer: hub.  Threads: any thread pushes; the thread of each room sends.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from hubthread.checks import check_kind
from hubthread.protocol.frames import Frame
from hubthread.rooms.hotline import Hotline

__all__ = ["push_to_several"]


def push_to_several(
    rooms: Iterable[Hotline[Any, Any]],
    frame: Frame,
    key: Hashable,
    exclude: Sequence[Any] | None,
) -> list[int]:
    """Push ``frame`` to each room; a client gets it through the first of its rooms that sends.

    :returns: the number of the push in each room.
    :raises WrongType: for anything but rooms; then nothing is pushed.
    :raises HotlineClosed, QueueFull: as ``Hotline.push``; if a room cannot take the push now,
        nothing is pushed.
    """
    check_kind("rooms", rooms, Iterable, "several rooms")
    several = list(rooms)
    for room in several:
        check_kind("rooms", room, Hotline, "rooms")
        room._admit()
    reached: dict[Any, Any] = {}
    return [room._push(frame, key, exclude, reached) for room in several]
