"""The agenda against the rules of its answers, and its methods one by one."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import HotlineClosed, QueueFull, Tick
from hubthread.concurrency.calls import Call
from hubthread.rooms.ticking.agenda import (
    CLOSURES_TIME,
    Agenda,
    Finish,
    Fire,
    Flush,
    Job,
    RunClosures,
    RunTick,
    Start,
    TellOverrun,
    WaitUntil,
)
from hubthread.rooms.ticking.schedule import Schedule
from tests.support.examples import examples

ORDER = [Start, RunClosures, Fire, RunTick, TellOverrun, Flush, WaitUntil, Finish]
"""The jobs of one round."""

DT = 1.0


class Bell:
    """A countdown that fires ``times`` times, a second apart."""

    def __init__(self, agenda: Agenda, delay: float, times: int) -> None:
        self.agenda = agenda
        self.delay = delay
        self.times = times
        self.due = 0.0

    def begin(self, now: float) -> None:
        self.due = now + self.delay

    def is_over(self, now: float) -> bool:
        return True

    def fire(self, now: float) -> None:
        assert now >= self.due
        self.times -= 1
        self.due = now + 1.0
        if not self.times:
            assert self.agenda.cancel(self)

    def closed(self) -> None: ...

    def left(self, member: Any) -> None: ...


class Room:
    """Does the jobs of the agenda, as a tick loop does, and checks each answer.

    :param costs: the seconds that the callbacks take, in turn.
    """

    def __init__(self, costs: list[float]) -> None:
        self.costs = deque(costs or [0.0])
        self.now = self.room = 64.0  # the hub's clock and the room's
        self.agenda = Agenda(lambda: self.now, 1000, "the room")
        self.posted: list[int] = []
        self.ran: list[int] = []
        self.paused = self.ended = self.over = False
        self.index = self.late = self.overruns = self.in_a_row = 0
        self.started = False
        self.origin = 0.0
        self.last_end = -math.inf  # of a round with a tick
        self.rests_since = self.room
        self.slept = False  # the room was idle at the deadline

    @property
    def deadline(self) -> float:
        return self.origin + (self.index + 1) * DT

    @property
    def slot_end(self) -> float:
        """The end of the closures' period between two ticks."""
        return self.deadline if self.deadline > self.last_end else self.last_end + DT

    @property
    def runs(self) -> bool:
        return self.started and not self.paused and not self.ended

    def waiting(self) -> int:
        return len(self.posted) - len(self.ran)

    def spend(self, seconds: float) -> None:
        self.now += seconds
        if not self.paused:
            self.room += seconds

    def call(self) -> float:
        """Let a callback take its time, and return it."""
        self.costs.rotate(-1)
        self.spend(self.costs[0])
        return self.costs[0]

    def post(self) -> None:
        number = len(self.posted)
        self.agenda.post(lambda: self.ran.append(number))
        self.posted.append(number)

    def rounds(self) -> None:
        """Run rounds until the room rests, or has ended."""
        self.slept |= self.rests_since < self.deadline <= self.room
        for _ in range(500):
            answer = self.one_round()
            if isinstance(answer, Finish):
                self.over = True
                return
            if answer.time > self.now:
                self.rests_since = self.room
                return
        raise AssertionError("the room does not come to rest")

    def one_round(self) -> WaitUntil | Finish:
        waited = self.waiting()
        kinds: list[type[Job]] = []
        fired_at: float | None = None
        while True:
            job = self.agenda.next(self.now)
            kinds.append(type(job))
            if isinstance(job, Start):
                self.origin = self.room
                self.agenda.begin(lambda now: Schedule(DT, now, "skip", 1))
                self.started = True
            elif isinstance(job, RunClosures):
                assert job.most == self.waiting() > 0
                if self.runs:
                    assert self.room < self.slot_end
                    assert job.until <= self.now + self.slot_end - self.room
                assert self.now <= job.until
                for number in range(job.most):
                    if number and self.now >= job.until:
                        break
                    self.agenda.take()()
                    self.call()
            elif isinstance(job, Fire):
                assert self.runs
                fired_at = self.room if fired_at is None else fired_at
                pending = [each.due for each in self.agenda.countdowns()]
                assert job.countdown.due == min(pending) <= fired_at
                assert job.now == self.room
                job.countdown.fire(job.now)
                self.call()
            elif isinstance(job, RunTick):
                self.check_tick(job.tick)
                cost = self.call()
                self.in_a_row = self.in_a_row + 1 if cost > DT else 0
                if cost > DT:
                    overrun = self.agenda.next(self.now)
                    assert isinstance(overrun, TellOverrun)
                    assert overrun.overrun.work == cost
                    assert overrun.overrun.in_a_row == self.in_a_row
                    self.overruns += 1
            elif isinstance(job, Flush):
                assert self.agenda.flush_due
                self.agenda.flush_due = False
            else:
                assert isinstance(job, (WaitUntil, Finish))
                break
        self.check_round(kinds, waited)
        if RunTick in kinds:
            self.last_end = self.room
        if isinstance(job, Finish):
            assert self.ended
            assert not self.waiting()
        else:
            assert job.time == self.expected_wait()
        return job

    def check_tick(self, tick: Tick) -> None:
        """It is the last that is due, and does not take the closures' period."""
        assert self.runs
        deadline, newest = self.deadline, math.floor((self.room - self.origin) / DT)
        assert self.room >= deadline
        assert not self.waiting() or self.room >= self.slot_end
        late = self.room - self.origin - newest * DT
        assert tick == Tick(newest, DT, late, newest - self.index - 1)
        self.index = newest
        self.late += not self.slept
        self.slept = False

    def check_round(self, kinds: list[type[Job]], waited: int) -> None:
        assert kinds == sorted(kinds, key=ORDER.index)
        assert all(kinds.count(kind) <= 1 for kind in kinds if kind is not Fire)
        if waited:  # closures wait for one tick at the most
            assert RunClosures in kinds or RunTick in kinds
        assert not self.agenda.flush_due or Finish in kinds

    def expected_wait(self) -> float:
        if self.waiting():
            return -math.inf
        if self.paused:
            return math.inf
        due = min([self.deadline, *(each.due for each in self.agenda.countdowns())])
        return self.now + (due - self.room)


QUARTERS = st.integers(1, 12).map(lambda number: number / 4)
EVENTS = st.one_of(
    st.tuples(st.just("advance"), QUARTERS),
    st.tuples(st.just("advance and run"), QUARTERS),
    st.tuples(st.just("advance and run"), QUARTERS),
    st.tuples(st.just("post"), st.integers(1, 5)),
    st.tuples(st.just("count down"), QUARTERS, st.integers(1, 3)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("push")),
)


@settings(max_examples=examples(200))
@given(
    st.lists(EVENTS, min_size=5, max_size=50),
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 1.25]), max_size=7).filter(
        lambda costs: not costs or 0.0 in costs
    ),
)
def test_agenda_any_events_answers_follow_the_rules(
    events: list[tuple[Any, ...]], costs: list[float]
) -> None:
    """Order, fairness, deadlines, lateness and waits, whatever happens and however long."""
    room = Room(costs)
    room.rounds()
    for name, *values in events:
        if name.startswith("advance"):
            room.spend(values[0])
            if name == "advance and run":
                room.rounds()
        elif name == "post":
            for _ in range(values[0]):
                room.post()
        elif name == "count down":
            room.agenda.add(Bell(room.agenda, *values))
        elif name == "push":
            room.agenda.flush_due = True
        else:
            getattr(room.agenda, name)()
            room.paused = name == "pause"
    room.post()
    room.agenda.end("the test is over")
    room.ended = True
    room.rounds()
    assert room.over
    assert room.ran == room.posted
    window, waiting = room.agenda.snapshot()
    assert (window.late, window.overruns, waiting) == (room.late, room.overruns, 0)
    assert window.ticks + window.skipped == room.index


def started(bound: int = 10, now: float = 0.0) -> Agenda:
    """Return an agenda without ticks, at rest."""
    agenda = Agenda(lambda: now, bound, "the room")
    assert agenda.next(now) == Start()
    assert agenda.next(now) == WaitUntil(math.inf)
    return agenda


def test_agenda_post_beyond_the_bound_is_refused_unless_essential() -> None:
    agenda = started(bound=2)
    for _ in range(2):
        agenda.post(lambda: None)
    with pytest.raises(QueueFull, match="2 closures are waiting, the bound of control_size"):
        agenda.post(lambda: None)
    agenda.post(lambda: None, essential=True)
    assert agenda.snapshot()[1] == 3


def test_agenda_end_refuses_closures_and_countdowns() -> None:
    """The first reason counts."""
    agenda = started()
    agenda.end("the first reason")
    agenda.end("the second reason")
    assert agenda.ending
    with pytest.raises(HotlineClosed, match="the room is closed"):
        agenda.post(lambda: None, essential=True)
    with pytest.raises(HotlineClosed):
        agenda.add(Bell(agenda, 1.0, 1))
    assert agenda.next(0.0) == Finish("the first reason")


def test_agenda_closures_may_begin_for_a_moment_but_not_past_the_next_tick() -> None:
    """A paused room gets no tick."""
    agenda = started()
    agenda.begin(lambda now: Schedule(1.0, now, "skip", 1))
    agenda.post(lambda: None)
    assert agenda.next(0.5) == RunClosures(1, 0.5 + CLOSURES_TIME)
    assert agenda.next(0.5) == WaitUntil(-math.inf)
    assert agenda.next(0.9995) == RunClosures(1, 1.0)
    agenda.pause()
    assert agenda.next(0.9995) == WaitUntil(-math.inf)
    assert agenda.next(0.9995) == RunClosures(1, 0.9995 + CLOSURES_TIME)


def test_agenda_cancel_succeeds_once() -> None:
    agenda = started()
    bell = Bell(agenda, 2.0, 1)
    assert not agenda.cancel(bell)
    agenda.add(bell)
    assert (agenda.is_pending(bell), agenda.remaining(bell, bell.due)) == (True, 2.0)
    assert agenda.next(0.0) == WaitUntil(2.0)
    assert agenda.cancel(bell)
    assert not agenda.cancel(bell)
    assert (agenda.is_pending(bell), agenda.remaining(bell, bell.due)) == (False, 0.0)


def test_agenda_close_returns_what_is_left() -> None:
    """Countdowns, and the calls of closures that a caller waits for."""
    agenda = started()
    bell, call = Bell(agenda, 1.0, 1), Call(lambda: None)
    agenda.add(bell)
    agenda.post(call.run, call)
    agenda.post(lambda: None)
    assert agenda.close() == ([bell], [call])
    assert agenda.close() == ([], [])


def test_agenda_finish_ends_the_wait_for_it() -> None:
    agenda = started()
    assert not agenda.wait_over(0)
    agenda.finish()
    assert agenda.wait_over(0)
