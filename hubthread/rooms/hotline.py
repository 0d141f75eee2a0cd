"""A hotline: a room whose members get all pushes to it.

Layer: rooms.  Threads: every method may be called on any thread; the hub thread fans out.
Source: the specification's ``IHotline``, ``NewHotline``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hubthread.checks import check_kind, check_number, check_serial, check_timeout, checked
from hubthread.clients.client import Client
from hubthread.clients.each import EachClient
from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.context import Context
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.logs import LogName
from hubthread.core.core import Core
from hubthread.core.push_log import PushLog
from hubthread.core.roster import Roster
from hubthread.core.sequencer import Sequencer
from hubthread.core.shared_log import SharedLog
from hubthread.errors import (
    ContextNotClient,
    HubClosed,
    HubThreadError,
    SettingError,
    UsageError,
)
from hubthread.history import Position, Recovery
from hubthread.matcher.compile import marshal_json
from hubthread.net.tick_batch import refuse_in_tick, tick_batches
from hubthread.presence import PresenceChange, PresenceState
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame
from hubthread.rooms.attendance import Attendance, Listener, WhenEmpty
from hubthread.rooms.joining import Join
from hubthread.rooms.presence import LocalPresence
from hubthread.settings import HotlineOption
from hubthread.statistics import HotlineStatistics
from hubthread.types import HotlineID, Key, Overflow, check_key

if TYPE_CHECKING:
    from hubthread.concurrency.watchdog import Watched
    from hubthread.core.figures import Ticks
    from hubthread.interfaces import IHub, IOContext

__all__ = ["Hotline", "clients_of"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class Hotline(EachClient[Meta, Header]):
    """A room, whose members get all pushes to it.  Made by ``hub.hotline()``.

    All members see the pushes in one order.  A member gets exactly the pushes that were accepted
    between its ``answer`` and its ``hangup``, even if they were still waiting when it came or
    went.  The order of a push and a direct ``write`` to a member is not promised.

    Threads: every method may be called on any thread.
    """

    __slots__ = (
        "__weakref__",
        "_attendance",
        "_core",
        "_log",
        "_make_frame",
        "_option",
        "_presence",
        "_shared",
        "_state",
        "context",
        "data",
        "hotline_id",
        "name",
    )

    def __init__(
        self,
        core: Core[Meta, Header],
        hotline_id: HotlineID,
        option: HotlineOption,
        continued: Hotline[Meta, Header] | None = None,
    ) -> None:
        """Make a hotline.

        :param continued: the hotline that this one takes the place of.
        """
        self._core = core
        self._make_frame = core.make_frame
        self._option = option
        self.name = option.name
        self._attendance: Attendance | None = None
        self._state: Listener | None = None  # of ``SharedState``
        self.hotline_id = hotline_id
        self.context: Context
        """A context that is cancelled when the hotline or the hub closes."""
        self.data: Any
        """Data of the program about the room, such as its topic; None at first.  The library does
        not touch it."""
        self._log: PushLog[Client[Meta, Header]]
        if continued is None:
            self.context, self.data = Context(core.context), None
            label = f"hotline {hotline_id}" + (f" {option.name!r}" if option.name else "")
            bound = core.setting.chan_queue_size
            label = LogName(label, self._log_ids())
            make_log = SharedLog[Client[Meta, Header]] if option.shared else PushLog
            log = self._log = make_log(core.loop.schedule, bound, label, option.max_members)
            log.room = self
            self._presence: LocalPresence | None = None
            # May refuse the option:
            self._shared = self._share(log) if isinstance(log, SharedLog) else None
            if option._watches:
                self._watch()
        else:
            self.context, self.data, self._log = continued.context, continued.data, continued._log
            self._shared, self._presence = continued._shared, continued._presence

    def _share(self, log: SharedLog[Client[Meta, Header]]) -> Sequencer[Client[Meta, Header]]:
        """Attach the room to the hub's backplane."""
        core, option = self._core, self._option
        if option.history is not None and core.setting.overflow is Overflow.LATEST:
            raise SettingError(
                "history",
                "expected None in a hub with Overflow.LATEST, which replaces waiting pushes: a "
                "client could not say which pushes it has",
            )
        link, now = core.sharing.link(), core.clock.now
        presence = option.presence
        counts = presence is not None and presence.mode == "count"
        roster = None if presence is None else Roster(option.name, counts=counts)
        shared = Sequencer(link, log, option.name, option.history, now, roster)
        if presence is not None:
            self._presence = log.presence = LocalPresence(
                core, LogName(option.name, self._log_ids()), presence
            )
            if presence.on_change is not None:
                shared.on_change = self._post_change
        if option.on_gap is not None:
            shared.on_gap = self._post_gap
        return shared

    def _post_gap(self, position: Position) -> None:
        """Have ``on_gap`` called on the hub thread."""
        with contextlib.suppress(HubClosed):
            work = partial(self._call_hook, "on_gap", position)
            self._core.loop.exec_async(lambda _: work(), essential=True)

    def _post_change(self, change: PresenceChange) -> None:
        """Have ``Presence.on_change`` called on the hub thread."""
        with contextlib.suppress(HubClosed):
            self._core.loop.exec_async(lambda _: self._tell_change(change), essential=True)

    def _tell_change(self, change: PresenceChange) -> None:
        presence, room = self._option.presence, self._log.room
        if room is not None and presence is not None:  # or the room has ended
            self._call(presence.on_change, "on_change", room, change)

    def _watch(self) -> None:
        """Have the hooks of the option hear of joins and leaves, on the hub thread."""
        seconds, loop = self._option.close_when_empty, self._core.loop

        def post(work: Callable[[], object]) -> None:
            loop.exec_async(lambda _: work(), essential=True)

        when_empty = [] if seconds is None else [WhenEmpty(self._core, seconds, self._close_empty)]
        attendance = Attendance(self._log, post, self._call_hook, when_empty)
        self._log.watch(attendance)
        self._attendance = attendance
        attendance.begin()

    def _send_state(self, sender: Listener) -> None:
        """Have the members hear of a state that the hub thread owns.

        :raises UsageError: if the room sends a state already, or has a clock.
        """
        if self._state is not None:
            raise UsageError(f"{self._log.name} sends a state already")
        self._state = sender
        try:
            if self._attendance is None:
                self._watch()  # which tells of the members that are in
            else:
                self._core.loop.exec_async(lambda _: self._tell_state(), essential=True)
        except BaseException:
            self._state = None
            raise

    def _tell_state(self) -> None:
        attendance, state = self._attendance, self._state
        if attendance is not None and state is not None:
            for member in attendance.present:
                state.joined(member)

    @property
    def hub(self) -> IHub:
        """The hub that the hotline belongs to."""
        return self._core.hub

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""
        return self._core.logger

    @overload
    def answer(self, ctx: IOContext, *, first: str | bytes | None = ...) -> None: ...
    @overload
    def answer(
        self, ctx: IOContext, *, since: Position | None, first: str | bytes | None = ...
    ) -> Recovery: ...
    @overload
    def answer(
        self, ctx: IOContext, *, replay: int, first: str | bytes | None = ...
    ) -> Recovery: ...
    def answer(
        self,
        ctx: IOContext,
        *,
        first: str | bytes | None = None,
        since: Position | EllipsisType | None = ...,
        replay: int | None = None,
    ) -> Recovery | None:
        """Let a client in: it gets every push accepted from now on.

        Nothing happens to a client that is in, or whose connection has ended.

        :param first: a message that the client gets before these pushes, such as the state of the
            room.  Make it on the thread that changes the state and pushes the changes; then the
            client misses none and gets none twice.
        :param since: for a room with a history: the position of a client that comes back.  It
            gets every push after the position, and then goes on live; or nothing, if one of these
            pushes is not known any more, or there are more than ``History.recovery``.
            ``None``: a newcomer.
        :param replay: for a room with a history: the number of latest pushes that a newcomer gets.
        :returns: with ``since`` or ``replay``: what the client gets, and the position of the join,
            which every later push follows.
        :raises UsageError: for ``since`` or ``replay`` in a room without a history.
        :raises ContextNotClient: for anything but a client.
        :raises HotlineFull: when ``HotlineOption.max_members`` clients are in.
        :raises TooManyRooms: when the client is in ``Limits.rooms_per_client`` rooms.
        :raises HotlineClosed: when the hotline is closed.
        :raises HubClosed: when the hub is closed.
        """
        client = self._client(ctx)
        if self._option.history is None and (isinstance(since, Position) or replay is not None):
            raise UsageError(
                f"{self._log.name} keeps no history: make the room with "
                f"HotlineOption(name=…, shared=True, history=History())"
            )
        if since is not None:
            check_kind("since", since, Position | EllipsisType, "a Position or None")
        if replay is not None:
            check_number("replay", replay, 1, whole=True)
        frame = None if first is None else self._make_frame(first)
        if since is ... and replay is None:
            batches = [] if frame is None else [FrameBatch([frame], [None])]
            client.enter_room(self._log, lambda member: self._log.join(member, batches))
            return None
        place = since if isinstance(since, Position) else None
        return self._recover(client, lambda found: frame, place, replay or 0)

    def _recover(
        self,
        client: Client[Meta, Header],
        first: Callable[[Recovery | None], Frame | None],
        since: Position | None,
        replay: int,
        *,
        again: bool = False,
    ) -> Recovery | None:
        """Let a client in, after the pushes that it has missed; see ``answer``.

        :param first: called with the result, under a lock; returns the client's first message.
        :param again: True sends all of it also to a client that is in; no hook hears of that.
        """
        core, shared, keeps = self._core, self._shared, self._option.history is not None
        join = Join(self._log, shared, keeps, first, since, replay, again)
        may_wait = not core.loop.is_here() and thread_id() not in tick_batches
        found = join.run(client, may_wait=may_wait)
        if join.was_in:
            self._rejoined(client)
        if since is not None and shared is not None:
            core.registry.count_recovery(self._kind, recovered=found.recovered)
        return found if keeps else None

    def hangup(self, ctx: IOContext) -> None:
        """Let a client out: it still gets the pushes accepted so far.

        Nothing happens to a client that is not in.  A client that disconnects leaves by itself.

        :raises ContextNotClient: for anything but a client.
        """
        self._client(ctx).leave_room(self._log)

    def push(
        self,
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Send a text (``str``) or binary (``bytes``) message to all members.

        The message is encoded once for all members.  This never waits: ``HubSetting.overflow``
        deals with members that read slowly, and ``wait_push_consumed`` keeps a pusher in pace.

        :param key: for ``Overflow.LATEST``: replaces a waiting message of the same key.
        :param exclude: a client, or several, that do not get it.
        :returns: the push's number, at once.
        :raises ContextNotClient: when ``exclude`` has anything but clients.
        :raises HotlineClosed: when the hotline is closed.
        :raises HubClosed: when the hub is closed.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` pushes of the room wait.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        :raises WrongValue: for text that UTF-8 cannot encode.
        """
        if key is not None:
            check_key(key)
        frame = self._make_frame(data)
        push = self._log.push if self._shared is None else self._pusher(self._shared)
        return push(frame, key, None if exclude is None else clients_of(exclude))

    def _pusher(self, shared: Sequencer[Client[Meta, Header]]) -> Callable[..., int]:
        """Return the function that accepts a push of a shared room."""
        early = self._core.loop.on_early
        if early is not None:  # the backplane begins with the hub, which may start now
            early()
        return shared.push

    def _admit(self) -> None:
        """Refuse a push that cannot be accepted; see ``push``."""
        self._log.admit()

    def _push(
        self, frame: Frame, key: Hashable, exclude: Sequence[Any] | None, reached: dict[Any, Any]
    ) -> int:
        """Push ``frame`` to the members that it has not reached; see ``hub.push``."""
        push = self._log.push if self._shared is None else self._pusher(self._shared)
        return push(frame, key, exclude, reached=reached)

    def push_json(
        self, obj: object, *, exclude: IOContext | Iterable[IOContext] | None = None
    ) -> int:
        """Push ``obj`` as JSON text; see ``push``.

        :param obj: anything that ``marshal_json`` takes.
        """
        return self.push(marshal_json(obj), exclude=exclude)

    def push_splicing(
        self,
        prefix: str | bytes,
        obj: object,
        *,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Push ``prefix`` and the encoded ``obj`` as one message; see ``push``.

        :param obj: anything that ``hub.marshal`` takes.
        """
        return self.push(self.hub.byte_splicing(prefix, obj), exclude=exclude)

    @property
    def _kind(self) -> str:
        """The kind of room in metrics."""
        return self._option.kind

    @property
    def push_count(self) -> int:
        """The number of the last push; 0 before the first.

        A shared room counts the pushes of all hubs; with Redis, a push counts once it is placed.
        """
        return self._log.pushes

    def is_push_consumed(self, number: int) -> bool:
        """Return True once push ``number`` was handed to the system for every member.

        These are the members at the time when the push was accepted.  Members that have
        disconnected do not count.  See ``IOContext.is_write_consumed``.
        """
        check_serial(number)
        if self._shared is not None:
            placed = self._shared.log_number(number)
            return placed is not None and self._log.is_consumed(placed)
        return self._log.is_consumed(number)

    def wait_push_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait until ``is_push_consumed(number)``.

        :param timeout: seconds; None waits without limit.
        :returns: False after ``timeout`` seconds.
        :raises WrongThread: on the hub thread or in a room's tick, which send the push.
        """
        check_serial(number)
        check_timeout(timeout)
        self._core.loop.refuse_here("wait_push_consumed")
        refuse_in_tick("wait_push_consumed")
        deadline = Deadline(timeout)
        if self._shared is not None:
            if not self._shared.wait_arrived(number, timeout):
                return False
            number = self._shared.log_number(number) or 0
        return self._log.wait_consumed(number, deadline.left())

    @property
    def members(self) -> list[Client[Meta, Header]]:
        """The clients that are in, in the order of their ``answer``."""
        return self._log.members()

    @property
    def members_num(self) -> int:
        """The number of clients that are in."""
        return self._log.members_num()

    def presence(self) -> PresenceState:
        """Return the users in the room, in all hubs of the backplane.

        :raises UsageError: in a room without ``HotlineOption.presence``.
        """
        state = None if self._shared is None else self._shared.presence()
        if state is None:
            raise UsageError(
                f"{self._log.name} does not tell who is in: make the room with "
                f"HotlineOption(name=…, shared=True, presence=Presence())"
            )
        return state

    def _presence_fields(self) -> str | None:
        """Return the same as fields of a JSON object; None for a room without presence."""
        return None if self._shared is None else self._shared.presence_fields()

    def __contains__(self, ctx: object) -> bool:
        return isinstance(ctx, Client) and ctx in self._log

    def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[Client[Meta, Header]]]]:
        return self._core, self._log.members

    def close(self) -> None:
        """Let all members out, and refuse clients and pushes; accepted pushes are still sent."""
        self._close("the hotline was closed")

    def close_if_empty(self) -> bool:
        """Close the hotline if it has no members, in one step.

        :returns: True if the hotline is closed after the call.
        """
        self._close("the hotline was empty", only_if_empty=True)
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

    def _close(self, reason: str, *, only_if_empty: bool = False) -> None:
        try:
            if self._log.close(reason, only_if_empty=only_if_empty):
                self._end(reason)
        except BaseException:  # an interrupt, or what a callback of the context raises
            if self._log.close_again(reason):
                self._end(reason)
            raise

    def _end(self, reason: str) -> None:
        """Let all members out of a closed log, and end the hotline."""
        for client in self._log.members():
            self.hangup(client)
        if self._attendance is not None:
            self._attendance.end()
        if self._presence is not None:
            self._presence.end()
        if self._shared is not None:
            self._shared.close()
        self._log.room = None
        self._core.registry.remove(self)
        self.context.cancel(reason)

    def _close_empty(self) -> None:
        """Close the hotline because it was empty for ``close_when_empty`` seconds."""
        reason = "the hotline was empty"
        if self._log.close(reason, only_if_empty=True):
            self._end(reason)

    def _call_hook(self, name: str, *arguments: Any) -> None:
        """Call a hook of the option on the hub thread; log its exception."""
        self._call(getattr(self._option, name), name, self, *arguments)
        state = self._state
        if state is not None and name in ("on_join", "on_leave"):
            (state.joined if name == "on_join" else state.left)(arguments[0])

    def _call(self, hook: Callable[..., object] | None, name: str, *arguments: Any) -> None:
        if hook is None:
            return
        try:
            checked(hook(*arguments))
        except KeyboardInterrupt:
            raise  # meant for the program
        except BaseException as error:  # noqa: BLE001 - logged
            self._core.incidents.log_exception(error, "%s: %s raised", self._log.name, name)

    def _log_ids(self) -> dict[str, object]:
        name = self.name or None
        return {"hub_name": self._core.name, "room_id": self.hotline_id, "room_name": name}

    # For the hub; ticking rooms override these six.

    def _rejoined(self, client: Client[Meta, Header]) -> None:
        """Send the state again to a client that has joined while it was in."""
        if self._state is not None:
            self._core.loop.exec_async(lambda _: self._send_state_again(client), essential=True)

    def _send_state_again(self, client: Client[Meta, Header]) -> None:
        state = self._state
        if state is not None and client in self:
            state.left(client)
            state.joined(client)

    def _take_input(self, client: Client[Meta, Header], message: Mapping[str, Any]) -> None:
        """Take a ``hub:input`` of a client."""
        raise UsageError("the room takes no inputs")

    @property
    def _load(self) -> float | None:
        """The share of its period that the room works; None for a room without ticks."""
        return None

    @property
    def _ticks(self) -> Ticks | None:
        """The figures of the ticks; None for a room without a clock."""
        return None

    def _watched(self) -> Sequence[Watched]:
        """Return the runners of the hotline's callbacks; the watchdog looks at it."""
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
        if self._attendance is not None:
            try:
                self._core.loop.exec_sync(lambda _: None, timeout)
            except HubThreadError:  # a busy hub has had its time
                return False
        return True

    @staticmethod
    def _client(ctx: object) -> Client[Meta, Header]:
        if not isinstance(ctx, Client):
            raise ContextNotClient(f"context not client: {ctx!r}; pass the handler's ctx")
        return ctx


def clients_of(given: object) -> tuple[Client[Any, Any], ...]:
    """Return the clients of the argument ``exclude``: a client, or several.

    :raises ContextNotClient: for anything else.
    """
    several = given if isinstance(given, Iterable) else (given,)
    return tuple(Hotline._client(each) for each in several)
