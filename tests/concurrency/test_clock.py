"""Real time: a thread for each step, woken at deadlines and by others."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from hubthread.concurrency.clock import RealClock
from hubthread.concurrency.threads import Threads
from tests.support import TIMEOUT, Items, Logs, telling, together


class Clocked:
    """A clock with threads of its own."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.threads = Threads("test", telling(self.logs))
        self.clock = RealClock(self.threads)

    def end(self) -> None:
        assert not self.threads.join(TIMEOUT)


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    clocked = Clocked()
    yield clocked
    clocked.end()


def test_a_step_is_called_at_once_and_then_at_its_deadlines(clocked: Clocked) -> None:
    """Never before; on one thread of that name, a timer; until it returns None."""
    dues: list[float] = []
    calls: Items[tuple[float, threading.Thread]] = Items()

    def step() -> float | None:
        calls.add((monotonic(), threading.current_thread()))
        if len(dues) == 5:
            return None
        dues.append(clocked.clock.now() + 0.003)
        return dues[-1]

    clocked.clock.drive(step, "room")
    called = calls.wait(6)
    clocked.end()
    (thread,) = {each for _, each in called}
    assert isinstance(thread, threading.Timer)
    assert thread.name == "test-room"
    assert thread.finished.is_set()
    for (moment, _), due in zip(called[1:], dues, strict=True):
        assert moment >= due - 1e-6
    assert len(calls.now()) == 6


def test_a_deadline_that_has_passed_is_now(clocked: Clocked) -> None:
    """So is the end of all time before us."""
    answers = [monotonic() - 5, -math.inf, 0.0, None]
    called: Items[int] = Items()

    def step() -> float | None:
        called.add(1)
        return answers.pop(0)

    clocked.clock.drive(step, "room")
    assert len(called.wait(4)) == 4


@pytest.mark.parametrize("due", [math.inf, 1e300])
def test_who_waits_for_ever_is_woken(clocked: Clocked, due: float) -> None:
    """From inside the step too; a wake that comes while it runs is not lost."""
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

    drive = clocked.clock.drive(step, "room")
    called.wait(1)
    drive.wake()
    assert inside.wait(TIMEOUT)
    drive.wake()
    drive.wake()
    go_on.set()
    called.wait(4)
    clocked.end()
    drive.wake()
    assert len(called.now()) == 4


def test_no_wake_is_lost(clocked: Clocked) -> None:
    """What was changed before a wake is seen by a call after it, whoever else wakes."""
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

    drive = clocked.clock.drive(step, "room")

    def ask(who: int) -> None:
        for number in range(1, 500):
            asked[who] = number
            drive.wake()
            with changed:
                assert changed.wait_for(lambda: seen[who] >= number, TIMEOUT)  # noqa: B023

    together(4, ask)
    over = True
    drive.wake()


def test_a_step_that_raises_is_a_bug_and_told_of(clocked: Clocked) -> None:
    """Loudly; its thread ends."""
    clocked.clock.drive(lambda: 1 / 0, "room")
    assert "ZeroDivisionError" in clocked.logs.wait("a bug in hubthread: test-room died")
