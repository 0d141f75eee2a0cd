"""The real clock: one thread for each step, which runs at its deadlines and when woken."""

from __future__ import annotations

import math
import threading
from time import monotonic

import pytest

from hubthread.concurrency.clock import RealClock
from tests.concurrency.harness import Runtime
from tests.support import TIMEOUT, Items, together


@pytest.fixture
def clock(runtime: Runtime) -> RealClock:
    """A clock whose threads are those of ``runtime``."""
    return RealClock(runtime.threads)


def test_real_clock_calls_a_step_at_its_deadlines_until_none(
    clock: RealClock, runtime: Runtime
) -> None:
    """Never early, and on one timer thread."""
    dues: list[float] = []
    calls: Items[tuple[float, threading.Thread]] = Items()

    def step() -> float | None:
        calls.add((monotonic(), threading.current_thread()))
        if len(dues) == 5:
            return None
        dues.append(clock.now() + 0.003)
        return dues[-1]

    clock.drive(step, "room")
    called = calls.wait(6)
    runtime.end()
    (thread,) = {each for _, each in called}
    assert isinstance(thread, threading.Timer)
    assert thread.name == "test-room"
    assert thread.finished.is_set()
    for (moment, _), due in zip(called[1:], dues, strict=True):
        assert moment >= due - 1e-6
    assert len(calls.now()) == 6


def test_real_clock_calls_at_once_for_a_passed_deadline(clock: RealClock) -> None:
    answers = [monotonic() - 5, -math.inf, 0.0, None]
    called: Items[int] = Items()

    def step() -> float | None:
        called.add(1)
        return answers.pop(0)

    clock.drive(step, "room")
    assert len(called.wait(4)) == 4


@pytest.mark.parametrize("due", [math.inf, 1e300])
def test_ticker_wake_ends_an_endless_wait(clock: RealClock, runtime: Runtime, due: float) -> None:
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
            drive.wake()
        return None if count == 4 else due

    drive = clock.drive(step, "room")
    called.wait(1)
    drive.wake()
    assert inside.wait(TIMEOUT)
    drive.wake()
    drive.wake()
    go_on.set()
    called.wait(4)
    runtime.end()
    drive.wake()
    assert len(called.now()) == 4


def test_ticker_wake_from_many_threads_is_never_lost(clock: RealClock) -> None:
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

    drive = clock.drive(step, "room")

    def ask(who: int) -> None:
        for number in range(1, 500):
            asked[who] = number
            drive.wake()
            with changed:
                assert changed.wait_for(lambda: seen[who] >= number, TIMEOUT)  # noqa: B023

    together(4, ask)
    over = True
    drive.wake()


def test_ticker_raising_step_is_logged_and_ends_its_thread(
    clock: RealClock, runtime: Runtime
) -> None:
    clock.drive(lambda: 1 / 0, "room")
    assert "ZeroDivisionError" in runtime.logs.wait("a bug in hubthread: test-room died")
