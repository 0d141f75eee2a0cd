"""Long polling: a function is called again and again, and the poll ends once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
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
from hubthread.testing import VirtualHub
from tests.rooms.ticking.hand_clock import new_hub
from tests.support import TIMEOUT, Gate, Items, Logs, in_thread, together


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


@pytest.fixture
def hub() -> Iterator[VirtualHub[Any, Any]]:
    with VirtualHub(HubSetting[Any, Any](dict, logger=Logs())) as hub:
        yield hub


class Asked:
    """A function to poll: it notes the times of its calls, and acts in some of them."""

    def __init__(self, hub: VirtualHub[Any, Any]) -> None:
        self.hub = hub
        self.times: list[float] = []
        self.acts: dict[int, Callable[[Any], object]] = {}
        """The use of ``done`` in a call of the function, by the number of the call."""
        self.late: list[float] = []
        """The times of calls of the timeout callback."""

    def __call__(self, given: Any, done: Any) -> None:
        assert given is self.hub
        self.times.append(self.hub.clock.now())
        self.done = done
        self.acts.get(len(self.times), _nothing)(done)

    def timed_out(self, given: Any) -> None:
        assert given is self.hub
        self.late.append(self.hub.clock.now())

    def poll(self, timeout: float = 60, **fields: Any) -> Any:
        fields.setdefault("timeout_callback", self.timed_out)
        poll = self.hub.long_polling(LongPollingOption(self, timeout, **fields))
        self.hub.settle()
        return poll


@pytest.fixture
def asked(hub: VirtualHub[Any, Any]) -> Asked:
    return Asked(hub)


def test_polling_calls_at_once_then_each_period_until_done(asked: Asked) -> None:
    """``done`` may be called twice."""
    asked.acts[3] = lambda done: (done(), done())
    poll = asked.poll()
    assert (poll.outcome, repr(poll)) == (None, "<LongPollingResult running>")
    asked.hub.advance(100)
    assert (asked.times, asked.late) == ([0, 1, 2], [])
    assert poll.wait() == poll.outcome == poll.context.reason == "done"
    assert not poll.cancel()
    assert repr(poll) == "<LongPollingResult done>"


def test_polling_timed_out_calls_the_timeout_callback(asked: Asked) -> None:
    poll = asked.poll(2.5, frequency=2)
    asked.hub.advance(100)
    assert (asked.times, asked.late, poll.wait()) == ([0, 2], [2.5], "timeout")


@pytest.mark.parametrize("late", [False, True])
def test_polling_with_retry_bounds_the_number_of_calls(asked: Asked, late: bool) -> None:
    """After the last call ``done`` has another period to come."""
    poll = asked.poll(retry=2)
    asked.hub.advance(1.5)
    assert asked.times == [0, 1]
    if late:
        asked.done()
    asked.hub.advance(100)
    assert asked.times == [0, 1]
    assert (asked.late, poll.outcome) == (([], "done") if late else ([2], "timeout"))


def test_polling_slow_call_leaves_out_the_missed_ones(asked: Asked) -> None:
    asked.acts = dict.fromkeys((2, 4), lambda _: asked.hub.clock.spend(2.5))
    poll = asked.poll(6)
    asked.hub.advance(100)
    assert (asked.times, poll.outcome) == ([0, 1, 3.5, 4], "timeout")


def test_polling_raising_callbacks_are_logged_and_the_poll_goes_on(asked: Asked) -> None:
    """The function is called again; a callback of the context hides no time-out."""
    asked.acts = dict.fromkeys((1, 2), lambda _: int("asked"))
    poll = asked.poll(1.5)
    poll.context.add_callback(lambda _: 1 / 0)
    asked.hub.advance(100)
    assert (asked.times, asked.late, poll.outcome) == ([0, 1], [1.5], "timeout")
    asked.poll(1, timeout_callback=lambda _: [].pop())
    asked.hub.advance(100)
    errors = ["ValueError", "ValueError", "ZeroDivisionError", "IndexError"]
    assert [type(error).__name__ for error in asked.hub.errors] == errors
    logs: Any = asked.hub.setting.logger
    assert all("a callback raised" in line for line in logs.warnings())


def cancel(poll: Any, hub: Any) -> None:
    assert poll.cancel()
    assert not poll.cancel()


@pytest.mark.parametrize(
    "end",
    [
        cancel,
        lambda poll, hub: poll.context.cancel("enough"),
        lambda poll, hub: hub.close(),
        lambda poll, hub: hub.context.cancel(),
    ],
    ids=["cancel", "context", "hub", "the hub's context"],
)
def test_polling_cancelled_calls_nothing_more(
    asked: Asked, end: Callable[[Any, Any], object]
) -> None:
    poll = asked.poll()
    end(poll, asked.hub)
    asked.hub.advance(100)
    assert (asked.times, asked.late, poll.wait()) == ([0], [], "cancelled")
    asked.hub.close()
    with pytest.raises(HubClosed, match="starts no poll"):
        asked.poll()


def test_polling_wait_in_its_own_callback_is_refused(asked: Asked) -> None:
    """The hub thread may not wait for the poll either."""
    polls: list[Any] = []

    def waits(_: object) -> None:
        with pytest.raises(WrongThread, match="would wait for itself"):
            polls[0].wait()
        polls.append("refused")

    asked.acts[2] = waits
    polls.append(asked.poll(1.5, timeout_callback=waits))
    asked.hub.advance(100)
    assert polls[1:] == ["refused"] * 2
    with pytest.raises(WrongThread):
        asked.hub.exec_sync(lambda _: polls[0].wait(0))


@pytest.mark.parametrize("outcome", ["done", "cancelled"])
def test_polling_runs_on_a_thread_of_its_own(outcome: str) -> None:
    """It may wait for the hub; any thread may call ``done`` or cancel it during a call."""
    gate, told = Gate(), Items[Any]()

    def do(given: Any, done: Any) -> None:
        told.add((threading.get_ident(), given.exec_sync(lambda view: view.clients_num()), done))
        gate()
        done()

    with Hub(HubSetting[Any, Any](dict)) as hub:
        poll = hub.exec_sync(lambda _: hub.long_polling(LongPollingOption(do, 60)))
        gate.reached()
        ((ident, clients, done),) = told.now()
        assert poll.wait(0) is None
        in_thread(done if outcome == "done" else poll.cancel)()
        gate.open()
        assert (clients, poll.wait(TIMEOUT)) == (0, outcome)
        assert ident != threading.get_ident()
        assert ident != hub.exec_sync(lambda _: threading.get_ident())


@pytest.mark.usefixtures("hasty_threads")
def test_polling_done_cancelled_and_timed_out_at_once_ends_once() -> None:
    for number in range(60):
        hub, clock, _ = new_hub()
        with hub:
            told, late = Items[Any](), Items[Any]()
            option = LongPollingOption(
                lambda _, done, told=told: told.add(done),  # type: ignore[misc]
                1,
                timeout_callback=late.add,
            )
            poll = hub.long_polling(option)
            (done,) = told.wait(1)
            acts = [done, poll.cancel, lambda clock=clock: clock.advance(1)]
            together(3, lambda who, acts=acts, number=number: acts[(who + number) % 3]())  # type: ignore[misc]
            outcome = poll.wait(TIMEOUT)
            clock.rest()
        assert late.now() == ([hub] if outcome == "timeout" else [])
        assert poll.outcome == outcome
