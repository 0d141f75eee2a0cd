"""Counters of limits, and few log lines for a flood of incidents."""

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
    """A time that the test sets."""

    now = 1000.0


def new_incidents() -> tuple[Incidents, Logs, Clock]:
    logs, clock = Logs(), Clock()
    return Incidents(logs, lambda: clock.now), logs, clock


def test_incidents_count_each_limit_by_name() -> None:
    """A misspelt name is an error, and a dashboard sees all names."""
    incidents, logs, _ = new_incidents()
    assert incidents.counts() == dict.fromkeys(LIMITS, 0)
    incidents.count_limit("head")
    incidents.log_limit("message", logging.WARNING, "%d bytes", 7)
    assert incidents.counts() == dict.fromkeys(LIMITS, 0) | {"head": 1, "message": 1}
    assert logs.warnings() == ["7 bytes"]
    with pytest.raises(KeyError):
        incidents.count_limit("headd")


def test_incidents_flood_is_one_line_and_then_a_count() -> None:
    """Another limit, or a higher level, is logged at once."""
    incidents, logs, clock = new_incidents()
    for number in range(1000):
        incidents.log_limit("head", logging.WARNING, "number %d", number)
    incidents.log_limit("message", logging.WARNING, "another")  # a limit does not hide another
    incidents.log_limit("head", logging.ERROR, "worse")  # a warning does not hide an error
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


def test_incidents_from_many_threads_are_all_counted_and_logged_once() -> None:
    incidents, logs, _ = new_incidents()

    def flood(number: int) -> None:
        for _ in range(500):
            incidents.log_limit("outbox", logging.INFO, "thread %d", number)

    together(8, flood)
    assert incidents.counts()["outbox"] == 4000
    assert len(logs.at_least(logging.INFO)) == 1


def test_incidents_raising_log_handler_goes_to_excepthook(monkeypatch: pytest.MonkeyPatch) -> None:
    incidents, logs, _ = new_incidents()
    shown: list[Any] = []
    monkeypatch.setattr("threading.excepthook", shown.append)

    def fail(record: logging.LogRecord) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(logs, "handle", fail)
    incidents.log_limit("head", logging.WARNING, "a line")
    assert incidents.counts()["head"] == 1
    assert [str(each.exc_value) for each in shown] == ["the disk is full"]


def test_incidents_too_many_kinds_share_one_until_others_are_quiet() -> None:
    incidents, logs, clock = new_incidents()
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
    """Return the exception of ``work``, with the traceback that the library would see."""
    try:
        work()
    except (LookupError, ValueError, UsageError) as error:
        trace = error.__traceback__
        return error.with_traceback(trace and trace.tb_next)
    raise AssertionError


def test_incidents_exceptions_differ_by_line_and_type_but_not_by_depth() -> None:

    def deep(depth: int) -> object:
        return deep(depth - 1) if depth else json.loads("{")

    incidents, logs, _ = new_incidents()
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
