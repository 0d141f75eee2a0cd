"""A hotline: a room whose members get what is pushed to it.

Layer: rooms.  Threads: every method may be called on any thread; the hub thread fans out.
Source: the specification's ``IHotline``, ``NewHotline``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hubthread.clients.client import Client
from hubthread.clients.each import EachClient
from hubthread.concurrency.context import Context
from hubthread.core.core import Core
from hubthread.core.push_log import PushLog
from hubthread.errors import ContextNotClient
from hubthread.matcher.compile import marshal_json
from hubthread.net.tick_batch import refuse_in_tick
from hubthread.statistics import HotlineStatistics
from hubthread.types import HotlineID, Key, check_key

if TYPE_CHECKING:
    from hubthread.concurrency.watchdog import Watched
    from hubthread.interfaces import IHub, IOContext

__all__ = ["Hotline"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class Hotline(EachClient[Meta, Header]):
    """A room, whose members get what is pushed to it.  Made by ``hub.hotline()``.

    All members see the pushes in one order.  A member gets exactly the pushes that were accepted
    between its ``answer`` and its ``hangup``, even if they were still waiting when it came or
    went.  The order of a push and a direct ``write`` to a member is not promised.

    Threads: every method may be called on any thread.
    """

    __slots__ = ("__weakref__", "_core", "_log", "_make_frame", "context", "hotline_id", "name")

    def __init__(
        self,
        core: Core[Meta, Header],
        hotline_id: HotlineID,
        name: str,
        log: PushLog[Client[Meta, Header]] | None = None,
        context: Context | None = None,
    ) -> None:
        """Make a hotline; ``log`` and ``context`` come from the hotline it continues, if any."""
        self._core = core
        self._make_frame = core.make_frame
        self.hotline_id = hotline_id
        self.name = name
        if log is None:
            label = f"hotline {hotline_id}" + (f" {name!r}" if name else "")
            log = PushLog(core.loop.schedule, core.setting.chan_queue_size, label)
        self._log: PushLog[Client[Meta, Header]] = log
        self.context = Context(core.context) if context is None else context
        """A context that is cancelled when the hotline or the hub closes."""

    @property
    def hub(self) -> IHub:
        """The hub that the hotline belongs to."""
        return self._core.hub

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""
        return self._core.logger

    def answer(self, ctx: IOContext) -> None:
        """Let a client in: it gets every push accepted from now on.

        Nothing happens to a client that is in, or whose connection has ended.

        :raises ContextNotClient: for anything but a client.
        :raises TooManyRooms: when the client is in ``Limits.rooms_per_client`` rooms.
        :raises HotlineClosed: when the hotline is closed.
        :raises HubClosed: when the hub is closed.
        """
        self._client(ctx).enter_room(self._log)

    def hangup(self, ctx: IOContext) -> None:
        """Let a client out: it still gets the pushes accepted so far.

        Nothing happens to a client that is not in.  A client that disconnects leaves by itself.

        :raises ContextNotClient: for anything but a client.
        """
        self._client(ctx).leave_room(self._log)

    def push(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a text (``str``) or binary (``bytes``) message to all members.

        The message is encoded once for all members.  This never waits: ``HubSetting.overflow``
        deals with members that read slowly, and ``wait_push_consumed`` keeps a pusher in pace.

        :param key: for ``Overflow.LATEST``: replaces a waiting message of the same key.
        :returns: the push's number, at once.
        :raises HotlineClosed: when the hotline is closed.
        :raises HubClosed: when the hub is closed.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` pushes wait for the hub.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        :raises WrongValue: for text that UTF-8 cannot encode.
        """
        if key is not None:
            check_key(key)
        return self._log.push(self._make_frame(data), key)

    def push_json(self, obj: object) -> int:
        """Push ``obj`` as JSON text; see ``push``.

        :param obj: anything that ``marshal_json`` takes.
        """
        return self.push(marshal_json(obj))

    def push_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Push ``prefix`` and the encoded ``obj`` as one message; see ``push``.

        :param obj: anything that ``hub.marshal`` takes.
        """
        return self.push(self.hub.byte_splicing(prefix, obj))

    @property
    def push_count(self) -> int:
        """The number of the last push; 0 before the first."""
        return self._log.counts()[0]

    def is_push_consumed(self, number: int) -> bool:
        """Return True once push ``number`` was handed to the system for every member.

        These are the members at the time when the push was accepted.  Members that have
        disconnected do not count.  See ``IOContext.is_write_consumed``.
        """
        return self._log.is_consumed(number)

    def wait_push_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait until ``is_push_consumed(number)``.

        :param timeout: seconds; None waits without limit.
        :returns: False after ``timeout`` seconds.
        :raises WrongThread: on the hub thread or in a room's tick, which send the push.
        """
        self._core.loop.refuse_here("wait_push_consumed")
        refuse_in_tick("wait_push_consumed")
        return self._log.wait_consumed(number, timeout)

    @property
    def members(self) -> list[Client[Meta, Header]]:
        """The clients that are in, in the order of their ``answer``."""
        return self._log.members()

    @property
    def members_num(self) -> int:
        """The number of clients that are in."""
        return self._log.members_num()

    def __contains__(self, ctx: object) -> bool:
        return isinstance(ctx, Client) and ctx in self._log

    def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[Client[Meta, Header]]]]:
        return self._core, self._log.members

    def close(self) -> None:
        """Let all members out, and refuse clients and pushes; accepted pushes are still sent."""
        reason = "the hotline was closed"
        if self._log.close(reason):
            self._end(reason)

    def close_if_empty(self) -> bool:
        """Close the hotline if it has no members, in one step.

        :returns: True if the hotline is closed after the call.
        """
        reason = "the hotline was empty"
        if self._log.close(reason, only_if_empty=True):
            self._end(reason)
        return self._log.closed

    @property
    def is_closed(self) -> bool:
        """True if the hotline was closed."""
        return self._log.closed

    def statistics(self) -> HotlineStatistics:
        """Return a snapshot of this hotline's counters."""
        pushes, waiting, lagging = self._log.counts()
        return HotlineStatistics(
            hotline_id=self.hotline_id,
            name=self.name,
            closed=self.is_closed,
            members=self.members_num,
            pushes=pushes,
            waiting=waiting,
            lagging=lagging,
        )

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        state = "closed" if self.is_closed else "open"
        return f"<Hotline {self.hotline_id}{name} {state}, {self.members_num} members>"

    def _end(self, reason: str) -> None:
        """Let all members out of a closed log, and end the hotline."""
        for client in self._log.members():
            self.hangup(client)
        self._core.registry.remove(self)
        self.context.cancel(reason)

    # For the hub; ticking rooms override these two.

    def _watched(self) -> Sequence[Watched]:
        """Return what runs callbacks for the hotline; the watchdog looks at it."""
        return ()

    def _disown(self, refuse: Callable[..., Any]) -> None:
        """Let each push call ``refuse``: the hub's threads are in another process."""
        self._make_frame = refuse

    def _last_word(self) -> Callable[[float], object]:
        """Begin to run ``on_close`` early; return a function that waits for its pushes.

        The function takes the seconds that it may wait.
        """
        return lambda timeout: None

    def _wait_ended(self, timeout: float) -> bool:
        """Wait until a closed hotline has run its last callback; return True if it has."""
        return True

    @staticmethod
    def _client(ctx: object) -> Client[Meta, Header]:
        if not isinstance(ctx, Client):
            raise ContextNotClient(f"context not client: {ctx!r}; pass the handler's ctx")
        return ctx
