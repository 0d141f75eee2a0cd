"""GIL fairness: readers yield after a CPU budget, and wait for one fan-out at most."""

from __future__ import annotations

from time import monotonic

import pytest

from hubthread.concurrency import fairness
from hubthread.concurrency.fairness import CROWD, SLICE, CpuBudget, FanOuts, pause, yield_gil
from tests.concurrency.harness import announced_waits
from tests.support import TIMEOUT, in_thread, together


@pytest.fixture(autouse=True)
def _as_with_a_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "HAS_GIL", True)


def test_fan_outs_wait_for_a_running_one_until_patience_ends() -> None:
    fan_outs = FanOuts()
    assert fan_outs.wait_for_one()
    with fan_outs.of(CROWD):
        assert not fan_outs.wait_for_one()
    assert fan_outs.wait_for_one()


def test_fan_outs_end_of_one_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "PATIENCE", 10 * TIMEOUT)
    fan_outs = FanOuts()
    waiting = announced_waits(fan_outs._condition, monkeypatch)
    with fan_outs.of(CROWD):
        waited = in_thread(fan_outs.wait_for_one)
        assert waiting.acquire(timeout=TIMEOUT)
    assert waited()


def test_fan_outs_later_ones_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a busy room there is always a running fan-out."""
    monkeypatch.setattr(fairness, "PATIENCE", 10 * TIMEOUT)
    fan_outs = FanOuts()
    waiting = announced_waits(fan_outs._condition, monkeypatch)
    with fan_outs.of(CROWD):
        waited = in_thread(fan_outs.wait_for_one)
        assert waiting.acquire(timeout=TIMEOUT)
        with fan_outs.of(CROWD):
            pass
        assert waited()
        assert fan_outs.running == 1


def test_fan_outs_small_ones_are_not_counted() -> None:
    fan_outs = FanOuts()
    with fan_outs.of(CROWD - 1):
        assert fan_outs.running == 0
    with fan_outs.of(CROWD):
        assert fan_outs.running == 1
    assert fan_outs.running == 0


def test_fan_outs_without_gil_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "HAS_GIL", False)
    fan_outs = FanOuts()
    with fan_outs.of(CROWD):
        assert fan_outs.running == 0
        assert fan_outs.wait_for_one()


def test_fan_outs_of_many_threads_are_counted() -> None:
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
    """A reader that works and rests, on clocks of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.time = 100.0
        self.yields = 0
        monkeypatch.setattr(fairness, "thread_time", lambda: self.cpu)
        monkeypatch.setattr(fairness, "monotonic", lambda: self.time)
        monkeypatch.setattr(fairness, "yield_gil", self._yield_gil)
        self.budget = CpuBudget()

    def _yield_gil(self) -> None:
        self.yields += 1
        self.time += 100 * SLICE  # it waited for a fan-out

    def do(self, seconds: float, rest: float = 0.0, *, more: bool = False) -> None:
        """Work, rest, and charge the budget."""
        self.cpu += seconds
        self.time += seconds + rest
        assert self.budget.charge(more=more) == pytest.approx(seconds)


def test_cpu_budget_busy_reader_yields_after_each_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader yields even if each read empties the socket, because the peer keeps pace."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(SLICE / 2)
    assert 10 <= work.yields <= 25


def test_cpu_budget_time_of_a_yield_is_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    for _ in range(20):
        work.do(5 * SLICE)
    assert work.yields == 20


def test_cpu_budget_reader_that_rests_never_yields(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a peer that waits for each answer."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(10 * SLICE, rest=10 * SLICE)
    assert work.yields == 0


def test_cpu_budget_counts_no_rest_while_more_input_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that passes belongs to other threads then."""
    work = Work(monkeypatch)
    for _ in range(100):
        work.do(0.51 * SLICE, rest=10 * SLICE, more=True)
    assert work.yields == 50


def test_cpu_budget_rest_is_not_saved_up(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch)
    work.do(SLICE / 2, rest=1000.0)
    for _ in range(8):
        work.do(SLICE)
    assert work.yields >= 1


@pytest.mark.parametrize("has_gil", [True, False])
def test_yield_gil_pauses_only_with_a_gil(monkeypatch: pytest.MonkeyPatch, has_gil: bool) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(fairness, "HAS_GIL", has_gil)
    monkeypatch.setattr(fairness, "pause", pauses.append)
    yield_gil()
    assert pauses == ([fairness.MOMENT] if has_gil else [])


def test_pause_lasts_at_least_that_long() -> None:
    began = monotonic()
    pause(0.001)
    assert monotonic() - began >= 0.001
