"""A hotline with a clock, as users hold it.

Layer: hub.  Threads: everything from any, unless it says otherwise; the callbacks run on
the room's tick thread, one at a time.
Source: the specification's ``IHotlineFrameControl``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_work
from hubthread.errors import UsageError, WrongThread
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.ticking.countdown import OperationCountdown, OperationCountdownTicker
from hubthread.rooms.ticking.inputs import InputGate
from hubthread.rooms.ticking.loop import TickLoop
from hubthread.rooms.ticking.schedule import Tick
from hubthread.statistics import FrameStatistics

if TYPE_CHECKING:
    from hubthread.concurrency.watchdog import Watched
    from hubthread.interfaces import IOContext
    from hubthread.rooms.ticking.setup import HotlineFrameOption
    from hubthread.rooms.ticking.window import TickWindow

__all__ = ["FrameControl"]

Obj = TypeVar("Obj")
T = TypeVar("T")
V = TypeVar("V")


class FrameControl(Hotline[Any, Any], Generic[Obj]):
    """A room whose state one thread owns and advances.  Made by ``HotlineFrameOption.run``.

    It is the hotline that was given a clock, and has all that a hotline has.  Three things
    happen on its thread: ticks, closures (``exec_async``, ``exec_sync``), countdowns.  What
    each of them pushes and writes leaves together when it has come to its end, in one send
    for each member; closures that wait together, and are quick, are one in that.  The hub's
    thread has no part in it.
    """

    __slots__ = ("_loop",)

    def __init__(self, hotline: Hotline[Any, Any], option: HotlineFrameOption[Obj]) -> None:
        super().__init__(
            hotline._core, hotline.hotline_id, hotline.name, hotline._log, hotline.context
        )
        self._loop: TickLoop[Obj] = TickLoop(self, option)
        self._loop.start(self)
        self._core.registry.replace(self)

    def _watched(self) -> Sequence[Watched]:
        return (self._loop,)

    def _wait_ended(self, timeout: float) -> bool:
        return self.join(timeout)

    # Time.

    @property
    def tick(self) -> Tick:
        """The tick that is running, or ran last: ``index``, ``dt``, ``late``, ``skipped``.

        :raises WrongThread: outside of the room's own callbacks.
        """
        if not self._loop.is_here():
            raise WrongThread("frame.tick is for the room's own callbacks; see statistics()")
        return self._loop.tick

    @property
    def hz(self) -> float:
        """Ticks a second; 0: there are none."""
        return self._loop.hz

    def latency_time(self, seconds: float) -> float:
        """``seconds / hz``: at 10 Hz, 1.0 s is 0.1 s (``LatencyTime``).

        :raises UsageError: when there are no ticks.
        """
        dt = self._loop.tick.dt
        if not dt:
            raise UsageError("latency_time: this room has no ticks (hz and hz_basic are 0)")
        return seconds * dt

    def pause(self) -> None:
        """Stop the room's clock: no tick begins and no countdown runs until ``resume``.

        One that has begun comes to its end; ``exec_sync`` waits for that.  Closures, joins
        and pushes go on.
        """
        self._loop.agenda.pause()

    def resume(self) -> None:
        """Let the clock go on where it stopped; what was left of a period is waited for."""
        self._loop.agenda.resume()
        self._loop.wake()

    @property
    def paused(self) -> bool:
        """Whether the clock stands still."""
        return self._loop.agenda.paused

    # Closures.

    def exec_async(self, work: Callable[[FrameControl[Obj], Obj], object]) -> None:
        """Run ``work(frame, obj)`` on the tick thread, between ticks; returns at once.

        In the order of acceptance, also while the room is paused.  What it raises is
        logged.  How inputs of clients reach the room.

        :raises HotlineClosed: when the room is closing; what was accepted before still runs.
        :raises QueueFull: when ``control_size`` closures wait.
        """
        check_work(work)
        self._loop.exec_async(work)

    def exec_sync(
        self, work: Callable[[FrameControl[Obj], Obj], T], timeout: float | None = None
    ) -> T:
        """Run ``work(frame, obj)`` there, wait, and return its result or raise what it raises.

        :param timeout: seconds.
        :raises WrongThread: from inside the room's own callbacks.
        :raises HotlineClosed, QueueFull: as ``exec_async``.
        :raises DeadlockError: when the room waits for this thread.
        :raises ExecTimeout: with the stack of what the room is doing; the work still runs.
        """
        check_work(work)
        return self._loop.exec_sync(work, timeout)

    # Waiting for players.

    def operation_timeout(
        self, timeout: float, on_timeout: Callable[[FrameControl[Obj], Obj], object]
    ) -> OperationCountdown[Obj]:
        """Wait for input, for a time: a countdown that begins now (``OperationTimeout``).

        :param timeout: seconds of the room's clock, so that a pause stops it.
        :param on_timeout: called with ``(frame, obj)`` on the tick thread when it is over,
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
        """The same, with ``on_tick(frame, obj)`` every ``interval`` seconds before its end."""
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
        :param default: the input of who has given none by then.
        :param on_done: called with ``(frame, obj, gate)`` on the tick thread, as soon as
            everybody has answered or left, or when time is up.
        :raises SettingError: for a time that is not above zero.
        :raises HotlineClosed: when the room is closing.
        """
        return InputGate(self, self._loop, members, timeout, default, on_done)

    # The end, and looking.

    def join(self, timeout: float | None = None) -> bool:
        """Wait until ``on_close`` has run, ``timeout`` seconds at most; whether it has.

        :raises WrongThread: on the hub thread, which ``on_close`` may need, and from inside the
            room's own callbacks.
        """
        self._core.loop.refuse_here("frame.join")
        if self._loop.is_here():
            raise WrongThread("join from inside the room's own callbacks would wait for itself")
        return self._loop.agenda.wait_over(timeout)

    def statistics(self) -> FrameStatistics:
        """What is to be known of this room now; times over its last 512 ticks."""
        hotline, paused = super().statistics(), self.paused

        def see(window: TickWindow, waiting: int) -> FrameStatistics:
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
            )

        return self._loop.agenda.look(see)
