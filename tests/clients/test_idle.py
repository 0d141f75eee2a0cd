"""The sweep that closes idle clients, with timers that the test fires.

``tests/hub/test_limits.py`` has the same with a whole hub.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hubthread.clients.idle import SWEEPS, IdleSweep


class Timers:
    """Timers that hold the next sweep."""

    def __init__(self) -> None:
        self.next: tuple[float, Callable[[], None]] | None = None

    def set(self, seconds: float, work: Callable[[], None]) -> None:
        self.next = seconds, work

    def fire(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.next is not None
            self.next[1]()


class Client:
    """A client with a message count, which is its own connection."""

    def __init__(self) -> None:
        self.received = 0
        self.callback: object = None
        self.closed: list[tuple[int, str]] = []
        self.ws_conn = self

    def current_callback(self) -> object:
        return self.callback

    def close(self, code: int, reason: str, **how: Any) -> None:
        assert how == {"ended_by": "idle", "limit": "idle_time"}
        self.closed.append((code, reason))


@pytest.fixture
def timers() -> Timers:
    return Timers()


def sweep(limit: float | None, timers: Any, *clients: Any) -> None:
    IdleSweep(limit, lambda: list(clients), timers).start()


def test_idle_sweep_closes_client_after_limit(timers: Timers) -> None:
    client = Client()
    sweep(60.0, timers, client)
    assert timers.next is not None
    assert timers.next[0] == 60.0 / SWEEPS
    timers.fire(SWEEPS)  # the first sees the client, the others find it unchanged
    assert client.closed == []
    timers.fire()
    assert client.closed == [(1000, "no message for 60 s")]


def test_idle_sweep_message_begins_anew(timers: Timers) -> None:
    client = Client()
    sweep(60.0, timers, client)
    timers.fire(SWEEPS)
    client.received += 1
    timers.fire(SWEEPS)
    assert client.closed == []
    timers.fire()
    assert len(client.closed) == 1


def test_idle_sweep_client_in_callback_is_not_idle(timers: Timers) -> None:
    client = Client()
    client.callback = 1
    sweep(60.0, timers, client)
    timers.fire(3 * SWEEPS)
    assert client.closed == []


def test_idle_sweep_without_limit_sets_no_timer(timers: Timers) -> None:
    sweep(None, timers, Client())
    assert timers.next is None
