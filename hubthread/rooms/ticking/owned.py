"""Rooms with a clock whose state is in one hub at a time, with members in all hubs.

Each hub that calls ``hub.own`` has the room, as a shared room: its members get all pushes.  One of
the hubs has the lease of the room (``core.lease``), and owns it: there the state is made, and the
clock runs.  The clocks of the other hubs stand still.

Each push of the owner's callbacks carries the token of the lease.  The backplane refuses the push
once another hub has got the lease.  So a hub that was stopped for a while, and does not know yet
that it has lost the room, reaches no member.

Layer: rooms.ticking.  Threads: methods from any thread; callbacks run on tick threads.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from hubthread.backplane.letters import decode_letter, encode_letter, lease_box
from hubthread.checks import check_callable, check_function, check_kind, checked
from hubthread.concurrency.calls import Call
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.logs import log_safely
from hubthread.core.lease import Lease
from hubthread.errors import (
    BackplaneDown,
    Closed,
    HotlineClosed,
    HubThreadError,
    NotOwner,
    QueueFull,
    SettingError,
    UsageError,
    WrongType,
    WrongValue,
)
from hubthread.matcher.compile import marshal_json
from hubthread.room_option import HotlineOption
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.ticking.agenda import LEASE, Countdown
from hubthread.rooms.ticking.control import FrameControl, HotlineFrameOption
from hubthread.rooms.ticking.loop import TickLoop
from hubthread.rooms.ticking.setup import TickSetup

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.core.sequencer import Sequencer

__all__ = ["OwnedOption", "OwnedRoom", "TakeCall"]

Obj = TypeVar("Obj")
T = TypeVar("T")

TakeCall: TypeAlias = Callable[
    [str, bytes, float, "Callable[[bytes, str | None], object] | None"], object
]
"""Takes a call: the name of the function, the payload as JSON, the seconds within which the
function has to begin, and a function that is called with the answer as JSON, or with the text of
the error; None if the caller waits for no answer."""

PLACED = 1.0
"""Seconds that a hub which gives up a room waits for its last pushes to have their places."""

SAVE = 1.0
"""The least seconds between two saves.  A renewal causes a save, and the save another renewal."""

MOST_SAVED = 4 << 20
"""The most bytes of a saved state."""

LOCAL = ("on_join", "on_leave", "on_empty", "close_when_empty", "pause_when_empty")
"""The fields about the members of one hub, which an owned room refuses."""


@dataclass(frozen=True)
class OwnedOption(HotlineFrameOption[Obj]):
    """The option of a room that one hub owns: ``hub.own(name, OwnedOption(…))``.

    Each time a hub gets the room, it calls ``new_obj`` or ``load``, and then ``on_start``.  When
    its time ends it calls ``on_close``, or ``on_orphan`` if another hub has got the room.

    ``sync``, ``record`` and the hooks about members are refused: they are for rooms of one hub.

    :raises SettingError: for a field that is refused, and for a value out of range.
    """

    room: HotlineOption | None = None
    """The history, the presence and the other options of the shared room."""
    calls: Mapping[str, Callable[[Any, Obj, Any], object]] = field(default_factory=dict)
    """The functions that ``hub.call`` and ``OwnedRoom.post`` run in the owner, by their names.
    They are called with ``(frame, obj, payload)`` on the tick thread, between ticks."""
    save: Callable[[Obj], bytes] | None = None
    """Returns the state as bytes, 4 MB at most.  The owner calls it every two seconds, on the tick
    thread, and before ``on_close`` if the hub ends.  The backplane keeps the result for the next
    owner, for a day.  ``None``: the next owner begins with ``new_obj``."""
    load: Callable[[bytes], Obj] | None = None
    """Makes the state from the bytes that ``save`` returned in the last owner.  Runs on the tick
    thread.  If ``load``, ``new_obj`` or ``on_start`` raises, the room closes in this hub."""
    on_orphan: Callable[[FrameControl[Obj], Obj], object] | None = None
    """Called with ``(frame, obj)`` instead of ``on_close`` in a hub that has lost the room to
    another hub.  The state here counts no more, and pushes from this callback reach no member."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind("room", self.room, HotlineOption | None, "a HotlineOption or None")
        check_kind("calls", self.calls, Mapping, "a mapping of names to functions")
        for name, function in self.calls.items():
            check_kind("calls", name, str, "names that are strings")
            check_function(f"calls[{name!r}]", function, "frame", "obj", "payload")
        if (self.save is None) != (self.load is None):
            raise SettingError("save", "expected save and load together, got one of them")
        if self.save is not None:
            check_callable("save", self.save, "obj")
            check_callable("load", self.load, "saved")
        check_function("on_orphan", self.on_orphan, "frame", "obj")
        for name in LOCAL:
            if getattr(self, name) is not None:
                raise SettingError(
                    name,
                    "expected None in a room whose members are in several hubs: "
                    "HotlineOption(presence=Presence(on_change=…)) tells who comes and goes",
                )
        for name in ("sync", "record"):
            if getattr(self, name) is not None:
                raise SettingError(name, "expected None in a room that hubs hand over")
        if self.room is not None and self.room._watches:
            raise SettingError(
                "room", f"expected a HotlineOption without {', '.join(LOCAL[:4])}: a room with a "
                f"clock does not call them"
            )  # fmt: skip

    def run(self, hotline: object) -> NoReturn:
        """Refuse: ``hub.own`` makes the room.

        :raises UsageError: always.
        """
        raise UsageError("an OwnedOption is for hub.own(name, option), which makes the room")


class _OwnedLoop(TickLoop[FrameControl[Obj], Obj]):
    """The loop of an owned room, which begins when the hub gets the room."""

    lease: Lease

    def refuse(self, what: str) -> None:
        """Refuse a call that needs the state.

        :raises NotOwner: in a hub that does not own the room.
        """
        if not self.lease.held:
            raise NotOwner(
                f"{what}: this hub does not own room {self._hotline.name!r}: use hub.call(room, …)"
            )

    def exec_async(self, work: Callable[[FrameControl[Obj], Obj], object]) -> None:
        """See ``TickLoop.exec_async``."""
        self.refuse("exec_async")
        super().exec_async(work)

    def exec_sync(self, work: Callable[[FrameControl[Obj], Obj], T], timeout: float | None) -> T:
        """See ``TickLoop.exec_sync``."""
        self.refuse("exec_sync")
        return super().exec_sync(work, timeout)

    def add(self, countdown: Countdown) -> None:
        """See ``TickLoop.add``."""
        self.refuse("a countdown")
        super().add(countdown)

    # The tick thread.

    def _start(self, calls: Any) -> None:
        """Do nothing: the room begins with its lease."""

    def begin(self, obj: Obj, on_start: Callable[[Any, Obj], object] | None) -> None:
        """Begin with state ``obj``: run ``on_start``, and start the ticks.

        :raises _Failed: if ``on_start`` raises.
        """
        calls = self._calls
        assert calls is not None
        calls.obj = obj
        if on_start is not None and not calls.call("on_start", on_start):
            raise _Failed("on_start")
        self._begin_ticks()

    def cancel_countdowns(self) -> None:
        """End all countdowns: they belong to a state that ends here."""
        for countdown in self.agenda.countdowns():
            if self.agenda.cancel(countdown):
                countdown.closed()


class _Failed(Exception):
    """A function of the program has raised, so the room cannot begin."""


class OwnedRoom(FrameControl[Obj]):
    """A room whose clock runs in one hub at a time.  Made by ``hub.own``.

    It has all methods of a room with a clock.  ``answer``, ``hangup`` and ``push`` work in each
    hub.  ``exec_async``, ``exec_sync`` and countdowns need the state, and raise ``NotOwner`` in a
    hub that does not own the room; ``hub.call(room, …)`` and ``post`` reach the owner from
    anywhere.

    The owner is the first hub that asks.  Another hub takes over at once when the owner drains or
    closes, and within 6 seconds when it has died.  If the owner closes the room, it closes in all
    hubs.  While the backplane is away the clock stands still.

    Pushes from callbacks of a former owner reach no member.  ``push`` raises ``NotOwner`` there if
    the hub knows of the new owner.
    """

    __slots__ = (
        "_begun",
        "_clock",
        "_failed",
        "_kept",
        "_lease",
        "_left",
        "_owned",
        "_saved_at",
        "_token",
    )

    def __init__(self, hotline: Hotline[Any, Any], option: OwnedOption[Obj]) -> None:
        core = hotline._core
        self._owned = option
        self._token = 0  # the token of the lease under which the room ran here last
        self._begun = 0  # this token while the room runs here; otherwise 0
        self._kept: bytes | None = None  # the state for the next owner
        self._saved_at = -math.inf
        self._failed = self._left = False
        link = core.sharing.link()
        self._lease = Lease(link, hotline.name, core.timers, core.clock.now, self)
        setup = replace(option, new_obj=_nothing, on_start=None, on_close=self._at_end)
        super().__init__(hotline, setup)
        if self._shared is not None:
            self._shared.on_refused = self._lease.ask
        core.on_start.append(self._ask_first)
        core.on_drain.append(self._leave)
        if core.sharing.started:
            self._ask_first()

    def _make_loop(
        self, setup: TickSetup[FrameControl[Obj], Obj]
    ) -> TickLoop[FrameControl[Obj], Obj]:
        loop: _OwnedLoop[Obj] = _OwnedLoop(self, setup)
        loop.lease = self._lease
        loop.agenda.pause(LEASE)
        self._clock = loop
        return loop

    # For the program.

    @property
    def is_owner(self) -> bool:
        """True if this hub owns the room, and no other hub can own it now."""
        return self._lease.is_valid

    @property
    def token(self) -> int:
        """The fencing token under which the room has last run in this hub; 0 before the first.

        A later owner has a higher token.  Give the token to a store that the callbacks write to:
        so the store can refuse the writes of an earlier owner.
        """
        return self._token

    def post(self, name: str, payload: Any = None) -> None:
        """Run ``OwnedOption.calls[name]`` in the hub that owns the room; return at once.

        The function runs once, or not at all if no hub owns the room now.  The calls of one thread
        keep their order.  If the function raises, the owner logs the exception.

        :param payload: a value that JSON can express.
        :raises BackplaneDown, QueueFull, HubClosed: as a push.
        """
        self._core.letters.post(self.name, name, payload)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "owned here" if self.is_owner else "elsewhere"
        rate = f"{self.hz:g} Hz" if self.hz else "no ticks"
        members = f"{self.members_num} members"
        return f"<OwnedRoom {self.hotline_id} {self.name!r} {state}, {rate}, {members}>"

    def step(self) -> None:
        """See ``FrameControl.step``.

        :raises NotOwner: in a hub that does not own the room.
        """
        self._clock.refuse("step")
        super().step()

    def inputs(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse: the members of the room are in several hubs.

        :raises UsageError: always.
        """
        raise UsageError("inputs: an owned room takes OwnedOption.calls, by hub.call and post")

    def _take_input(self, client: Client[Any, Any], message: Mapping[str, Any]) -> None:
        Hotline._take_input(self, client, message)

    def _pusher(self, shared: Sequencer[Client[Any, Any]]) -> Callable[..., int]:
        push = super()._pusher(shared)
        return partial(push, token=self._token) if self._loop.is_here() else push

    # The lease (``core.lease.Owner``).

    def _ask_first(self) -> None:
        """Ask for the lease, because the hub has started."""
        if not (self._left or self._core.state.draining):
            self._core.sharing.link().listen(lease_box(self.name), self._hear)
            self._lease.ask()

    def _hear(self, letter: bytes) -> None:
        """Hear that the owner has given up the room, or closed it.  Must not raise."""
        found = decode_letter(letter)
        head = {} if found is None else found[0]
        over = head.get("over")
        if "free" in head:
            self._lease.ask()
        elif isinstance(over, int) and 0 < self._lease.other <= over:  # else of an earlier room
            self.close()

    def _lease_began(self, token: int, saved: bytes) -> None:
        """See ``Owner._lease_began``."""
        self._core.letters.serve(self.name, self._take_call)  # calls wait for the state
        self._note(partial(self._begin, token, saved))

    def _lease_renewed(self, until: float) -> None:
        """See ``Owner._lease_renewed``."""
        if self._runs:
            self._loop.agenda.run_until(until)
            self._loop.wake()
        now = self._core.clock.now()
        if self._owned.save is not None and now - self._saved_at >= SAVE:
            self._saved_at = now
            self._note(self._save_now)

    def _lease_late(self) -> None:
        """See ``Owner._lease_late``."""
        text = "%s: the lease was not renewed in time; its clock stands still"
        log_safely(self.logger, logging.WARNING, text, self._log.name)

    def _lease_lost(self) -> None:
        """See ``Owner._lease_lost``."""
        self._core.letters.unserve(self.name)
        self._loop.agenda.pause(LEASE)
        self._note(self._lose)

    def _note(self, work: Callable[[], object]) -> None:
        self._loop._note(work)

    @property
    def _runs(self) -> bool:
        """True if the room runs here under the lease that the hub has now."""
        return self._begun == self._lease.token > 0 and not self._failed

    # The tick thread.

    def _begin(self, token: int, saved: bytes) -> None:
        """Make the state, and let the clock run."""
        lease, option, loop = self._lease, self._owned, self._clock
        if not lease.held or lease.token != token:
            return  # lost meanwhile
        if self._begun:  # a new server has given a new token: the state stays
            self._begun = self._token = token
            loop.agenda.run_until(lease.until)
            return
        what = "load" if saved and option.load is not None else "new_obj"
        calls = loop._calls
        assert calls is not None
        try:
            obj = option.load(saved) if saved and option.load is not None else option.new_obj()
            checked(obj)
        except BaseException as error:  # noqa: BLE001 - goes into the log
            calls.report(what, error)
            self._fail(what)
            return
        self._begun = self._token = token
        try:
            loop.begin(obj, option.on_start)
        except _Failed:
            self._fail("on_start")
            return
        if self._runs:
            loop.agenda.run_until(lease.until)
        text = "%s: this hub owns the room now, with token %d"
        log_safely(self.logger, logging.INFO, text, self._log.name, token)

    def _fail(self, what: str) -> None:
        self._failed = True
        self._log.close(f"{what} raised")

    def _lose(self) -> None:
        """End the state of this hub, because another hub has got the room."""
        if not self._begun:
            return
        text = "%s: another hub owns the room now, and its clock here has ended"
        log_safely(self.logger, logging.WARNING, text, self._log.name)
        self._end_state()
        calls, on_orphan = self._clock._calls, self._owned.on_orphan
        if on_orphan is not None and calls is not None:
            calls.call("on_orphan", on_orphan)

    def _end_state(self) -> None:
        self._begun = 0
        self._clock.cancel_countdowns()

    def _save_now(self) -> None:
        """Renew the lease, and save the state with the renewal."""
        calls = self._clock._calls
        if self._runs and calls is not None:
            saved = self._save(calls.obj)
            if saved is not None:
                self._lease.saved = saved
                self._lease.ask()

    def _save(self, obj: Obj) -> bytes | None:
        save, calls = self._owned.save, self._clock._calls
        if save is None or calls is None:
            return None
        try:
            saved: object = checked(save(obj))
            if not isinstance(saved, bytes):
                raise WrongType(f"save: expected bytes, got {saved!r:.100}")
            if len(saved) > MOST_SAVED:
                raise WrongValue(f"save: expected at most {MOST_SAVED} bytes, got {len(saved)}")
        except BaseException as error:  # noqa: BLE001 - goes into the log
            calls.report("save", error)
            return None
        return saved

    def _at_end(self, frame: FrameControl[Obj], obj: Obj) -> object:
        """Save the state for the next owner and run ``on_close``, if the room runs here."""
        if not self._begun:
            return None
        self._end_state()
        if not (self._is_over or self._failed):
            self._kept = self._save(obj)
        return None if self._owned.on_close is None else self._owned.on_close(frame, obj)

    @property
    def _is_over(self) -> bool:
        """True if a room that ends now ends in all hubs."""
        state = self._core.state
        return state.value == "running" and not (state.draining or self._failed)

    def _take_call(
        self,
        name: str,
        body: bytes,
        within: float,
        reply: Callable[[bytes, str | None], object] | None,
    ) -> None:
        """Take a call of any hub; see ``TakeCall``."""
        now = self._core.clock.now
        until = now() + within

        def run() -> None:
            calls, function = self._clock._calls, self._owned.calls.get(name)
            if calls is None or not self._runs or not self._lease.is_valid or now() >= until:
                return  # another hub may answer, or the caller waits no more
            try:
                if function is None:
                    raise LookupError(f"there is no function {name!r} in OwnedOption.calls")
                result = checked(function(calls.frame, calls.obj, json.loads(body)))
                answer = b"" if reply is None else _bytes(marshal_json(result))
            except BaseException as error:  # noqa: BLE001 - goes into the log
                calls.report(f"calls[{name!r}]", error)
                if reply is not None:
                    reply(b"", f"{type(error).__name__}: {error}")
                return
            if reply is not None:
                reply(answer, None)

        with contextlib.suppress(HotlineClosed):
            self._loop.post(run)

    # The end.

    def _leave(self) -> Callable[[], object]:
        """Begin to give up the room, because the hub drains.

        :returns: a function that waits for the last callbacks and pushes, and gives up the lease.
        """
        self._lease.stop()
        self._core.letters.unserve(self.name)
        self._loop.agenda.pause(LEASE)
        call = Call(self._end_early)
        try:
            self._loop._change(lambda: self._loop.agenda.post(call.run, essential=True))
        except HotlineClosed:
            return lambda: None

        def wait() -> None:
            with contextlib.suppress(HubThreadError):  # a busy room gets no more time
                call.result(self._loop, self._loop.name, PLACED)
            self._hand_over(PLACED)

        return wait

    def _end_early(self) -> None:
        calls = self._clock._calls
        if calls is not None:
            calls.on_close()

    def _last_word(self) -> Callable[[float], object]:
        """See ``Hotline._last_word``."""
        self._lease.stop()
        self._core.letters.unserve(self.name)
        wait = super()._last_word()

        def finish(timeout: float) -> None:
            deadline = Deadline(timeout)
            wait(timeout)
            self._hand_over(deadline.left() or 0.0)

        return finish

    def _hand_over(self, timeout: float) -> None:
        """Give up the lease, once the last pushes have their places."""
        if self._begun:
            return  # a callback hangs: the lease ends by itself
        if self._shared is not None:
            self._shared.wait_arrived(self._shared.given, min(timeout, PLACED))
        self._let_go()

    def _end(self, reason: str) -> None:
        super()._end(reason)
        self._let_go()

    def _let_go(self) -> None:
        """Give up the lease, and tell the other hubs; once."""
        if self._left:
            return
        self._left = True
        core, over = self._core, self._is_over
        if self._ask_first in core.on_start:
            core.on_start.remove(self._ask_first)
        if self._leave in core.on_drain:
            core.on_drain.remove(self._leave)
        core.letters.unserve(self.name)
        link = core.sharing.link()
        link.unlisten(lease_box(self.name))
        if self._lease.release(b"" if over else self._kept):
            letter = encode_letter({"over" if over else "free": self._lease.token}, b"")
            with contextlib.suppress(BackplaneDown, QueueFull, Closed):
                link.tell(lease_box(self.name), letter, lambda reached: None, PLACED)


def _nothing() -> Any:
    """Make no state: there is none before the lease."""
    return None


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
