"""Timers: each fires once, at its time, unless it is cancelled or the hub has closed."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from time import monotonic

import pytest

from hubthread.concurrency.timers import Timers
from tests.concurrency.harness import Runtime
from tests.support import TIMEOUT, Items, together

LATER = 3600.0


def wait_for(event: threading.Event) -> None:
    event.wait(TIMEOUT)


@pytest.fixture
def timers(runtime: Runtime) -> Iterator[Timers]:
    """Timers whose thread is one of ``runtime``."""
    timers = Timers(runtime.threads, runtime.incidents)
    yield timers
    timers.close()


def test_timers_fire_in_the_order_of_their_times(
    timers: Timers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers with equal times fire in the order in which they were set."""
    monkeypatch.setattr("hubthread.concurrency.timers.monotonic", lambda: 5.0)
    fired = Items[tuple[float, int]]()
    go = threading.Event()
    timers.set(-100, partial(wait_for, go))
    delays = [-3, -1, 0, -2, -1, -3, 0, 0, -2]
    marks = [(float(delay), number) for number, delay in enumerate(delays)]
    for mark in marks:
        timers.set(mark[0], partial(fired.add, mark))
    go.set()
    assert fired.wait(len(marks)) == sorted(marks)


def test_timers_fire_never_early(timers: Timers) -> None:
    fired = Items[float]()
    begun = monotonic()
    timers.set(0.01, lambda: fired.add(monotonic()))
    assert fired.wait(1)[0] >= begun + 0.01


def test_timers_sooner_timer_wakes_the_thread(timers: Timers, runtime: Runtime) -> None:
    timers.set(LATER, lambda: pytest.fail("fired"))
    for _ in range(20):
        fired = threading.Event()
        timers.set(0, fired.set)
        assert fired.wait(TIMEOUT)
    assert runtime.threads.count() == 1


def test_timers_cancelled_timer_does_not_fire_and_frees_its_function(timers: Timers) -> None:
    go, fired = threading.Event(), threading.Event()
    timers.set(-1, partial(wait_for, go))
    never = timers.set(0, lambda: pytest.fail("fired"))
    after = timers.set(0, fired.set)
    never.cancel()
    go.set()
    assert fired.wait(TIMEOUT)
    after.cancel()
    never.cancel()

    class Big:
        def fire(self) -> None: ...

    big = Big()
    gone = weakref.ref(big)
    timer = timers.set(LATER, big.fire)
    del big
    timer.cancel()
    gc.collect()
    assert gone() is None


def test_timers_thread_ends_after_the_last_and_starts_again(
    timers: Timers, runtime: Runtime
) -> None:
    assert runtime.threads.count() == 0
    for _ in range(5):
        fired = threading.Event()
        timers.set(0, fired.set)
        assert fired.wait(TIMEOUT)
        assert not runtime.threads.join(TIMEOUT)


def test_timers_close_drops_all_and_ends_the_thread(timers: Timers, runtime: Runtime) -> None:
    timers.set(LATER, lambda: pytest.fail("fired"))
    timers.close()
    assert not runtime.threads.join(TIMEOUT)
    timers.set(0, lambda: pytest.fail("fired")).cancel()
    assert runtime.threads.count() == 0
    timers.close()


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(1)])
def test_timers_raising_function_is_logged_and_the_next_fires(
    timers: Timers, runtime: Runtime, error: BaseException
) -> None:
    fired = threading.Event()

    def fail() -> None:
        raise error

    timers.set(0, fail)
    timers.set(0.001, fired.set)
    assert fired.wait(TIMEOUT)
    (logged,) = runtime.logs.at_least(logging.CRITICAL)
    assert type(error).__name__ in logged


def test_timers_function_may_call_every_method(timers: Timers, runtime: Runtime) -> None:
    """It runs under no lock."""
    fired = Items[int]()

    def action(left: int) -> None:
        fired.add(left)
        timers.set(LATER, lambda: pytest.fail("fired")).cancel()
        if left:
            timers.set(0, lambda: action(left - 1))
        else:
            timers.close()

    timers.set(0, lambda: action(10))
    fired.wait(11)
    assert not runtime.threads.join(TIMEOUT)


def test_timers_without_a_thread_log_once_and_fire_after_the_next_set(
    timers: Timers, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fired = Items[int]()

    reason = "can't start new thread"

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError(reason)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            timers.set(0, lambda: fired.add(1))
    assert runtime.threads.count() == 0
    told = "no thread for deadlines (can't start new thread): handshakes, pings and closing may"
    assert [told in line for line in runtime.logs.warnings()] == [True]
    timers.set(0, lambda: fired.add(2))
    assert fired.wait(4) == [1, 1, 1, 2]


def test_timers_set_from_many_threads_fire_once(timers: Timers, runtime: Runtime) -> None:
    fired = Items[int]()

    def work(number: int) -> None:
        for count in range(50):
            mark = number * 100 + count
            timers.set(0.0001 * (count % 3), partial(fired.add, mark))
            timers.set(0.001, lambda: None).cancel()

    together(4, work)
    expected = [number * 100 + count for number in range(4) for count in range(50)]
    assert sorted(fired.wait(200)) == expected
    assert not runtime.threads.join(TIMEOUT)
    assert sorted(fired.now()) == expected
    assert not runtime.logs.warnings()
