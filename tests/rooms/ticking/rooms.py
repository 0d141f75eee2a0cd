"""Short names for the rooms of these tests, on virtual hubs and on real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubthread import FrameControl, HotlineFrameOption
from hubthread.testing import VirtualHub

AnyFrame = FrameControl[Any]
AnyVirtualHub = VirtualHub[Any, Any]


def nothing(*_: object) -> None:
    """Do nothing: a callback."""


def run(hub: Any, logic: Any = None, **fields: Any) -> AnyFrame:
    """Run a room on a new hotline: without ticks, if no rate is given."""
    fields.setdefault("new_obj", list)
    return HotlineFrameOption[Any](logic=logic, **fields).run(hub.hotline())


def noting(notes: list[Any], what: Any) -> Callable[..., None]:
    """Return a callback that appends ``what`` to ``notes``."""
    return lambda *_: notes.append(what)


def raised(hub: AnyVirtualHub) -> list[type[BaseException]]:
    """Return and forget the kinds of errors that callbacks have raised."""
    kinds = [type(error) for error in hub.errors]
    hub.errors.clear()
    return kinds


class Sends:
    """A recorder between the outbox of a client and its socket: keeps the sizes of the sends."""

    def __init__(self, client: Any) -> None:
        outbox = client.ws_conn.outbox
        self._transport = outbox.transport
        self.sizes: list[int] = []
        outbox.transport = self

    def send(self, data: bytes | memoryview) -> int:
        self.sizes.append(len(data))
        return int(self._transport.send(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
