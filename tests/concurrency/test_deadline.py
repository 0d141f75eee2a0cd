"""Deadlines: the seconds that are left of a time-out."""

from __future__ import annotations

import math
from time import monotonic

import pytest

from hubthread.concurrency.deadline import Deadline


def test_deadline_left_falls_with_the_clock_and_stays_zero() -> None:
    time = 10.0
    deadline = Deadline(5.0, lambda: time)
    for time, left in ((10.0, 5.0), (12.0, 3.0), (15.0, 0.0), (99.0, 0.0)):  # noqa: B007
        assert deadline.left() == left
        assert deadline.passed is (left == 0.0)
    assert deadline.at == 15.0


@pytest.mark.parametrize(
    ("timeout", "left"), [(None, None), (math.inf, math.inf), (0, 0), (-1.0, 0)]
)
def test_deadline_passes_unless_it_is_endless(timeout: float | None, left: float | None) -> None:
    deadline = Deadline(timeout)
    assert deadline.left() == left
    assert deadline.passed is (left == 0)


def test_deadline_default_clock_is_monotonic() -> None:
    before = monotonic()
    assert before + 60 <= (Deadline(60).at or 0) <= monotonic() + 60
