"""The real clock: its steps run at their deadlines and when woken, on threads of their own or on
threads that they share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from time import monotonic

import pytest

from hubthread.concurrency import shared_clock
from hubthread.concurrency.clock import Drive, Step
from tests.concurrency.harness import Runtime
from tests.support import TIMEOUT, Gate, Items, together

DriveStep = Callable[[Step], Drive]


@pytest.fixture(params=["own", "shared"])
def drive(request: pytest.FixtureRequest, runtime: Runtime) -> DriveStep:
    """A function that has the clock of ``runtime`` call a step."""
    return partial(runtime.clock.drive, what="room", shared=request.param == "shared")


def share(runtime: Runtime, *steps: Step) -> list[Drive]:
    """Have the clock call ``steps`` on shared threads."""
    return [
        runtime.clock.drive(step, f"room-{number}", shared=True)
        for number, step in enumerate(steps, 1)
    ]


def test_step_is_called_at_its_deadlines_until_none(drive: DriveStep, runtime: Runtime) -> None:
    """Never early, and on one timer thread."""
    runtime.hand_nothing_over()
    dues: list[float] = []
    calls: Items[tuple[float, threading.Thread]] = Items()

    def step() -> float | None:
        calls.add((monotonic(), threading.current_thread()))
        if len(dues) == 5:
            return None
        dues.append(monotonic() + 0.003)
        return dues[-1]

    drive(step)
    called = calls.wait(6)
    runtime.end()
    (thread,) = {each for _, each in called}
    assert isinstance(thread, threading.Timer)
    assert thread.name in ("test-room", "test-ticks-1", "test-ticks-1-1")
    assert thread.finished.is_set()
    for (moment, _), due in zip(called[1:], dues, strict=True):
        assert moment >= due - 1e-6
    assert len(calls.now()) == 6


def test_step_is_called_at_once_for_a_passed_deadline(drive: DriveStep) -> None:
    answers = [monotonic() - 5, -math.inf, 0.0, None]
    called: Items[int] = Items()

    def step() -> float | None:
        called.add(1)
        return answers.pop(0)

    drive(step)
    assert len(called.wait(4)) == 4


@pytest.mark.parametrize("due", [math.inf, 1e300])
def test_step_wake_ends_an_endless_wait(drive: DriveStep, runtime: Runtime, due: float) -> None:
    """A wake by another thread during the step, or by the step itself, is not lost."""
    called: Items[int] = Items()
    inside, go_on = threading.Event(), threading.Event()

    def step() -> float | None:
        called.add(1)
        count = len(called.now())
        if count == 2:
            inside.set()
            assert go_on.wait(TIMEOUT)
        if count == 3:
            driven.wake()
        return None if count == 4 else due

    driven = drive(step)
    called.wait(1)
    driven.wake()
    assert inside.wait(TIMEOUT)
    driven.wake()
    driven.wake()
    go_on.set()
    called.wait(4)
    runtime.end()
    driven.wake()
    assert len(called.now()) == 4


def test_step_wake_from_many_threads_is_never_lost(drive: DriveStep) -> None:
    """A call after each wake sees what was changed before it."""
    asked = [0] * 4
    seen = [0] * 4
    changed = threading.Condition()
    over = False

    def step() -> float | None:
        now = list(asked)
        with changed:
            seen[:] = now
            changed.notify_all()
        return None if over else math.inf

    driven = drive(step)

    def ask(who: int) -> None:
        for number in range(1, 150):
            asked[who] = number
            driven.wake()
            with changed:
                assert changed.wait_for(lambda: seen[who] >= number, TIMEOUT)  # noqa: B023

    together(4, ask)
    over = True
    driven.wake()


def test_step_that_raises_is_logged_and_ends(drive: DriveStep, runtime: Runtime) -> None:
    drive(lambda: 1 / 0)
    assert "ZeroDivisionError" in runtime.logs.wait("a bug in hubthread: ")


# Shared threads.


def test_shared_steps_run_in_the_order_of_their_deadlines(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(shared_clock, "monotonic", lambda: now)
    runtime.hand_nothing_over()
    gate, ran, called = Gate(), Items[int](), Items[int]()

    def step(number: int) -> float | None:
        if number in called.now():
            ran.add(number)
            return None
        called.add(number)
        return float(number)

    def hold() -> float | None:
        """Keep the only thread until all have asked for their times."""
        if len(called.now()) < 6:
            return -math.inf
        gate()
        return None

    order = [5, 3, 8, 1, 9, 2]
    share(runtime, *[partial(step, each) for each in order], hold)
    gate.reached()
    now = 10.0
    gate.open()
    assert ran.wait(6) == sorted(order)


def test_shared_step_that_blocks_holds_up_no_other_and_is_counted(runtime: Runtime) -> None:
    gate, ran = Gate(), Items[int]()

    def quick() -> float | None:
        ran.add(1)
        return monotonic() + 0.001 if len(ran.now()) < 20 else None

    def slow() -> None:
        gate()

    blocked, _ = share(runtime, slow, quick)
    gate.reached()
    ran.wait(20)
    assert blocked.handovers == 1
    gate.open()


def test_shared_step_is_never_called_twice_at_once(runtime: Runtime) -> None:
    """It is woken, and its time comes, while it is left behind."""
    gate, calls = Gate(), Items[str]()

    def step() -> float | None:
        calls.add("begin")
        gate()
        calls.add("end")
        return monotonic() if len(calls.now()) < 6 else None

    (driven, _) = share(runtime, step, lambda: None if len(calls.now()) == 6 else monotonic())
    for _ in range(3):
        gate.reached()
        driven.wake()
        gate.open()
    assert calls.wait(6) == ["begin", "end"] * 3


def test_shared_step_that_was_slow_lets_others_go_first_until_it_is_quick(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, called = Gate(), Items[int]()
    announced = Items[int]()
    monkeypatch.setattr(shared_clock, "about_to_wait", lambda: announced.add(1))
    times = shared_clock.QUICK + 5

    def step() -> float | None:
        called.add(1)
        if len(called.now()) == 1:
            gate()
        return -math.inf if len(called.now()) < times else None

    (driven,) = share(runtime, step)
    gate.reached()
    beside = Items[int]()
    share(runtime, lambda: beside.add(driven.handovers))
    assert beside.wait(1) == [1]  # another thread leads
    runtime.hand_nothing_over()  # from now on the system may pause the step
    gate.open()
    called.wait(times)
    runtime.end()
    assert len(announced.now()) == shared_clock.QUICK


def test_shared_threads_end_with_the_last_step_and_start_again(runtime: Runtime) -> None:
    for _ in range(3):
        ran = Items[threading.Thread]()
        share(runtime, lambda: ran.add(threading.current_thread()))  # noqa: B023
        (thread,) = ran.wait(1)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        runtime.end()


def test_shared_step_without_a_thread_is_refused(
    runtime: Runtime, no_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context():
        no_threads()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            share(runtime, lambda: None)
    monkeypatch.undo()
    ran = Items[int]()
    share(runtime, lambda: ran.add(1))
    ran.wait(1)


def test_shared_steps_have_phases_that_are_spread_evenly(runtime: Runtime) -> None:
    phases = sorted(each.phase for each in share(runtime, *[lambda: None] * 100))
    gaps = [after - before for before, after in pairwise([*phases, phases[0] + 1])]
    assert max(gaps) < 3 / 100
