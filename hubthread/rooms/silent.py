"""A hotline without members: a null object for code that needs a room.

Layer: rooms.  Threads: every method may be called on any thread.
Source: the specification's ``NewHotlineSilence`` and ``NewHotlineSilenceDirect``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar

from hubthread.clients.each import Iteration
from hubthread.history import Position, Recovery
from hubthread.presence import PresenceState
from hubthread.rooms.hotline import Hotline
from hubthread.settings import HotlineOption

if TYPE_CHECKING:
    from hubthread.core.core import Core
    from hubthread.interfaces import IOContext
    from hubthread.protocol.frames import Frame
    from hubthread.types import ClientID, HotlineID, Key

__all__ = ["SilentHotline"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class SilentHotline(Hotline[Meta, Header]):
    """A hotline that accepts every call, does nothing and never fails.

    Made by ``hub.silent_hotline()``.  It never has members, and drops every push.
    The hub does not list it.  Its number is unique, like any hotline's.  ``close`` shows in
    ``is_closed`` and cancels its ``context``, as for any hotline; every call is accepted
    afterwards, too.

    Threads: every method may be called on any thread.
    """

    # The methods that could let a client in, send or refuse are overridden.  All others are
    # those of a hotline whose push log stays empty.

    __slots__ = ()

    def __init__(self, core: Core[Meta, Header], hotline_id: HotlineID) -> None:
        super().__init__(core, hotline_id, HotlineOption("silent"))

    def presence(self) -> PresenceState:
        """Return a state without anybody."""
        return PresenceState(0, {}, 0)

    def answer(
        self,
        ctx: IOContext,
        *,
        first: str | bytes | None = None,
        since: Position | EllipsisType | None = ...,
        replay: int | None = None,
    ) -> Any:
        """Do nothing: the client is not let in."""
        return None if since is ... and replay is None else Recovery(False, 0, Position("", 0))

    def hangup(self, ctx: IOContext) -> None:
        """Do nothing: no client is in."""

    def push(
        self,
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Drop the message; return zero."""
        return 0

    def _admit(self) -> None:
        pass

    def _push(
        self, frame: Frame, key: Hashable, exclude: Sequence[Any] | None, reached: dict[Any, Any]
    ) -> int:
        return 0

    def push_json(
        self, obj: object, *, exclude: IOContext | Iterable[IOContext] | None = None
    ) -> int:
        """Drop the message; return zero."""
        return 0

    def push_splicing(
        self,
        prefix: str | bytes,
        obj: object,
        *,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Drop the message; return zero."""
        return 0

    def is_push_consumed(self, number: int) -> bool:
        """Return True: there is no member to wait for."""
        return True

    def wait_push_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Return True at once, on every thread."""
        return True

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
        """Return an iteration over no clients, which is done."""
        return Iteration.over_nobody(self._core)

    def __repr__(self) -> str:
        return f"<SilentHotline {self.hotline_id} {'closed' if self.is_closed else 'open'}>"
