"""Timers: each rings once, at its time, unless it was cancelled or the hub has closed."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from time import monotonic

import pytest

from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from tests.support import TIMEOUT, Items, Logs, telling, together

LATER = 3600.0


def wait_for(event: threading.Event) -> None:
    event.wait(TIMEOUT)


class Clock:
    def __init__(self) -> None:
        self.logs = Logs()
        self.threads = Threads("test", telling(self.logs))
        self.timers = Timers(self.threads, telling(self.logs))


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    made.timers.close()
    assert not made.threads.join(TIMEOUT)


def test_in_the_order_of_their_times(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order of setting, the earlier rings first, of equals the first that was set."""
    monkeypatch.setattr("hubthread.concurrency.timers.monotonic", lambda: 5.0)
    rung = Items[tuple[float, int]]()
    go = threading.Event()
    clock.timers.set(-100, partial(wait_for, go))
    delays = [-3, -1, 0, -2, -1, -3, 0, 0, -2]
    marks = [(float(delay), number) for number, delay in enumerate(delays)]
    for mark in marks:
        clock.timers.set(mark[0], partial(rung.add, mark))
    go.set()
    assert rung.wait(len(marks)) == sorted(marks)


def test_none_rings_too_soon(clock: Clock) -> None:
    """It rings when its time has come."""
    rung = Items[float]()
    begun = monotonic()
    clock.timers.set(0.01, lambda: rung.add(monotonic()))
    assert rung.wait(1)[0] >= begun + 0.01


def test_a_sooner_one_wakes_the_thread(clock: Clock) -> None:
    """An alarm set while the thread waits for a later one is not late for it."""
    clock.timers.set(LATER, lambda: pytest.fail("rang"))
    for _ in range(20):
        rung = threading.Event()
        clock.timers.set(0, rung.set)
        assert rung.wait(TIMEOUT)
    assert clock.threads.count() == 1


def test_cancelled(clock: Clock) -> None:
    """It does not ring, and lets go at once of what it would have called."""
    go, rung = threading.Event(), threading.Event()
    clock.timers.set(-1, partial(wait_for, go))
    never = clock.timers.set(0, lambda: pytest.fail("rang"))
    after = clock.timers.set(0, rung.set)
    never.cancel()
    go.set()
    assert rung.wait(TIMEOUT)
    after.cancel()
    never.cancel()

    class Big:
        def ring(self) -> None: ...

    big = Big()
    gone = weakref.ref(big)
    alarm = clock.timers.set(LATER, big.ring)
    del big
    alarm.cancel()
    gc.collect()
    assert gone() is None


def test_idle_costs_no_thread(clock: Clock) -> None:
    """The thread ends with the last alarm, and the next one starts another."""
    assert clock.threads.count() == 0
    for _ in range(5):
        rung = threading.Event()
        clock.timers.set(0, rung.set)
        assert rung.wait(TIMEOUT)
        assert not clock.threads.join(TIMEOUT)


def test_close_drops_all(clock: Clock) -> None:
    """After it nothing rings, what is set later neither, and the thread ends."""
    clock.timers.set(LATER, lambda: pytest.fail("rang"))
    clock.timers.close()
    assert not clock.threads.join(TIMEOUT)
    clock.timers.set(0, lambda: pytest.fail("rang")).cancel()
    assert clock.threads.count() == 0
    clock.timers.close()


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(1)])
def test_an_action_that_raises(clock: Clock, error: BaseException) -> None:
    """It is told, and the next alarm rings."""
    rung = threading.Event()

    def fail() -> None:
        raise error

    clock.timers.set(0, fail)
    clock.timers.set(0.001, rung.set)
    assert rung.wait(TIMEOUT)
    (logged,) = clock.logs.at_least(logging.CRITICAL)
    assert type(error).__name__ in logged


def test_an_action_may_use_the_alarms(clock: Clock) -> None:
    """It runs under no lock: it sets others, cancels them, and closes."""
    rung = Items[int]()

    def action(left: int) -> None:
        rung.add(left)
        clock.timers.set(LATER, lambda: pytest.fail("rang")).cancel()
        if left:
            clock.timers.set(0, lambda: action(left - 1))
        else:
            clock.timers.close()

    clock.timers.set(0, lambda: action(10))
    rung.wait(11)
    assert not clock.threads.join(TIMEOUT)


def test_no_thread_to_be_had(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setter is not disturbed, the log is told, and the next set makes up for it."""
    rung = Items[int]()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            clock.timers.set(0, lambda: rung.add(1))
    assert clock.threads.count() == 0
    assert ["no thread" in line for line in clock.logs.warnings()] == [True]
    clock.timers.set(0, lambda: rung.add(2))
    assert rung.wait(4) == [1, 1, 1, 2]


def test_from_many_threads(clock: Clock) -> None:
    """Set from everywhere while the thread comes and goes, each rings once."""
    rung = Items[int]()

    def work(number: int) -> None:
        for count in range(50):
            mark = number * 100 + count
            clock.timers.set(0.0001 * (count % 3), partial(rung.add, mark))
            clock.timers.set(0.001, lambda: None).cancel()

    together(4, work)
    expected = [number * 100 + count for number in range(4) for count in range(50)]
    assert sorted(rung.wait(200)) == expected
    assert not clock.threads.join(TIMEOUT)
    assert sorted(rung.now()) == expected
    assert not clock.logs.warnings()
