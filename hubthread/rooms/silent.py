"""A hotline that nobody hears: the null object, where code wants a room and there is none.

Layer: hub.  Threads: everything from any.
Source: the specification's ``NewHotlineSilence`` and ``NewHotlineSilenceDirect``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

from hubthread.clients.each import Iteration
from hubthread.concurrency.context import Context
from hubthread.rooms.hotline import Hotline
from hubthread.statistics import HotlineStatistics

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.core.core import Core
    from hubthread.interfaces import IOContext
    from hubthread.types import ClientID, HotlineID, Key

__all__ = ["SilentHotline"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class SilentHotline(Hotline[Meta, Header]):
    """Accepts every call, does nothing, never fails.  Made by ``hub.silent_hotline()``.

    Nobody is ever in it, and what is pushed to it is gone.  The hub does not list it, and
    its number is its own like any hotline's.  ``close`` shows in ``is_closed`` and ends its
    ``context``, as elsewhere, and it accepts every call afterwards too.
    """

    __slots__ = ("_closed",)

    def __init__(self, core: Core[Meta, Header], hotline_id: HotlineID) -> None:
        # Not super().__init__: there is no room behind it.
        self._core = core
        self.hotline_id = hotline_id
        self.name = "silent"
        self.context = Context(core.context)
        self._closed = False

    def answer(self, ctx: IOContext) -> None:
        """Nobody is let in."""

    def hangup(self, ctx: IOContext) -> None:
        """Nobody is in."""

    def push(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to nobody; zero."""
        return 0

    def push_json(self, obj: object) -> int:
        """Send to nobody; zero."""
        return 0

    def push_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send to nobody; zero."""
        return 0

    @property
    def push_count(self) -> int:
        """Zero."""
        return 0

    def is_push_consumed(self, number: int) -> bool:
        """True: nobody is waited for."""
        return True

    def wait_push_consumed(self, number: int, timeout: float | None = None) -> bool:
        """True, at once and on every thread."""
        return True

    @property
    def members(self) -> list[Client[Meta, Header]]:
        """Nobody."""
        return []

    @property
    def members_num(self) -> int:
        """Zero."""
        return 0

    def __contains__(self, ctx: object) -> bool:
        return False

    def each_client(
        self,
        task: Callable[[ClientID, IOContext, Meta], T],
        *,
        wait_hub: bool = True,
        wait_clients: bool = True,
        timeout: float | None = None,
    ) -> Iteration[T]:
        """An iteration over nobody, which is done."""
        return Iteration.over_nobody(self._core)

    def close(self) -> None:
        """Mark it as closed."""
        self._end("the hotline was closed")

    def close_if_empty(self) -> bool:
        """Mark it as closed, since it is empty; true."""
        self._end("the hotline was empty")
        return True

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def statistics(self) -> HotlineStatistics:
        """Zeros."""
        return HotlineStatistics(
            hotline_id=self.hotline_id,
            name=self.name,
            closed=self._closed,
            members=0,
            pushes=0,
            waiting=0,
            lagging=0,
        )

    def _end(self, reason: str) -> None:
        """Mark it as closed.  Not for users: they ``close`` it."""
        self._closed = True
        self.context.cancel(reason)

    def __repr__(self) -> str:
        return f"<SilentHotline {self.hotline_id} {'closed' if self._closed else 'open'}>"
