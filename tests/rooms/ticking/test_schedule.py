"""A room's grid against a model of one sentence for each policy."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubthread.rooms.ticking.schedule import OVERRUN_POLICIES, Schedule, Tick

# Eighths of a second are floats without an error, so the model is exact.
EIGHTHS = st.integers(0, 200).map(lambda number: number / 8)
BEGINNINGS = st.lists(st.tuples(EIGHTHS, st.booleans()), max_size=40)


def begin(schedule: Schedule, now: float, *, busy: bool = True) -> tuple[int, float, int]:
    tick = schedule.begin(now, busy=busy)
    assert tick.dt == schedule.dt
    return tick.index, tick.late, tick.skipped


@given(EIGHTHS, st.integers(1, 24).map(lambda number: number / 8), BEGINNINGS)
def test_schedule_skip_runs_the_last_that_is_due(
    start: float, dt: float, beginnings: list[tuple[float, bool]]
) -> None:
    """The tick is on the grid; its number depends on the time alone."""
    schedule = Schedule(dt, start, "skip", 5)
    now, last = start, 0
    for wait, busy in beginnings:
        now = max(now, schedule.deadline) + wait
        index = math.floor((now - start) / dt)
        found = begin(schedule, now, busy=busy)
        assert found == (index, now - (start + index * dt), index - last - 1)
        assert schedule.deadline == start + (index + 1) * dt > now
        last = index


@given(
    EIGHTHS,
    st.integers(1, 24).map(lambda number: number / 8),
    st.integers(1, 7),
    BEGINNINGS,
)
def test_schedule_burst_runs_the_last_few_one_after_another(
    start: float, dt: float, catch_up: int, beginnings: list[tuple[float, bool]]
) -> None:
    """Only the last ``catch_up`` of the due ticks run; the grid stays."""
    schedule = Schedule(dt, start, "burst", catch_up)
    now, last = start, 0
    for wait, busy in beginnings:
        now = max(now + wait, schedule.deadline)
        newest = math.floor((now - start) / dt)
        index = max(last + 1, newest - catch_up + 1)
        found = begin(schedule, now, busy=busy)
        assert found == (index, now - (start + index * dt), index - last - 1)
        assert schedule.deadline == start + (index + 1) * dt
        last = index


@given(EIGHTHS, st.integers(1, 24).map(lambda number: number / 8), BEGINNINGS)
def test_schedule_delay_moves_the_grid(
    start: float, dt: float, beginnings: list[tuple[float, bool]]
) -> None:
    """No tick is left out; after an idle wait the next tick is due a period later."""
    schedule = Schedule(dt, start, "delay", 5)
    now = start
    for index, (wait, busy) in enumerate(beginnings, 1):
        deadline = schedule.deadline
        now = max(now, deadline) + wait
        assert begin(schedule, now, busy=busy) == (index, now - deadline, 0)
        moves = busy or now - deadline >= dt
        assert schedule.deadline == (now if moves else deadline) + dt


@pytest.mark.parametrize("policy", OVERRUN_POLICIES)
@pytest.mark.parametrize("hz", [10, 20, 30, 60, 144, 1000])
def test_schedule_ten_thousand_ticks_on_time_do_not_drift(policy: str, hz: int) -> None:
    """Each deadline is computed from the start, not from the deadline before."""
    schedule = Schedule(1 / hz, 1000.0, policy, 5)  # type: ignore[arg-type]
    for _ in range(10_000):
        schedule.begin(schedule.deadline, busy=False)
    assert schedule.index == 10_000
    assert schedule.deadline == 1000.0 + 10_001 * (1 / hz)


@given(
    st.integers(0, 10**6),
    st.integers(1, 10_000),
    st.integers(1, 10_000),
    st.sampled_from(["skip", "burst"]),
)
@example(1, 84, 2, "skip")
@example(10**6, 10_000, 2, "burst")
def test_schedule_whole_number_of_periods_is_not_one_less(
    start: int, hz: int, number: int, policy: str
) -> None:
    """The last bit of a float does not matter."""
    dt = 1 / hz
    schedule = Schedule(dt, float(start), policy, 1)  # type: ignore[arg-type]
    now = max(start + number * dt, schedule.deadline)
    index, late, skipped = begin(schedule, now)
    assert (index, skipped) == (number, number - 1)
    assert 0 <= late < dt / 1000
    assert schedule.deadline > now


def test_schedule_first_tick_comes_a_period_after_the_start() -> None:
    """It has number 1."""
    schedule = Schedule(0.5, 7.0, "skip", 1)
    assert (schedule.deadline, schedule.index) == (7.5, 0)
    assert schedule.begin(7.5, busy=False) == Tick(1, 0.5, 0.0, 0)
