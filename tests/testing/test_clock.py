"""The fake clock: due jobs are called in order, and time moves only when the test says so."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import SettingError, UsageError, WrongThread
from hubthread.testing import FakeClock
from tests.support import in_thread


def every(clock: FakeClock, period: float, do: Callable[[], object]) -> None:
    """Call ``do`` each ``period`` seconds, on a grid."""
    number = 0

    def step() -> float:
        nonlocal number
        if number:
            do()
        number += 1
        return number * period

    clock.drive(step, "test")


def test_fake_clock_moves_only_by_advance_and_spend() -> None:
    clock = FakeClock()
    assert clock.now() == 0.0
    clock.settle()
    assert clock.now() == 0.0
    clock.advance(1.5)
    clock.spend(0.25)
    clock.advance(0)
    assert clock.now() == 1.75
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(SettingError):
            clock.advance(wrong)
        with pytest.raises(SettingError):
            clock.spend(wrong)


def test_fake_clock_calls_steps_in_time_order_and_ties_in_order_of_asking() -> None:
    clock = FakeClock()
    called: list[tuple[str, float]] = []
    every(clock, 0.3, lambda: called.append(("a", clock.now())))
    every(clock, 0.2, lambda: called.append(("b", clock.now())))
    every(clock, 0.3, lambda: called.append(("c", clock.now())))
    clock.advance(0.6)
    assert [name for name, _ in called] == ["b", "a", "c", "b", "a", "c", "b"]
    assert [now for _, now in called] == pytest.approx([0.2, 0.3, 0.3, 0.4, 0.6, 0.6, 0.6])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_fake_clock_advance_in_parts_equals_the_whole(tenths: list[int]) -> None:
    """Ten times 0.1 are one second, and each deadline is met."""
    clock, ticks = FakeClock(), []
    every(clock, 0.1, lambda: ticks.append(clock.now()))
    for each in tenths:
        clock.advance(each * 0.1)
    assert len(ticks) == sum(tenths)
    assert clock.now() == pytest.approx(sum(tenths) * 0.1)
    assert ticks == sorted(ticks)


def test_fake_clock_many_small_advances_add_no_error() -> None:
    clock = FakeClock()
    for _ in range(100_000):
        clock.advance(0.1)
    assert clock.now() == pytest.approx(10_000, abs=1e-9)


def test_fake_clock_job_that_ran_since_its_wake_is_not_called_again() -> None:
    clock, called = FakeClock(), []

    def step() -> float:
        called.append(clock.now())
        return math.inf

    clock.run(clock.job(step))
    clock.settle()
    assert called == [0.0]


def test_fake_clock_woken_job_is_called_before_time_moves() -> None:
    clock, called = FakeClock(), []

    def sleeper() -> float:
        called.append(clock.now())
        return math.inf

    asleep = clock.drive(sleeper, "test")
    clock.settle()
    clock.advance(5)
    assert called == [0.0]

    def twice() -> None:
        asleep.wake()
        asleep.wake()

    clock.after(1, asleep.wake)
    clock.after(2, twice)
    clock.advance(10)
    assert called == [0.0, 6.0, 7.0]  # woken twice, called once


def test_fake_clock_step_that_wakes_itself_is_called_again_now() -> None:
    clock, left = FakeClock(), [3, 3]

    def again() -> float | None:
        left[0] -= 1
        return -math.inf if left[0] else None

    def wakes() -> float:
        left[1] -= 1
        if left[1]:
            waking.wake()
        return math.inf

    clock.drive(again, "test")
    waking = clock.drive(wakes, "test")
    clock.settle()
    assert (left, clock.now()) == ([0, 0], 0.0)


def test_fake_clock_spend_makes_other_jobs_late() -> None:
    clock = FakeClock()
    called: list[tuple[str, float]] = []

    def slow() -> None:
        called.append(("slow", clock.now()))
        clock.spend(3)

    clock.after(1, slow)
    clock.after(2, lambda: called.append(("late", clock.now())))
    clock.after(3.5, lambda: called.append(("later", clock.now())))
    clock.advance(2)
    # Until 2 everything is done, and that took until 4: what is due since then is not.
    assert called == [("slow", 1.0), ("late", 4.0)]
    assert clock.now() == 4.0
    clock.settle()
    assert called[2:] == [("later", 4.0)]


def test_fake_clock_endless_step_raises() -> None:
    clock = FakeClock()
    clock.drive(lambda: -math.inf, "test")
    with pytest.raises(UsageError, match="again and again"):
        clock.settle()


def test_fake_clock_advance_in_a_callback_raises() -> None:
    clock, refused = FakeClock(), []

    def callback() -> None:
        clock.settle()  # later
        with pytest.raises(UsageError, match="spend"):
            clock.advance(1)
        refused.append(clock.now())

    clock.after(1, callback)
    clock.advance(2)
    assert refused == [1.0]


def test_fake_clock_advance_on_another_thread_raises() -> None:
    clock = FakeClock()
    with pytest.raises(WrongThread):
        in_thread(lambda: clock.advance(1))()
    assert in_thread(clock.now)() == 0.0
