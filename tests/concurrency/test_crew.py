"""A crew of threads: one leads at a time, and a step that blocks holds up no other step."""

from __future__ import annotations

import itertools
import linecache
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

import pytest

from hubthread.concurrency import crew as module
from hubthread.concurrency.bell import Bell
from hubthread.concurrency.calls import Call, wait_for
from hubthread.concurrency.crew import Crew, Monitor, Step, about_to_wait, leads
from tests.concurrency.harness import Runtime
from tests.interrupts.interrupting import Strike, unstrikable
from tests.support import TIMEOUT, Gate, Items, Notes, Task


class Posted:
    """A source of the steps that the test posts, one after another."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._steps: deque[Step] = deque()
        self._closed = False
        self._inside = threading.Lock()
        self.waits = threading.Semaphore(0)
        """Released each time that a thread is about to wait."""

    def post(self, *steps: Step) -> None:
        self._steps.extend(steps)
        self._bell.ring()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()

    def wait(self) -> list[Step] | None:
        assert self._inside.acquire(blocking=False), "two threads wait for the source"
        try:
            while not self._steps:
                if self._closed:
                    return None
                self.waits.release()
                self._bell.wait(None)
            return [self._steps.popleft() for _ in range(len(self._steps))]
        finally:
            self._inside.release()


class Made(Runtime):
    """A crew whose steps the test posts."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Posted()
        self.left_behind = Items[Step]()
        self.started: list[str] = []
        self.monitor = Monitor(self.start, self.incidents)
        self.crew = Crew(
            self.source, self.start, "steps", self.monitor, self.incidents, self._left_behind
        )
        self.crew.start()

    def start(self, target: Callable[[], None], what: str) -> None:
        self.started.append(what)
        self.threads.start(target, what)

    def _left_behind(self, step: Step) -> str:
        self.left_behind.add(step)
        return "blocked"

    def at_rest(self) -> None:
        """Wait until the leader waits for the source."""
        assert self.source.waits.acquire(timeout=TIMEOUT)

    def end(self) -> None:
        self.source.close()
        assert not self.threads.join(TIMEOUT)
        assert self.crew._leader is None
        assert not self.crew._spares
        assert not module._hands


@pytest.fixture
def made() -> Iterator[Made]:
    made = Made()
    yield made
    made.end()


def ident_of(idents: Items[int]) -> None:
    idents.add(threading.get_ident())


def test_crew_runs_steps_in_order_on_one_thread(made: Made) -> None:
    notes, idents = Items[int](), Items[int]()

    def step(number: int) -> None:
        notes.add(number)
        ident_of(idents)

    for number in range(0, 100, 10):
        made.source.post(*(partial(step, each) for each in range(number, number + 10)))
    ran = notes.wait(100)
    assert sorted(ran) == list(range(100))
    assert made.started.count("steps-1") == 1
    if not made.left_behind.now():  # as a step is that the system pauses for long
        assert ran == list(range(100))
        assert len(set(idents.now())) == 1


def test_crew_step_that_blocks_holds_up_no_other_step(made: Made) -> None:
    """Nor do the steps that follow, however many of them block."""
    gate, notes = Gate(), Notes()
    blocking = 5
    made.source.post(*[gate] * blocking, partial(notes, "after"))
    for _ in range(blocking):
        gate.reached()
    notes.wait("after")
    made.source.post(partial(notes, "later"))
    notes.wait("later")
    # Others may be left behind, too: steps that the system pauses for long.
    made.left_behind.until(lambda steps: steps.count(gate) == blocking)
    gate.open(blocking)


def test_crew_step_that_computes_is_left_behind(made: Made) -> None:
    ends = threading.Event()

    def compute() -> None:
        while not ends.is_set():
            sum(range(100))

    made.source.post(compute, ends.set)
    assert made.left_behind.wait(1)[0] is compute


def test_crew_goes_on_at_once_when_a_step_is_about_to_wait(made: Made) -> None:
    made.hand_nothing_over()
    gate, notes = Gate(), Notes()

    def step() -> None:
        about_to_wait()
        gate()

    made.source.post(step, step, partial(notes, "after"))
    notes.wait("after")
    gate.open(2)


@pytest.mark.parametrize("way", ["result", "wait_for"])
def test_crew_goes_on_when_a_step_waits_inside_the_library(made: Made, way: str) -> None:
    made.hand_nothing_over()
    condition, arrived = threading.Condition(threading.RLock()), threading.Event()
    call = Call(arrived.set)

    def wait() -> None:
        if way == "result":
            call.result(type("Idle", (), {"runner": None})(), "a part", TIMEOUT)
        else:
            wait_for(condition, arrived.is_set, TIMEOUT)

    def release() -> None:
        call.run()
        with condition:
            condition.notify_all()

    # Only the second step can end the first.
    made.source.post(wait, release)
    assert arrived.wait(TIMEOUT)


def test_crew_wait_that_has_arrived_calls_no_thread(made: Made) -> None:
    made.hand_nothing_over()
    condition, done = threading.Condition(threading.RLock()), threading.Event()

    def step() -> None:
        wait_for(condition, lambda: True, None)
        done.set()

    made.source.post(step)
    assert done.wait(TIMEOUT)
    made.at_rest()
    assert "steps-2" not in made.started


def test_about_to_wait_elsewhere_does_nothing() -> None:
    about_to_wait()


def test_leads_is_false_only_on_a_thread_that_was_left_behind(made: Made) -> None:
    gate, told = Gate(), Items[bool]()

    def step() -> None:
        gate()
        told.add(leads())

    made.source.post(step)
    gate.reached()
    made.left_behind.wait(1)
    gate.open()
    assert told.wait(1) == [False]
    made.hand_nothing_over()
    made.source.post(lambda: told.add(leads()))
    assert told.wait(2) == [False, True]
    assert leads()


BURST = 8


def burst(made: Made) -> None:
    gate = Gate()
    made.source.post(*[gate] * BURST)
    for _ in range(BURST):
        gate.reached()
    gate.open(BURST)


def test_crew_spare_threads_are_used_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER", TIMEOUT)
    for _ in range(4):
        burst(made)
        until = monotonic() + TIMEOUT
        while len(made.crew._spares) < BURST - 1:  # the last of them may lead
            assert monotonic() < until
    assert len([name for name in made.started if name != "monitor"]) <= 2 * BURST


def test_crew_threads_end_some_time_after_a_burst(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.0)
    burst(made)
    while len(running := made.threads.join(0)) > 2:  # the leader and the monitor
        for thread in running:
            hand = module._hands.get(thread.ident or 0)
            if hand is not None and made.crew._leader is not hand:
                thread.join(TIMEOUT)


def test_crew_step_that_raises_is_logged_and_the_next_one_runs(made: Made) -> None:
    done = threading.Event()

    def fail() -> None:
        raise SystemExit("wrong")

    made.source.post(fail, done.set)
    assert done.wait(TIMEOUT)
    made.logs.wait("a bug in hubthread: a step of steps raised")


def test_crew_source_that_raises_is_asked_again(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.at_rest()
    wait, errors = made.source.wait, [SystemExit(), ValueError()]

    def fail() -> list[Step] | None:
        if errors:
            raise errors.pop()
        return wait()

    monkeypatch.setattr(made.source, "wait", fail)
    done = threading.Event()
    made.source.post(done.set)
    assert done.wait(TIMEOUT)
    made.at_rest()
    made.source.post(done.clear)
    made.at_rest()
    assert not done.is_set()


def test_crew_without_more_threads_goes_on_after_the_step(
    made: Made, no_threads: Callable[[], None]
) -> None:
    gate, notes = Gate(), Notes()

    def step() -> None:
        about_to_wait()
        gate()

    made.source.post(step, partial(notes, "after"))
    no_threads()
    gate.open()
    notes.wait("after")


def test_crew_thread_that_cannot_start_is_tried_again(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, notes, refused = Gate(), Notes(), Items[str]()
    start = made.crew._start_thread

    def refuse_twice(target: Callable[[], None], what: str) -> None:
        if len(refused.now()) < 2:
            refused.add(what)
            raise RuntimeError("can't start new thread")
        start(target, what)

    monkeypatch.setattr(made.crew, "_start_thread", refuse_twice)
    made.source.post(gate, partial(notes, "after"))
    notes.wait("after")
    gate.open()
    made.logs.wait("no thread for steps")


def test_crew_ends_with_its_source_and_starts_again() -> None:
    made = Made()
    made.end()
    made.source = made.crew._source = Posted()
    done = threading.Event()
    made.source.post(done.set)
    made.crew.start()
    assert done.wait(TIMEOUT)
    made.end()


def test_crew_thread_that_dies_is_replaced(made: Made) -> None:
    """An exception from outside may strike where nothing catches it."""
    done, gate = threading.Event(), Gate()
    log, struck = made.crew._log, iter([True])

    def strike(error: BaseException) -> None:
        if next(struck, False):
            raise SystemExit("struck")
        log(error)

    made.crew._log = strike  # type: ignore[method-assign]
    made.source.post(lambda: 1 / 0, gate)
    gate.open()
    gate.reached()
    made.source.post(done.set)
    assert done.wait(TIMEOUT)


class Announced(Bell):
    """A bell that notes the time-out of each wait."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        super().__init__()
        self.waits = Items[float | None]()

    def wait(self, timeout: float | None) -> bool:
        self.waits.add(timeout)
        return super().wait(timeout)


def test_monitor_sleeps_without_timeout_while_the_leader_waits(made: Made) -> None:
    made.monitor._bell = bell = Announced()
    for times in range(1, 4):
        done = threading.Event()
        made.source.post(done.set)
        assert done.wait(TIMEOUT)
        bell.waits.until(lambda waits, times=times: waits.count(None) == times)  # type: ignore[misc]
    assert bell.waits.now()[-1] is None


def test_crew_every_step_runs_once_whatever_blocks(made: Made) -> None:
    steps, ran = 2_000, Items[int]()

    def step(number: int) -> None:
        if number % 7 == 0:
            about_to_wait()
        if number % 50 == 0:
            threading.Event().wait(0.004)
        ran.add(number)

    def post(first: int) -> None:
        for number in range(first, steps, 4):
            made.source.post(partial(step, number))

    for task in [Task(partial(post, first)) for first in range(4)]:
        task.result()
    assert sorted(ran.wait(steps)) == list(range(steps))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_crew_thread_in_a_forked_child_runs_no_more_steps(made: Made) -> None:
    pids = Items[int]()

    def fork() -> None:
        pid = os.fork()
        if pid:
            pids.add(pid)

    def must_not_run() -> None:
        if os.getpid() != parent:
            os._exit(1)

    parent = os.getpid()
    made.source.post(fork, must_not_run)
    (pid,) = pids.wait(1)
    # The child's only thread leaves the crew, and so the child ends.
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_crew_thread_has_a_telling_name_while_it_is_left_behind(made: Made) -> None:
    gate, names = Gate(), Items[str]()

    def step() -> None:
        gate()
        names.add(threading.current_thread().name)

    made.source.post(step)
    gate.reached()
    made.left_behind.wait(1)
    with made.crew._lock:  # held until the thread is renamed
        pass
    gate.open()
    assert names.wait(1) == ["test-steps-1-blocked"]
    for _ in range(5):
        burst(made)
    made.hand_nothing_over()
    made.source.post(lambda: names.add(threading.current_thread().name))
    assert names.wait(2)[1].removeprefix("test-steps-").isdigit()


def test_crew_struck_at_any_line_has_one_leader_again() -> None:
    """Steps that were about to be taken may be lost, and nothing else."""

    def strike_at(number: int) -> bool:
        lines, struck, armed = itertools.count(), threading.Event(), threading.Event()

        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            if frame.f_code.co_filename != module.__file__:
                return None
            # The interpreter looks at no signal between "try" and what follows.
            passes = linecache.getline(module.__file__, frame.f_lineno).strip() == "try:"
            strikes = armed.is_set() and not passes and not unstrikable(frame)
            if kind == "line" and strikes and next(lines) == number:
                struck.set()
                notes.add("struck")
                raise Strike
            return trace

        notes = Items[object]()
        armed.set()
        threading.settrace(trace)
        try:
            made = Made()
            for turn in range(3):
                made.source.post(about_to_wait, partial(notes.add, turn))
            notes.until(lambda seen: 2 in seen or "struck" in seen)
            until = monotonic() + TIMEOUT
            while not struck.is_set() and not made.crew._progress()[2]:  # it is about to wait
                assert monotonic() < until
        finally:
            armed.clear()
            threading.settrace(None)
        made.source.post(partial(notes.add, "after"))
        notes.until(lambda seen: "after" in seen)
        leaders = [hand for hand in module._hands.copy().values() if made.crew._leader is hand]
        assert len(leaders) == 1
        made.end()
        return struck.is_set()

    number = 0
    while strike_at(number):
        number += 1
    assert number > 20
