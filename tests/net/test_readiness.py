"""Which sockets are ready: both ways of asking the system give the same answers."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread.net import readiness
from hubthread.net.readiness import READ, WRITE, Portable, Readiness, open_readiness

KINDS: list[Any] = [Portable]
if sys.platform == "linux":
    KINDS.append(readiness.Epoll)


def read() -> None:
    """Stand for the step of a socket."""


@pytest.fixture(params=KINDS)
def ready(request: pytest.FixtureRequest) -> Iterator[Readiness]:
    found: Readiness = request.param()
    yield found
    found.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


def ask(ready: Readiness, timeout: float | None = 0.0) -> tuple[list[Any], list[Any]]:
    steps: list[Any] = []
    return steps, ready.ready(timeout, steps)


def test_readiness_of_a_readable_socket_is_its_step(ready: Readiness, pair: Any) -> None:
    one, two = pair
    ready.register(one.fileno(), READ, read)
    assert ask(ready) == ([], [])
    two.send(b"x")
    assert ask(ready, None) == ([read], [])


def test_readiness_for_both_tells_which(ready: Readiness, pair: Any) -> None:
    one, two = pair
    ready.register(one.fileno(), READ | WRITE, read)
    assert ask(ready) == ([], [(read, WRITE)])
    two.send(b"x")
    assert ask(ready) == ([], [(read, READ | WRITE)])
    ready.modify(one.fileno(), READ, read)
    assert ask(ready) == ([read], [])


def test_readiness_of_a_hung_up_socket_is_what_was_waited_for(ready: Readiness, pair: Any) -> None:
    one, two = pair
    ready.register(one.fileno(), WRITE, read)
    two.close()
    assert ask(ready) == ([], [(read, WRITE)])
    ready.modify(one.fileno(), READ, read)
    steps, others = ask(ready)
    assert steps + [step for step, mask in others if mask == READ] == [read]


def test_readiness_after_unregister_is_silent(ready: Readiness, pair: Any) -> None:
    one, two = pair
    ready.register(one.fileno(), READ, read)
    two.send(b"x")
    ready.unregister(one.fileno())
    assert ask(ready) == ([], [])
    ready.unregister(one.fileno())


def test_readiness_unregister_of_a_closed_socket_frees_its_number(ready: Readiness) -> None:
    one, two = socket.socketpair()
    number = one.fileno()
    ready.register(number, READ, read)
    ready.unregister(number)
    one.close()
    two.close()
    again, other = socket.socketpair()
    with again, other:
        ready.register(again.fileno(), READ, read)
        other.send(b"x")
        assert ask(ready) == ([read], [])


def test_open_readiness_has_the_quickest() -> None:
    found = open_readiness()
    assert type(found) is KINDS[-1]
    found.close()
