"""The loop of a ticking room: it asks the agenda for the next job, and does it.

Layer: rooms.ticking.  Threads: ``step`` runs on one tick thread at a time; every other method on
any thread.  "The tick thread" is the one that runs ``step`` at the moment.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.concurrency.calls import Call, thread_id
from hubthread.concurrency.clock import Drive
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.logs import LogName
from hubthread.errors import HotlineClosed, HubThreadError, UsageError, WrongThread
from hubthread.net.tick_batch import TickBatch
from hubthread.rooms.attendance import Attendance, WhenEmpty
from hubthread.rooms.state_sync import Moment, StateSender
from hubthread.rooms.state_views import ViewSender
from hubthread.rooms.ticking.agenda import (
    Agenda,
    Countdown,
    Finish,
    Fire,
    Flush,
    RunClosures,
    RunTick,
    Start,
    TellOverrun,
    WaitUntil,
)
from hubthread.rooms.ticking.callbacks import TickCallbacks
from hubthread.rooms.ticking.moves import Inputs
from hubthread.rooms.ticking.record import Recorder, marks_of
from hubthread.rooms.ticking.schedule import Schedule, Tick
from hubthread.rooms.ticking.setup import TickSetup

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.rooms.hotline import Hotline

__all__ = ["TickLoop"]

SPREAD = 0.05
"""Seconds over which the first ticks of rooms that begin together are spread, at the most: rooms
that share a thread would be late by the ticks of the others, each time."""

Control = TypeVar("Control")
Obj = TypeVar("Obj")
T = TypeVar("T")


class TickLoop(Generic[Control, Obj]):
    """The loop of one room.  It drives the room's push log.

    :param hotline: the room.
    """

    def __init__(self, hotline: Hotline[Any, Any], setup: TickSetup[Control, Obj]) -> None:
        self._hotline = hotline
        self._log = hotline._log
        self._setup = setup
        self._clock = hotline._core.clock
        bound = setup.control_size or hotline._core.setting.chan_queue_size
        self.agenda = Agenda(self._clock.now, bound, self._log.name)
        self.room_name = self._log.name
        self.name = LogName(f"the clock of {self.room_name}", hotline._log_ids())
        self.hz = setup.hz or (1 / setup.hz_basic if setup.hz_basic else 0.0)
        self._drive: Drive
        self.attendance = self._attend()
        self._making: Call[Obj] | None = Call(setup.new_obj)
        self._failed = False  # to start
        self._said = False  # the last word: on_close has run
        self._calls: TickCallbacks[Control, Obj] | None = None  # until it has started
        # The tick thread's.
        self.runner: int | None = None
        self._woken = False  # by itself, since the agenda was asked last
        self._slot = 0  # number of the callback that runs, or ran last
        self.tick = Tick(0, setup.period, 0.0, 0)
        self._batch = TickBatch(self._flush_early)
        self._sync: StateSender | None = None  # until the state is made
        self._sync_every = 1  # ticks
        self._sync_at = 0  # the number of the tick after which the next patch leaves
        self._ticked_at = 0.0  # the time at which the last tick was due, since 1970
        self.inputs: Inputs[Any] | None = None  # until the program asks for them
        self.recorder: Recorder | None = None
        self.random: random.Random | None = None  # until the program asks for it

    # Any thread.

    def _attend(self) -> Attendance | None:
        """Return the attendance that calls the hooks of the setup, if it has any."""
        setup, when_empty = self._setup, []
        if not setup._watches:
            return None
        core, agenda = self._hotline._core, self.agenda
        if setup.close_when_empty is not None:
            close = self._hotline._close_empty
            when_empty.append(WhenEmpty(core, setup.close_when_empty, close))
        if setup.pause_when_empty is not None:
            rest, go_on = partial(agenda.pause, "empty"), partial(agenda.resume, "empty")
            when_empty.append(WhenEmpty(core, setup.pause_when_empty, rest, go_on))
        return Attendance(self._log, self._note, self._call_hook, when_empty)

    def _note(self, work: Callable[[], object]) -> None:
        self.agenda.note(work)
        self.wake()

    def start(self, frame: Control) -> None:
        """Have a tick thread run the room, and wait until it has made the room's state.

        :param frame: the first argument of the room's callbacks.
        :raises UsageError: if the room has a clock already.
        :raises HotlineClosed: if the room is closed.
        :raises RuntimeError: if the system cannot start a thread.
        """
        making = self._making
        assert making is not None
        self._log.refuse_driven()
        shared = not self._setup.own_thread
        what = f"frame-{self._hotline.hotline_id}"
        step = partial(contextvars.Context().run, self.step)
        drive: Drive | None = None
        try:
            drive = self._drive = self._clock.drive(step, what, shared=shared)
            obj = making.result(self, self.name)
            incidents = self._hotline._core.incidents
            calls = TickCallbacks(self._setup, frame, obj, self._log.close, self.name, incidents)
            self._begin_record(calls, obj)
            self._log.attach(self, self.attendance)
            self._begin_sync(obj)
            self._calls = calls
            if self.attendance is not None:
                self.attendance.begin()
            self._drive.wake()
        except BaseException:
            if self._calls is None:
                self._failed = True
                self._log.detach(self)
                if self.recorder is not None:
                    self.recorder.close("the room has not begun")
            if drive is not None:
                drive.wake()
            raise

    def _begin_sync(self, obj: Obj) -> None:
        sync, plan = self._setup.sync, self._setup._plan
        if sync is not None and plan is not None:
            if sync.views:
                self._sync = ViewSender(self._hotline, obj, plan, sync.views)
            else:
                push = self._hotline.push if self._hotline._shared is None else None
                self._sync = StateSender(self._hotline, obj, plan, push)
                self._sync.flush = self._flush_early
            if sync.hz is not None and self.hz:
                self._sync_every = max(1, round(self.hz / sync.hz))

    def _begin_record(self, calls: TickCallbacks[Control, Obj], obj: Obj) -> None:
        setup = self._setup
        if setup.record is None or setup._plan is None:
            return
        incidents = self._hotline._core.incidents

        def report(error: BaseException, text: str) -> None:
            incidents.log_exception(error, "%s: %s", self.name, text)

        recorder = self.recorder = Recorder(setup.record, setup._plan, self.is_here, report)
        hooks = (setup.logic, setup.on_start, setup.on_join, setup.on_leave, setup.on_empty)
        marks = marks_of(*hooks, setup.on_overrun, setup.on_close)
        name, state = self._hotline.name, type(obj).__qualname__
        recorder.head(room=name, hz=self.hz, state=state, marks=marks)
        calls.noted = recorder.error

    def chance(self) -> random.Random:
        """Return the room's random numbers; see ``FrameControl.random``."""
        if not self.is_here():
            raise WrongThread("frame.random works in the room's own callbacks only")
        if self.random is None:
            recorder = self.recorder
            self.random = random.Random(None if recorder is None else recorder.seed)
        return self.random

    def make_inputs(self, *terms: Any) -> Inputs[Any]:
        """Return the inputs of the members; see ``FrameControl.inputs``."""
        inputs = self.inputs
        if inputs is None:
            if not self.hz:
                raise UsageError("inputs: this room has no ticks (hz and hz_basic are 0)")
            inputs = Inputs(self._hotline, *terms)
            if self._sync is not None:
                self._sync.acks = inputs.acks
            self.inputs = inputs
        elif inputs.terms != terms:
            raise UsageError(
                f"inputs: the room takes inputs by other terms already, {inputs.terms!r}: "
                f"give the same, or keep what the first call has returned"
            )
        return inputs

    @property
    def handovers(self) -> int:
        """The number of times that other rooms went on without this one."""
        return self._drive.handovers

    def is_here(self) -> bool:
        """Return True if the caller is one of the room's callbacks, on the tick thread."""
        return self.runner == thread_id()

    def has_member(self, ctx: object) -> bool:
        """Return True if ``ctx`` is in the room."""
        return ctx in self._hotline

    def current_callback(self) -> int | None:
        """Return the number of the callback that runs, or None (see ``watchdog.Watched``)."""
        return None if self.runner is None else self._slot

    def refuse_here(self, what: str, instead: str) -> None:
        """Refuse to wait for the room.

        :param what: the call that would wait.
        :param instead: what to do instead.
        :raises WrongThread: on the hub thread, and in the room's own callbacks.
        """
        self._hotline._core.loop.refuse_here(what)
        if self.is_here():
            raise WrongThread(
                f"{what} in the room's own callbacks would wait for itself: {instead}"
            )

    def exec_async(self, work: Callable[[Control, Obj], object]) -> None:
        """Run ``work(frame, obj)`` between ticks; see ``FrameControl``."""
        self.post_work(partial(self.call, "a closure", work), work)

    def exec_sync(self, work: Callable[[Control, Obj], T], timeout: float | None) -> T:
        """Run ``work(frame, obj)`` between ticks, and return its result; see ``FrameControl``."""
        if self.is_here():
            raise WrongThread(
                "exec_sync in the room's own callbacks would wait for itself: "
                "call the function with the frame and the object that you were given"
            )

        def run() -> T:
            assert self._calls is not None
            return work(self._calls.frame, self._calls.obj)

        call = Call(run)
        noted = self._noted(call.run, work)
        self._change(lambda: self.agenda.post(noted, call))
        return call.result(self, self.name, timeout)

    def post(self, work: Callable[[], object], *, essential: bool = False) -> None:
        """Run ``work()``, which must not raise, between ticks; see ``Agenda.post``.

        For work that follows from what a recorder has noted.
        """
        noted = work if self.recorder is None else self.recorder.own(work)
        self._change(lambda: self.agenda.post(noted, essential=essential))

    def post_work(
        self, run: Callable[[], object], work: object, of: Countdown | None = None
    ) -> None:
        """Run ``run()``, which calls ``work``, a function of the program, between ticks.

        :param of: the countdown whose operation it is.
        """
        noted = self._noted(run, work, of)
        self._change(lambda: self.agenda.post(noted))

    def _noted(
        self, run: Callable[[], object], work: object, of: Countdown | None = None
    ) -> Callable[[], object]:
        return run if self.recorder is None else self.recorder.closure(work, run, of)

    def add(self, countdown: Countdown) -> None:
        """Begin a countdown; see ``Agenda.add``."""
        if self.recorder is not None:
            self.recorder.added(countdown)
        self._change(lambda: self.agenda.add(countdown))

    def _change(self, change: Callable[[], None]) -> None:
        """Change the agenda, and have it asked again."""
        try:
            change()
            self.wake()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the agenda may have changed
            self.wake()
            raise

    def wake(self) -> None:
        """Have the agenda asked again."""
        if self.is_here():
            self._woken = True
        else:
            self._drive.wake()

    def call(self, what: str, work: Callable[[Control, Obj], object]) -> None:
        """Call ``work(frame, obj)``, and log its exception.  On the tick thread."""
        assert self._calls is not None
        self._calls.call(what, work)

    def last_word(self) -> Callable[[float], object]:
        """Stop the clock and run ``on_close`` while the hub closes and members still listen.

        Closures still run afterwards: those of clients that leave are to come.

        :returns: a function that waits until its pushes are sent, for a number of seconds.
        """
        self._log.seal()
        call = Call(self._say_last_word)
        try:
            self._change(lambda: self.agenda.post(call.run, essential=True))
        except HotlineClosed:
            return self.agenda.wait_over

        def wait(timeout: float) -> None:
            deadline = Deadline(timeout)
            with contextlib.suppress(HubThreadError):  # a busy room has had its time
                call.result(self, self.name, deadline.left())
                # In a closure of the next round, when the pushes of the last word are sent.
                fence = Call(lambda: None)
                self._change(lambda: self.agenda.post(fence.run, essential=True))
                fence.result(self, self.name, deadline.left())

        return wait

    def _call_hook(self, name: str, *arguments: Any) -> None:
        """Call a hook of the setup.  On the tick thread."""
        recorder = self.recorder
        if recorder is not None and name in ("on_join", "on_leave"):
            (recorder.join if name == "on_join" else recorder.leave)(arguments[0])
        hook = getattr(self._setup, name)
        if hook is not None:
            assert self._calls is not None
            self._calls.call(name, hook, *arguments)
        if self._sync is not None:
            if name == "on_join":
                self._sync.joined(arguments[0], self._moment())
            elif name == "on_leave":
                self._sync.left(arguments[0])

    def _send_state_again(self, member: Client[Any, Any]) -> None:
        sync = self._sync
        if sync is not None and member in self._log:
            sync.left(member)
            sync.joined(member, self._moment())

    def sync_now(self) -> None:
        """Send the changes of the state.  Only for the room's callbacks.

        :raises UsageError: in a room without ``sync``, and outside of its callbacks.
        """
        if self._sync is None:
            raise UsageError(
                "sync_now: make the room with HotlineFrameOption(…, sync=StateSync())"
            )
        if not self.is_here():
            raise WrongThread("sync_now: call it in the room's own callbacks")
        self._sync.step(self._moment())

    def _moment(self) -> Moment | None:
        """Return the last tick and its time; None for a room without ticks."""
        return Moment(self.tick.index, self._ticked_at, self.hz) if self.hz else None

    def _say_last_word(self) -> None:
        """On the tick thread."""
        self.agenda.pause()
        for countdown in self.agenda.countdowns():
            if self.agenda.cancel(countdown):
                countdown.closed()
        assert self._calls is not None
        if self.recorder is not None:
            self.recorder.closing()
        self._said = True
        # As in every on_close, the room accepts nothing more for itself.
        self.agenda.refuses = True
        try:
            self._calls.on_close()
        finally:
            self.agenda.refuses = False

    # The driver of the push log.

    def schedule(self) -> None:
        """See ``push_log.Driver``."""
        self.agenda.flush_due = True
        self.wake()

    def left(self, member: Client[Any, Any]) -> None:
        """See ``push_log.Driver``."""
        if self.inputs is not None:
            self.inputs.forget(member)
        for countdown in self.agenda.countdowns():
            countdown.left(member)

    def rejoined(self, member: Client[Any, Any]) -> None:
        """Begin anew with the inputs and the state of a member that has joined once more."""
        if self.inputs is not None:
            self.inputs.forget(member)
        if self._sync is not None:
            with contextlib.suppress(HotlineClosed):
                self.post(partial(self._send_state_again, member), essential=True)

    def end(self, reason: str) -> None:
        """See ``push_log.Driver``."""
        self._change(lambda: self.agenda.end(reason))

    # The tick thread.

    def step(self) -> float | None:
        """Do one round of jobs; return the time of the next (see ``concurrency.clock.Step``)."""
        self._slot += 1
        self._woken = False
        self.runner = thread_id()
        try:
            calls = self._calls
            due = self._prepare() if calls is None else self._round(calls)
        except BaseException:
            self._crash()
            raise
        finally:
            self.runner = None
        # Woken while the agenda answered: by a finaliser that posts or pushes.
        return -math.inf if self._woken and due is not None else due

    def _prepare(self) -> float | None:
        """Make the room's state, and wait for ``start`` to take it."""
        if self._making is not None:
            making, self._making = self._making, None
            making.run()
        return None if self._failed else math.inf

    def _round(self, calls: TickCallbacks[Control, Obj]) -> float | None:
        clock, following = self._clock.now, self.agenda.next
        while True:
            self._woken = False
            job = following(clock())
            if isinstance(job, WaitUntil):
                return job.time
            if isinstance(job, RunTick):
                self.tick = job.tick
                plain = self._sync is None and self.inputs is None and self.recorder is None
                if not self._send_together(calls.logic if plain else self._whole_tick):
                    self.agenda.record_error()
            elif isinstance(job, RunClosures):
                self._send_together(partial(self._run_closures, job))
            elif isinstance(job, Fire):
                self._send_together(partial(self._fire, job))
            elif isinstance(job, Flush):
                self._flush()
            elif isinstance(job, TellOverrun):
                if self.recorder is not None:
                    self.recorder.overrun(job.overrun)
                self._send_together(partial(calls.on_overrun, job.overrun))
            elif isinstance(job, Start):
                self._start(calls)
            else:
                self._finish(calls, job)
                return None

    def _whole_tick(self) -> bool:
        """Run a tick of a room with inputs, or whose members have its state."""
        assert self._calls is not None
        tick, inputs, recorder = self.tick, self.inputs, self.recorder
        self._ticked_at = self._clock.wall() - tick.late
        given = [] if inputs is None else inputs.begin(tick)
        if recorder is not None:
            recorder.tick(tick, given)
        well = self._calls.logic()
        if recorder is not None:
            recorder.state(self._calls.obj)
        if self._sync is not None and tick.index >= self._sync_at:
            self._sync_at = tick.index + self._sync_every
            self._sync.step(self._moment())
        if inputs is not None:
            inputs.tell()
        return well

    def _start(self, calls: TickCallbacks[Control, Obj]) -> None:
        self._send_together(calls.on_start)
        self._begin_ticks()

    def _begin_ticks(self) -> None:
        setup = self._setup
        if setup.period:
            offset = self._drive.phase * min(setup.period, SPREAD)
            self._ticked_at = self._clock.wall() + offset
            self.agenda.begin(
                lambda now: Schedule(setup.period, now + offset, setup.overrun, setup.catch_up)
            )

    def _run_closures(self, job: RunClosures) -> None:
        take, clock = self.agenda.take, self._clock.now
        for number in range(job.most):
            if number and clock() >= job.until:
                return
            self._slot += 1
            take()()
            self._record_state()

    def _fire(self, job: Fire) -> None:
        countdown = job.countdown
        if self.recorder is not None:
            self.recorder.fire(countdown, over=countdown.is_over(job.now))
        countdown.fire(job.now)
        self._record_state()

    def _record_state(self) -> None:
        """Note the state after a closure of a room without ticks."""
        if self.recorder is not None and not self.hz and self._calls is not None:
            self.recorder.state(self._calls.obj)

    def _send_together(self, work: Callable[[], T]) -> T:
        """Return ``work()``; all that it writes and pushes leaves when it has come to its end."""
        self._slot += 1
        batch = self._batch
        batch.begin()
        try:
            result = work()
            self._flush()
        finally:
            batch.end()
        return result

    def _flush_early(self) -> None:
        """Send the pushes so far to the corked members, before a direct write to one of them."""
        if self.agenda.flush_due:
            self._batch.cork(member.ws_conn.outbox for member in self._log.members())
            self._flush()

    def _flush(self) -> None:
        agenda = self.agenda
        if agenda.flush_due:
            # Cleared first: this flush may miss pushes from here on.
            agenda.flush_due = False
            self._log.flush(self)

    def _finish(self, calls: TickCallbacks[Control, Obj], job: Finish) -> None:
        """Run the last callback, send its pushes, and let every member out."""
        countdowns, _ = self.agenda.close()
        for countdown in countdowns:
            countdown.closed()
        if not self._said:
            if self.recorder is not None:
                self.recorder.closing()
            self._send_together(calls.on_close)
        self._slot += 1
        self._shut(job.reason)

    def _shut(self, reason: str) -> None:
        try:
            self._log.shut()
            self._log.flush(self)  # sends pushes that were accepted before
            self._end_hotline(reason)
            if self.attendance is not None and self._calls is not None:
                self._send_together(self._run_hooks)
            self._log.flush(self)  # the members that left while another thread was flushing
        finally:
            if self.recorder is not None:
                self.recorder.close(reason)
            self.agenda.finish()

    def _end_hotline(self, reason: str) -> None:
        try:
            self._hotline._end(reason)
        except BaseException as error:  # noqa: BLE001 - goes into the log
            assert self._calls is not None
            self._calls.report("a callback of its context", error)

    def _run_hooks(self) -> None:
        """Run the hooks of the members that the end of the room has let out."""
        while self.agenda.waiting:
            self.agenda.take()()

    def _crash(self) -> None:
        """End the room after a bug of the library, so that no thread waits for it for ever."""
        reason = "its clock was stopped by a bug"
        self.agenda.end(reason)
        countdowns, calls = self.agenda.close()
        for countdown in countdowns:
            countdown.closed()
        for call in calls:
            call.abandon(HotlineClosed(f"{self.room_name}: {reason}"))
        self._shut(reason)
