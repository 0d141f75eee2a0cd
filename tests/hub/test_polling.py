"""Long polling: a function is called again and again, and the poll ends once."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    Hub,
    HubClosed,
    HubSetting,
    LongPollingOption,
    LongPollingTimeoutZero,
    SettingError,
    WrongThread,
)
from tests.rooms.ticking.hand_clock import Noted, new_hub
from tests.support import TIMEOUT, Gate, Items, in_thread, together


def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("timeout", {"timeout": -1}),
        ("timeout", {"timeout": float("nan")}),
        ("timeout", {"timeout": float("inf")}),
        ("timeout", {"timeout": True}),
        ("timeout", {"timeout": None}),
        ("frequency", {"frequency": 0}),
        ("frequency", {"frequency": -1}),
        ("frequency", {"frequency": 0.00009}),
        ("frequency", {"frequency": 10**400}),
        ("frequency", {"frequency": float("nan")}),
        ("retry", {"retry": -1}),
        ("retry", {"retry": 1.5}),
        ("retry", {"retry": True}),
        ("do", {"do": None}),
        ("timeout_callback", {"timeout_callback": "late"}),
    ],
)
def test_polling_option_with_a_wrong_value_names_it(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"^{field}: ") as raised:
        LongPollingOption(**{"do": _nothing, "timeout": 1, **fields})
    assert raised.value.field == field


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, False])
def test_polling_option_without_a_timeout_is_refused(zero: Any) -> None:
    """The error is that of the specification."""
    with pytest.raises(LongPollingTimeoutZero, match=r"option.timeout can't be zero"):
        LongPollingOption(do=_nothing, timeout=zero)


def test_polling_calls_at_once_then_each_period_until_done() -> None:
    hub, clock, _ = new_hub()
    notes = Noted()

    def do(given: Any, done: Any) -> None:
        assert given is hub
        notes.add(clock.time - clock.start)
        if len(notes.now()) == 3:
            done()
            done()

    with hub:
        poll = hub.long_polling(
            LongPollingOption(do, timeout=60, timeout_callback=notes.noting("timeout"))
        )
        for _ in range(10):
            clock.rest()
            clock.advance(0.5)
        assert poll.wait(TIMEOUT) == poll.outcome == "done"
        assert notes.now() == [0, 1, 2]
        assert poll.context.reason == "done"
        assert not poll.cancel()
        assert repr(poll) == "<LongPollingResult done>"


def test_polling_done_on_another_thread_ends_it() -> None:
    hub, clock, _ = new_hub()
    told = Noted()
    with hub:
        poll = hub.long_polling(LongPollingOption(lambda _, done: told.add(done), timeout=60))
        (done,) = told.wait(1)
        clock.rest()
        assert (poll.outcome, poll.wait(0), repr(poll)) == (
            None,
            None,
            "<LongPollingResult running>",
        )
        in_thread(done)()
        assert poll.wait(TIMEOUT) == "done"
        clock.go(100)
        assert len(told.now()) == 1


def test_polling_timed_out_calls_the_timeout_callback() -> None:
    """The callback runs on the poll's own thread."""
    hub, clock, _ = new_hub()
    notes = Noted()
    with hub:
        poll = hub.long_polling(
            LongPollingOption(
                notes.noting("do"),
                timeout=2.5,
                frequency=2,
                timeout_callback=lambda given: notes.add((given, poll.outcome)),
            )
        )
        for _ in range(10):
            clock.rest()
            clock.advance(0.5)
        assert poll.wait(TIMEOUT) == "timeout"
        assert notes.wait(3) == ["do", "do", (hub, "timeout")]


@pytest.mark.parametrize("late", [False, True])
def test_polling_with_retry_bounds_the_number_of_calls(late: bool) -> None:
    """After the last call ``done`` has another period to come."""
    hub, clock, _ = new_hub()
    notes, told = Noted(), Noted()

    def do(_: Any, done: Any) -> None:
        notes.add("do")
        told.add(done)

    with hub:
        poll = hub.long_polling(
            LongPollingOption(do, timeout=60, retry=2, timeout_callback=notes.noting("timeout"))
        )
        clock.rest()
        clock.go(1)
        clock.go(0.5)
        assert notes.now() == ["do", "do"]
        if late:
            told.now()[0]()
            assert poll.wait(TIMEOUT) == "done"
            clock.go(1)
            assert notes.now() == ["do", "do"]
        else:
            clock.go(0.5)
            assert poll.wait(TIMEOUT) == "timeout"
            assert notes.wait(3) == ["do", "do", "timeout"]


def test_polling_slow_call_leaves_out_the_missed_ones() -> None:
    hub, clock, _ = new_hub()
    notes = Noted()

    def do(*_: Any) -> None:
        notes.add(clock.time - clock.start)
        if len(notes.now()) in (2, 4):
            clock.advance(2.5)

    with hub:
        poll = hub.long_polling(LongPollingOption(do, timeout=6))
        for _ in range(30):
            clock.rest()
            if poll.outcome is None:
                clock.advance(0.5)
        assert poll.wait(TIMEOUT) == "timeout"
        assert notes.now() == [0, 1, 3.5, 4]


def test_polling_call_raising_is_logged_and_repeated() -> None:
    """An exception of the timeout callback is logged, too."""
    hub, clock, logs = new_hub()
    asked: Items[None] = Items()

    def do(*_: Any) -> None:
        asked.add(None)
        raise LookupError("asked")

    with hub:
        option = LongPollingOption(do, timeout=1.5, timeout_callback=lambda _: 1 / 0)
        poll = hub.long_polling(option)
        for _ in range(4):
            clock.rest()
            clock.advance(0.5)
        assert poll.wait(TIMEOUT) == "timeout"
        logs.records.wait(2)
    assert len(asked.now()) == 2
    first, last = logs.warnings()
    assert "a callback raised" in first
    assert "LookupError: asked" in first
    assert "a callback raised" in last
    assert "ZeroDivisionError" in last


@pytest.mark.parametrize("how", ["cancel", "context", "hub", "the hub's context"])
def test_polling_cancelled_calls_nothing_more(how: str) -> None:
    hub, clock, _ = new_hub()
    notes = Noted()
    with hub:
        poll = hub.long_polling(
            LongPollingOption(notes.noting("do"), 60, timeout_callback=notes.noting("timeout"))
        )
        notes.wait(1)
        clock.rest()
        if how == "cancel":
            assert poll.cancel()
            assert not poll.cancel()
        elif how == "context":
            poll.context.cancel("enough")
        elif how == "hub":
            hub.close()
        else:
            hub.context.cancel()
        assert poll.wait(TIMEOUT) == "cancelled"
        clock.advance(100)
    assert notes.now() == ["do"]
    with pytest.raises(HubClosed, match="starts no poll"):
        hub.long_polling(LongPollingOption(_nothing, 1))


def test_polling_cancelled_during_a_call_lets_it_end() -> None:
    """A ``done`` of that call is too late."""
    hub, _, _ = new_hub()
    gate = Gate()
    notes = Noted()

    def do(_: Any, done: Any) -> None:
        gate()
        done()
        notes.add(poll.outcome)

    with hub:
        poll = hub.long_polling(LongPollingOption(do, 60))
        gate.reached()
        assert poll.cancel()
        gate.open()
        assert notes.wait(1) == ["cancelled"]


def test_polling_call_may_wait_for_the_hub() -> None:
    """The hub thread may not wait for the poll."""
    with Hub(HubSetting[Any, Any](dict)) as hub:

        def do(given: Any, done: Any) -> None:
            assert given.exec_sync(lambda view: view.clients_num()) == 0
            done()

        poll = hub.exec_sync(lambda _: hub.long_polling(LongPollingOption(do, 60)))
        assert poll.wait(TIMEOUT) == "done"
        with pytest.raises(WrongThread):
            hub.exec_sync(lambda _: poll.wait(0))


def test_polling_wait_in_its_own_callback_is_refused() -> None:
    hub, clock, logs = new_hub()
    told, refused, gate = Noted(), Noted(), Gate()

    def waits(*_: Any) -> None:
        with pytest.raises(WrongThread, match="would wait for itself"):
            told.now()[0].wait(TIMEOUT)
        refused.add(clock.time - clock.start)

    def do(*_: Any) -> None:
        gate()
        waits()

    with hub:
        told.add(hub.long_polling(LongPollingOption(do, 1, timeout_callback=waits)))
        gate.open()
        refused.wait(1)
        clock.rest()
        clock.go(1)
        assert refused.wait(2) == [0, 1]
        assert told.now()[0].wait(TIMEOUT) == "timeout"
    assert logs.warnings() == []


def test_polling_context_callback_raising_is_logged() -> None:
    """The timeout callback is called all the same."""
    hub, clock, logs = new_hub()
    notes = Noted()

    def fail(_: str) -> None:
        raise ZeroDivisionError

    with hub:
        poll = hub.long_polling(
            LongPollingOption(_nothing, 1, timeout_callback=notes.noting("timeout"))
        )
        poll.context.add_callback(fail)
        clock.rest()
        clock.advance(1)
        assert notes.wait(1) == ["timeout"]
        assert poll.wait(TIMEOUT) == "timeout"
    (told,) = logs.warnings()
    assert "a callback raised" in told
    assert "ZeroDivisionError" in told


@pytest.mark.usefixtures("hasty_threads")
def test_polling_done_cancelled_and_timed_out_at_once_ends_once() -> None:
    for number in range(60):
        hub, clock, _ = new_hub()
        with hub:
            told, notes = Noted(), Noted()
            poll = hub.long_polling(
                LongPollingOption(
                    lambda _, done, told=told: told.add(done),  # type: ignore[misc]
                    1,
                    timeout_callback=notes.noting("timeout"),
                )
            )
            (done,) = told.wait(1)
            acts = [done, poll.cancel, lambda clock=clock: clock.advance(1)]
            together(3, lambda who, acts=acts, number=number: acts[(who + number) % 3]())  # type: ignore[misc]
            outcome = poll.wait(TIMEOUT)
            clock.rest()
        assert notes.now() == (["timeout"] if outcome == "timeout" else [])
        assert poll.outcome == outcome
