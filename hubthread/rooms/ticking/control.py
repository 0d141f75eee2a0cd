"""Ticking rooms as users hold them: the option, the room, its countdowns and its gates.

The classes name each other, so they stand in one module; what they do is in the modules that
this one imports.

Layer: rooms.ticking.  Threads: methods from any thread, if they do not say otherwise; the
callbacks of a room run on tick threads, one at a time.
Source: the specification's ``HotlineFrameOption``, ``HotlineFrameRun``, ``MakeFrameRun``,
``IHotlineFrameControl``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_number, check_timeout, check_work
from hubthread.errors import UsageError, WrongThread, WrongType
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.rooms.ticking.countdown import BaseCountdown, BaseCountdownTicker
from hubthread.rooms.ticking.inputs import BaseInputGate
from hubthread.rooms.ticking.loop import TickLoop
from hubthread.rooms.ticking.moves import Inputs, Late, PerTick
from hubthread.rooms.ticking.schedule import Tick
from hubthread.rooms.ticking.setup import TickSetup
from hubthread.statistics import FrameStatistics

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.concurrency.watchdog import Watched
    from hubthread.core.figures import Ticks
    from hubthread.interfaces import IHotline, IOContext

__all__ = [
    "FrameControl",
    "HotlineFrameOption",
    "InputGate",
    "OperationCountdown",
    "OperationCountdownTicker",
]

Obj = TypeVar("Obj")
T = TypeVar("T")
V = TypeVar("V")


class FrameControl(Hotline[Any, Any], Generic[Obj]):
    """A room whose state one thread at a time advances.  Made by ``HotlineFrameOption.run``.

    It is the hotline that the option was run on, and has all methods of a hotline.  Three
    things happen on tick threads, one at a time: ticks, closures (``exec_async``, ``exec_sync``)
    and countdowns.  The messages that one of them pushes and writes leave together at its end,
    in one send for each member.  Quick closures that wait together count as one.
    The hub's thread has no part in it.
    """

    __slots__ = ("_loop",)

    def __init__(
        self, hotline: Hotline[Any, Any], setup: TickSetup[FrameControl[Obj], Obj]
    ) -> None:
        super().__init__(hotline._core, hotline.hotline_id, hotline._option, hotline)
        self._loop: TickLoop[FrameControl[Obj], Obj] = self._make_loop(setup)
        self._attendance = self._loop.attendance
        self._loop.start(self)
        self._log.room = self
        self._core.registry.replace(self)

    def _make_loop(
        self, setup: TickSetup[FrameControl[Obj], Obj]
    ) -> TickLoop[FrameControl[Obj], Obj]:
        return TickLoop(self, setup)

    def _watched(self) -> Sequence[Watched]:
        return (self._loop,)

    @property
    def _load(self) -> float | None:
        return self._loop.agenda.load()

    @property
    def _ticks(self) -> Ticks | None:
        return self._loop.agenda.window

    def _last_word(self) -> Callable[[float], object]:
        return self._loop.last_word()

    def _wait_ended(self, timeout: float) -> bool:
        self._loop.end("the hub was closed")  # if it has only said its last word
        return self.join(timeout)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        state = "closed" if self.is_closed else "paused" if self.paused else "open"
        rate = f"{self.hz:g} Hz" if self.hz else "no ticks"
        members = f"{self.members_num} members"
        return f"<FrameControl {self.hotline_id}{name} {state}, {rate}, {members}>"

    # Time.

    @property
    def tick(self) -> Tick:
        """The tick that is running, or ran last: ``index``, ``dt``, ``late``, ``skipped``.

        :raises WrongThread: outside of the room's own callbacks.
        """
        if not self._loop.is_here():
            raise WrongThread(
                "frame.tick works in the room's own callbacks only; elsewhere use statistics()"
            )
        return self._loop.tick

    @property
    def hz(self) -> float:
        """Ticks a second; 0 without ticks."""
        return self._loop.hz

    @property
    def random(self) -> random.Random:
        """Random numbers for the room's own callbacks.

        The seed is in the record of ``HotlineFrameOption.record``, so a replay has the same.

        :raises WrongThread: outside of the room's own callbacks.
        """
        return self._loop.chance()

    def latency_time(self, seconds: float) -> float:
        """Return ``seconds / hz``: at 10 Hz, 1.0 s is 0.1 s (``LatencyTime``).

        :raises UsageError: when there are no ticks.
        """
        check_number("seconds", seconds, -math.inf)
        dt = self._loop.tick.dt
        if not dt:
            raise UsageError("latency_time: this room has no ticks (hz and hz_basic are 0)")
        return seconds * dt

    def pause(self) -> None:
        """Stop the room's clock: no tick begins and no countdown runs until ``resume``.

        A tick that has begun comes to its end; ``exec_sync`` waits for it.  Closures, joins
        and pushes go on.
        """
        self._loop.agenda.pause()

    def resume(self) -> None:
        """Let the clock go on where it stopped; the rest of the interrupted period comes first."""
        self._loop.agenda.resume()
        self._loop.wake()

    def step(self) -> None:
        """Let the clock of a paused room go on to its next tick, and run it; return at once.

        Countdowns that are due by then run before the tick.  The clock stands still again
        afterwards.  To look at a game tick by tick: pause it, and step.

        :raises UsageError: when the room is not paused, or has no ticks.
        :raises HotlineClosed: when the room is closing.
        """
        if not self.hz:
            raise UsageError("step: this room has no ticks (hz and hz_basic are 0)")
        self._loop.agenda.step()
        self._loop.wake()

    @property
    def paused(self) -> bool:
        """True if the clock stands still."""
        return self._loop.agenda.paused

    # Closures.

    def exec_async(self, work: Callable[[FrameControl[Obj], Obj], object]) -> None:
        """Run ``work(frame, obj)`` on the tick thread, between ticks; return at once.

        Closures run in the order of their acceptance, also while the room is paused.  What
        they raise is logged.  Handlers use them to bring the clients' input into the room.

        :raises HotlineClosed: when the room is closing; work that was accepted before still runs.
        :raises QueueFull: when ``control_size`` closures wait.
        """
        check_work(work, ("frame", "obj"))
        self._loop.exec_async(work)

    def exec_sync(
        self, work: Callable[[FrameControl[Obj], Obj], T], timeout: float | None = None
    ) -> T:
        """Run ``work(frame, obj)`` on the tick thread; return its result or raise its exception.

        :param timeout: seconds.
        :raises WrongThread: from inside the room's own callbacks.
        :raises HotlineClosed, QueueFull: as ``exec_async``.
        :raises DeadlockError: when the room waits for this thread.
        :raises ExecTimeout: with the stack of what the room is doing; the work still runs.
        """
        check_work(work, ("frame", "obj"))
        check_timeout(timeout)
        return self._loop.exec_sync(work, timeout)

    def sync_now(self) -> None:
        """Send the changes of the state to the members now, instead of after a tick.

        For rooms without ticks, and for rooms that are paused.

        :raises UsageError: in a room without ``HotlineFrameOption.sync``.
        :raises WrongThread: outside of the room's own callbacks.
        """
        self._loop.sync_now()

    # Inputs of players.

    def inputs(
        self,
        into: type[V],
        *,
        buffer: int = 8,
        per_tick: PerTick = "one",
        late: Late = "next",
    ) -> Inputs[V]:
        """Take inputs of the members, each in the tick that it is for.

        Make the first call in ``on_start``: inputs that come before it are refused.  Later calls
        with the same arguments return the same object.

        :param into: the type of an input, as of a handler.
        :param buffer: the inputs of one member that may wait, and the ticks that an input may be
            ahead.
        :param per_tick: ``"one"`` takes one input of a member for each tick that has passed:
            after ticks without an input, one tick may take several, up to ``buffer``.  ``"all"``
            takes all inputs whose tick has come.
        :param late: the rule for an input whose tick has begun already: ``"next"`` takes it in the
            next tick, ``"drop"`` refuses it.
        :raises UsageError: in a room without ticks, or if the arguments differ from those before.
        :raises HandleAnyNotPtr: for a type that no message can be converted to.
        :raises SettingError: for another value of the wrong kind.
        """
        return self._loop.make_inputs(into, buffer, per_tick, late)

    def _rejoined(self, client: Client[Any, Any]) -> None:
        self._loop.rejoined(client)

    def _take_input(self, client: Client[Any, Any], message: Mapping[str, Any]) -> None:
        inputs = self._loop.inputs
        if inputs is None:
            super()._take_input(client, message)
        elif client in self:
            inputs.take_message(client, message)
        else:
            raise UsageError("the client is not in the room")

    # Waiting for players.

    def operation_timeout(
        self, timeout: float, on_timeout: Callable[[FrameControl[Obj], Obj], object]
    ) -> OperationCountdown[Obj]:
        """Start a countdown that ends when the room has waited long enough (``OperationTimeout``).

        :param timeout: seconds of the room's clock, so that a pause stops it.
        :param on_timeout: called with ``(frame, obj)`` on the tick thread when the time is up,
            unless ``done`` was called, or the room has closed.
        :raises SettingError: for a time that is not above zero.
        :raises HotlineClosed: when the room is closing.
        """
        return OperationCountdown(self, self._loop, timeout, on_timeout)

    def operation_ticker(
        self,
        timeout: float,
        on_timeout: Callable[[FrameControl[Obj], Obj], object],
        interval: float,
        on_tick: Callable[[FrameControl[Obj], Obj], object],
    ) -> OperationCountdownTicker[Obj]:
        """Start a countdown that also calls ``on_tick(frame, obj)`` every ``interval`` seconds.

        :raises SettingError, HotlineClosed: as ``operation_timeout``.
        """
        return OperationCountdownTicker(self, self._loop, timeout, on_timeout, interval, on_tick)

    def await_inputs(
        self,
        members: Iterable[IOContext],
        timeout: float,
        default: V,
        on_done: Callable[[FrameControl[Obj], Obj, InputGate[Obj, V]], object] | None = None,
    ) -> InputGate[Obj, V]:
        """Wait for one input of each of ``members``; see ``InputGate``.

        :param timeout: seconds of the room's clock.
        :param default: the input of members that have given none by then.
        :param on_done: called with ``(frame, obj, gate)`` on the tick thread, as soon as
            each member has answered or left, or when time is up.
        :raises SettingError: for a time that is not above zero.
        :raises ContextNotClient: when a member is not a client.
        :raises WrongType: for a room or one client instead of several: give ``room.members``, or
            ``[ctx]``.
        :raises HotlineClosed: when the room is closing.
        """
        return InputGate(self, self._loop, members, timeout, default, on_done)

    # The end, and figures.

    def join(self, timeout: float | None = None) -> bool:
        """Wait until ``on_close`` has run.

        :param timeout: seconds.
        :returns: False when ``timeout`` passed first.
        :raises WrongThread: on the hub thread, which ``on_close`` may need, and from inside the
            room's own callbacks.
        """
        check_timeout(timeout)
        self._loop.refuse_here("frame.join", "call it from another thread")
        return self._loop.agenda.wait_over(timeout)

    def statistics(self) -> FrameStatistics:
        """Return the room's figures; times are those of its last 512 ticks."""
        hotline, paused = super().statistics(), self.paused
        window, waiting = self._loop.agenda.snapshot()
        work, lateness = window.spreads()
        return FrameStatistics(
            **vars(hotline),
            paused=paused,
            ticks=window.ticks,
            skipped=window.skipped,
            late=window.late,
            overruns=window.overruns,
            errors=window.errors,
            work=work,
            lateness=lateness,
            closures_waiting=waiting,
            handovers=self._loop.handovers,
        )


@dataclass(frozen=True)
class HotlineFrameOption(TickSetup[FrameControl[Obj], Obj]):
    """A room's state, its rate, and the functions that it calls.

    One option may run on any number of hotlines, each with an object of its own.  All
    callbacks but ``new_obj`` get ``(frame, obj)`` and run on a tick thread, one
    at a time: ``obj`` needs no lock.
    """

    def run(self, hotline: IHotline) -> FrameControl[Obj]:
        """Give ``hotline`` a clock; return when ``new_obj`` has made its state.

        :param hotline: the result of ``hub.hotline()``.
        :raises UsageError: if the hotline has a clock already, or is a silent hotline.
        :raises HotlineClosed: when it is closed.
        :raises RuntimeError: when the system cannot start a thread.
        """
        if not isinstance(hotline, Hotline) or isinstance(hotline, SilentHotline):
            raise WrongType(f"expected a hotline made by hub.hotline(), got {hotline!r}")
        return FrameControl(hotline, self)


class OperationCountdown(BaseCountdown[FrameControl[Obj], Obj]):
    """A countdown on a room's clock.  Made by ``frame.operation_timeout``.

    Exactly one thing ends it: ``done``, its time, or the room's closing.  It stands still
    while the room is paused.
    """


class OperationCountdownTicker(
    BaseCountdownTicker[FrameControl[Obj], Obj], OperationCountdown[Obj]
):
    """A countdown that calls ``on_tick`` on the way.  Made by ``frame.operation_ticker``.

    The calls are due on a grid that starts with the countdown.  A call that the room could
    not make in time is left out.  No call comes together with the time-out.
    """


class InputGate(BaseInputGate[FrameControl[Obj], Obj, V]):
    """One input of each of some members, or its default.  Made by ``frame.await_inputs``.

    It is complete when each member has answered or left, when time is up, or when ``done``
    is called; then ``on_done(frame, obj, gate)`` runs, once.  If the room closes first,
    ``on_done`` does not run.
    """
