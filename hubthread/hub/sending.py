"""Messages for all clients of a hub, for those that a filter chooses, and for several rooms.

Layer: hub.  Threads: any thread sends.  Filters run on the hub thread.  The thread of each room
sends what is pushed to it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any

from hubthread.checks import check_kind, check_work, checked
from hubthread.clients.client import Client
from hubthread.core.core import Core
from hubthread.interfaces import IOContext
from hubthread.protocol.frames import Frame
from hubthread.rooms.hotline import Hotline, clients_of
from hubthread.types import Key, check_key

__all__ = ["broadcast", "broadcast_filtered", "push_to_several"]


def broadcast(
    core: Core[Any, Any],
    data: str | bytes,
    key: Key | None,
    exclude: IOContext | Iterable[IOContext] | None,
) -> int:
    """Send a message to every client; see ``Hub.broadcast``."""
    if key is not None:
        check_key(key)
    excluded = None if exclude is None else clients_of(exclude)
    return core.registry.everyone.push(core.make_frame(data), key, excluded)


def broadcast_filtered(
    core: Core[Any, Any], data: str | bytes, predicate: Callable[[Any, IOContext, Any], bool]
) -> None:
    """Send a message to the clients of a filter; see ``Hub.broadcast_with_filter``."""
    check_work(predicate, ("hub", "ctx", "meta"))
    frame = core.make_frame(data)
    core.registry.everyone.run(lambda clients: _send_filtered(core, clients, frame, predicate))


def _send_filtered(
    core: Core[Any, Any],
    clients: Iterable[Client[Any, Any]],
    frame: Frame,
    predicate: Callable[[Any, Any, Any], bool],
) -> None:
    variables = contextvars.Context()
    for client in clients:
        try:
            wanted = checked(variables.run(predicate, core.hub, client, client.meta))
        except KeyboardInterrupt as error:
            core.loop.interrupt(error)  # meant for the program, not for the filter
        except BaseException as error:  # noqa: BLE001 - logged
            core.incidents.log_exception(error, "a broadcast filter raised for %r", client)
        else:
            if wanted:
                client.ws_conn.send(frame)


def push_to_several(
    core: Core[Any, Any],
    rooms: Iterable[Hotline[Any, Any]],
    data: str | bytes,
    key: Key | None,
    exclude: IOContext | Iterable[IOContext] | None,
) -> list[int]:
    """Push a message to each room; a client gets it through the first of its rooms that sends.

    See ``Hub.push``.  If a room cannot take the push now, nothing is pushed.

    :raises WrongType: for anything but rooms; then nothing is pushed.
    """
    check_key(key)
    excluded = None if exclude is None else clients_of(exclude)
    frame = core.make_frame(data)
    check_kind("rooms", rooms, Iterable, "several rooms")
    several = list(rooms)
    for room in several:
        check_kind("rooms", room, Hotline, "rooms")
        room._admit()
    reached: dict[Any, Any] = {}
    return [room._push(frame, key, excluded, reached) for room in several]
