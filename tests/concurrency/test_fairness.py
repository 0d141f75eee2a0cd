"""Courtesy: a fan-out is let through, once, and one that never ends stops nobody."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from hubthread.concurrency import fairness as courtesy
from hubthread.concurrency.fairness import CROWD, SLICE, CpuBudget, FanOuts, yield_gil
from tests.support import TIMEOUT, in_thread, together


@pytest.fixture(autouse=True)
def _as_with_one_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "_HAS_GIL", True)


def test_a_fan_out_is_waited_for() -> None:
    """Until it ends, or for as long as there is patience."""
    fan_outs = FanOuts()
    assert fan_outs.wait_for_one()
    with fan_outs.of(CROWD):
        assert not fan_outs.wait_for_one()
    assert fan_outs.wait_for_one()


def test_its_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "PATIENCE", 10 * TIMEOUT)
    fan_outs = FanOuts()
    with fan_outs.of(CROWD):
        through = in_thread(fan_outs.wait_for_one)
    assert through()


def test_those_that_follow_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is under way all the time, as in a busy room: who waits goes on all the same."""
    monkeypatch.setattr(courtesy, "PATIENCE", 10 * TIMEOUT)
    fan_outs, over = FanOuts(), threading.Event()

    def wait() -> bool:
        try:
            return fan_outs.wait_for_one()
        finally:
            over.set()

    with fan_outs.of(CROWD):
        through = in_thread(wait)
        deadline = monotonic() + TIMEOUT
        while not over.is_set():
            with fan_outs.of(CROWD):
                assert monotonic() < deadline
        assert fan_outs.running == 1
    assert through()


def test_a_few_sends_are_not_waited_for() -> None:
    fan_outs = FanOuts()
    with fan_outs.of(CROWD - 1):
        assert fan_outs.running == 0
    with fan_outs.of(CROWD):
        assert fan_outs.running == 1
    assert fan_outs.running == 0


def test_no_interpreter_lock_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "_HAS_GIL", False)
    fan_outs = FanOuts()
    with fan_outs.of(CROWD):
        assert fan_outs.running == 0
        assert fan_outs.wait_for_one()


def test_many_at_once_are_counted() -> None:
    """Rooms with clocks fan out on threads of their own."""
    fan_outs = FanOuts()

    def fan_out(number: int) -> None:
        for _ in range(500):
            with fan_outs.of(CROWD + number):
                assert fan_outs.running >= 1
            yield_gil()
            fan_outs.wait_for_one()

    together(4, fan_out)
    assert fan_outs.running == 0


class Work:
    """A reader that works and rests, on clocks of its own.

    :param monkeypatch: ``courtesy`` reads these clocks from now on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.time = 100.0
        self.given_way = 0
        monkeypatch.setattr(courtesy, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(courtesy, "monotonic", lambda: self.time)
        monkeypatch.setattr(courtesy, "yield_gil", self._give_way)
        self.burden = CpuBudget()

    def _give_way(self) -> None:
        self.given_way += 1
        self.time += 100 * SLICE  # a fan-out is let through

    def do(self, seconds: float, rest: float = 0.0, *, more: bool = False) -> None:
        """Work, and rest, and look."""
        self.cpu += seconds
        self.time += seconds + rest
        assert self.burden.charge(more=more) == pytest.approx(seconds)


def test_who_works_without_rest_gives_way_after_each_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where each read takes all there is: the peer sends just as fast as it is served."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(SLICE / 2)
    assert 10 <= work.given_way <= 25


def test_to_give_way_is_no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the fan-out took that was let through."""
    work = Work(monkeypatch)
    for _ in range(20):
        work.do(5 * SLICE)
    assert work.given_way == 20


def test_who_rests_in_between_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a peer that waits for each answer, however long the work takes."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(10 * SLICE, rest=10 * SLICE)
    assert work.given_way == 0


def test_there_is_no_rest_where_more_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the time that passed was another thread's: it had the lock."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(0.51 * SLICE, rest=10 * SLICE, more=True)
    assert work.given_way == 50


def test_a_rest_is_not_saved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    work.do(SLICE / 2, rest=1000.0)
    for _ in range(8):
        work.do(SLICE)
    assert work.given_way >= 1
