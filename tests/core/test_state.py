"""The state of a hub, from new to closed."""

from __future__ import annotations

import os
import threading

import pytest

from hubthread import HubClosed, SettingError, UsageError
from hubthread.core.state import HubState
from tests.support import TIMEOUT, in_thread


def new(*, opened: bool = True) -> HubState:
    return HubState("games", opened=opened)


def test_state_walked_to_its_end_never_begins_again() -> None:
    state = new()
    assert state.value == "new"
    state.begin()
    assert state.value == "running"
    assert state.begin_close() == "running"
    assert state.begin_close() is None
    state.end()
    assert state.value == "closed"
    assert state.begin_close() is None
    with pytest.raises(UsageError, match="this hub is closed; a hub runs once"):
        state.begin()


def test_state_cannot_begin_goes_back_to_new_unless_closing() -> None:
    state = new()
    state.begin()
    state.cannot_begin()
    assert state.value == "new"
    state.begin()
    state.begin_close()
    state.cannot_begin()
    assert state.value == "closing"


def test_state_closing_refuses_what_begins() -> None:
    state = new()
    state.refuse_closing("opens no hotline")
    state.begin_close()
    with pytest.raises(HubClosed, match="hub games is closing and opens no hotline"):
        state.refuse_closing("opens no hotline")


@pytest.mark.parametrize("end", [HubState.open, HubState.end])
def test_state_wait_open_ends_when_open_or_closed(end: object) -> None:
    state = new(opened=False)
    waiting = in_thread(state.wait_open)
    assert callable(end)
    end(state)
    waiting()
    new().wait_open()  # without delayed_execution there is nothing to wait for


def test_state_wait_closed_tells_whether_it_is() -> None:
    state = new()
    assert not state.wait_closed(0.001)
    waiting = in_thread(lambda: state.wait_closed(TIMEOUT))
    state.end()
    assert waiting()


def test_state_wait_done_answers_each_wait_add() -> None:
    state = new()
    state.wait_add(2)
    waiting = in_thread(lambda: state.wait(lambda: state.missing == 0, TIMEOUT))
    state.wait_done()
    assert state.missing == 1
    state.wait_done()
    assert waiting()
    with pytest.raises(UsageError, match="wait_done was called more often than wait_add"):
        state.wait_done()
    with pytest.raises(SettingError, match="count"):
        state.wait_add(0)


def test_state_failed_keeps_the_bug_and_calls_back() -> None:
    state, told = new(), threading.Event()
    state.fail(error := ZeroDivisionError())
    assert state.failure is error
    state.on_failure(told.set)
    state.fail(error)
    assert told.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_state_in_a_forked_process_says_so() -> None:
    state = new()
    state.begin()
    assert not state.forked()
    process = os.fork()
    if process == 0:
        os._exit(10 + state.forked())
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 11
