"""Functions that block are remembered, until some quick calls have shown otherwise."""

from __future__ import annotations

import pytest

from hubthread.concurrency import habits as habits_module
from hubthread.concurrency.habits import BLOCKING, QUICK_CALLS, Habits


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(habits_module, "about_to_wait", lambda: found.append(1))
    return found


def work() -> None:
    """Stand for a handler."""


def test_habits_call_nobody_for_a_function_that_never_blocked(calls: list[int]) -> None:
    habits = Habits()
    habits.ahead(work)
    assert not habits
    assert calls == []


def test_habits_forget_a_function_after_quick_calls(calls: list[int]) -> None:
    habits = Habits()
    habits.blocked(work)
    for _ in range(QUICK_CALLS):
        habits.ahead(work)
        habits.blocked(work)  # another thread leads
        habits.took(work, BLOCKING / 2)  # and the call was quick all the same
    habits.ahead(work)
    assert len(calls) == QUICK_CALLS
    assert not habits


def test_habits_remember_a_function_that_still_blocks(calls: list[int]) -> None:
    habits = Habits()
    habits.blocked(work)
    for _ in range(3 * QUICK_CALLS):
        habits.ahead(work)
        habits.took(work, BLOCKING)
    assert len(calls) == 3 * QUICK_CALLS


def test_habits_remember_a_function_while_many_calls_of_it_block(calls: list[int]) -> None:
    habits = Habits()
    habits.blocked(work)
    for _ in range(3 * QUICK_CALLS):  # none has come to its end
        habits.ahead(work)
        habits.blocked(work)
    assert len(calls) == 3 * QUICK_CALLS
