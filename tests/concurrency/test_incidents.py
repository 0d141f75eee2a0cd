"""What is counted of limits, and how little of a flood the log is told."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hubthread.checks import check_work
from hubthread.concurrency.incidents import MOST_KINDS, QUIET, Incidents
from hubthread.errors import UsageError
from hubthread.limits import LIMITS
from tests.support import Logs, together


class Clock:
    """Time that passes when told to."""

    now = 1000.0


def strikes_and_logs() -> tuple[Incidents, Logs, Clock]:
    logs, clock = Logs(), Clock()
    return Incidents(logs, lambda: clock.now), logs, clock


def test_each_strike_is_counted_by_its_name() -> None:
    """Names are fixed: a dashboard sees them all, and a misspelt one is a bug."""
    incidents, logs, _ = strikes_and_logs()
    assert incidents.counts() == dict.fromkeys(LIMITS, 0)
    incidents.count_limit("head")
    incidents.log_limit("message", logging.WARNING, "%d bytes", 7)
    assert incidents.counts() == dict.fromkeys(LIMITS, 0) | {"head": 1, "message": 1}
    assert logs.warnings() == ["7 bytes"]
    with pytest.raises(KeyError):
        incidents.count_limit("headd")


def test_a_flood_is_one_line_and_then_how_many_more_there_were() -> None:
    incidents, logs, clock = strikes_and_logs()
    for number in range(1000):
        incidents.log_limit("head", logging.WARNING, "number %d", number)
    incidents.log_limit("message", logging.WARNING, "another")  # a limit does not hide another
    incidents.log_limit("head", logging.ERROR, "worse")  # nor what is less what is more
    clock.now += QUIET
    incidents.log_limit("head", logging.WARNING, "again")
    clock.now += QUIET
    incidents.log_limit("head", logging.WARNING, "and again")
    assert logs.warnings() == [
        "number 0",
        "another",
        "worse",
        "again (and 999 more like this since the last such line)",
        "and again",
    ]
    assert incidents.counts()["head"] == 1003


def test_many_threads_lose_no_strike_and_one_of_them_tells() -> None:
    incidents, logs, _ = strikes_and_logs()

    def flood(number: int) -> None:
        for _ in range(500):
            incidents.log_limit("outbox", logging.INFO, "thread %d", number)

    together(8, flood)
    assert incidents.counts()["outbox"] == 4000
    assert len(logs.at_least(logging.INFO)) == 1


def test_a_log_handler_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises goes where the errors of threads go."""
    incidents, logs, _ = strikes_and_logs()
    shown: list[Any] = []
    monkeypatch.setattr("threading.excepthook", shown.append)

    def fail(record: logging.LogRecord) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(logs, "handle", fail)
    incidents.log_limit("head", logging.WARNING, "a line")
    assert incidents.counts()["head"] == 1
    assert [str(each.exc_value) for each in shown] == ["the disk is full"]


def test_more_kinds_than_can_be_told_apart_share_a_line_until_others_are_quiet() -> None:
    """What is kept is bounded, whatever comes."""
    incidents, logs, clock = strikes_and_logs()
    for number in range(MOST_KINDS):
        incidents.log_limited(number, logging.WARNING, "known")
    for number in range(MOST_KINDS, MOST_KINDS + 100):
        incidents.log_limited(number, logging.WARNING, "kind %d", number)
        incidents.log_limited(0, logging.WARNING, "known")
    assert [each for each in logs.warnings() if each != "known"] == [f"kind {MOST_KINDS}"]
    assert len(logs.warnings()) == MOST_KINDS + 1
    clock.now += QUIET
    for name in ("a", "b"):
        incidents.log_limited(name, logging.WARNING, "kind %s", name)
    assert logs.warnings()[-2:] == ["kind a", "kind b"]


def raised_by(work: Callable[[], object]) -> BaseException:
    """What ``work`` has raised, as the library would have caught it."""
    try:
        work()
    except (LookupError, ValueError, UsageError) as error:
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)
    raise AssertionError


def test_two_bugs_are_two_kinds_wherever_they_come_out() -> None:
    """Two lines that call the same function wrongly, two types; but not each depth."""

    def deep(depth: int) -> object:
        return deep(depth - 1) if depth else json.loads("{")

    incidents, logs, _ = strikes_and_logs()
    bugs: list[Callable[[], object]] = [
        lambda: json.loads("["),
        lambda: json.loads("]"),
        lambda: "x".index("y"),
        lambda: check_work(None),  # the library's own says so
        lambda: check_work(1),
    ]
    for _ in range(3):
        for bug in bugs:
            incidents.log_exception(raised_by(bug), "a bug")
    assert len(logs.warnings()) == len(bugs)
    for depth in range(1, 9):
        incidents.log_exception(raised_by(partial(deep, depth)), "a bug")
    incidents.log_exception(LookupError("never raised"), "a bug")
    incidents.log_exception(LookupError("never raised"), "a bug")
    assert len(logs.warnings()) == len(bugs) + 2
