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


def test_deadline_none_never_passes() -> None:
    deadline = Deadline(None)
    assert deadline.left() is deadline.at is None
    assert not deadline.passed


@pytest.mark.parametrize("timeout", [0, -1.0])
def test_deadline_used_up_has_passed(timeout: float) -> None:
    deadline = Deadline(timeout)
    assert deadline.left() == 0.0
    assert deadline.passed


def test_deadline_infinite_never_passes() -> None:
    deadline = Deadline(math.inf)
    assert deadline.left() == math.inf
    assert not deadline.passed


def test_deadline_default_clock_is_monotonic() -> None:
    before = monotonic()
    assert before + 60 <= (Deadline(60).at or 0) <= monotonic() + 60
