"""The rate limiter, compared with exact arithmetic and used by real peers."""

from __future__ import annotations

import threading
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import IOContext, MatcherMap, RateLimiter
from tests.support import Items, serving, together


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def client(number: int, hub: object = None) -> IOContext:
    """Return a client with all that the limiter reads."""
    found: Any = SimpleNamespace(connection_id=number, hub=hub)
    return found  # type: ignore[no-any-return]


def test_limiter_burst_passes_then_rate_holds() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=2, burst=3, clock=clock)
    ada, bob = client(1), client(2)
    assert [limiter(ada, None) for _ in range(5)] == [True, True, True, False, False]
    assert limiter(bob, None)  # a bucket of its own
    clock.now += 0.5
    assert [limiter(ada, None) for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [limiter(ada, None) for _ in range(4)] == [True, True, True, False]
    assert limiter.refused == 4
    assert repr(limiter) == "RateLimiter(rate=2, burst=3)"


@given(
    rate=st.sampled_from([0.1, 0.3, 1, 3, 7, 10, 1000]),
    burst=st.integers(1, 10),
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0.0, 0.001, 0.1, 1 / 3, 1.0, 7.0, 100.0])),
        max_size=200,
    ),
)
def test_limiter_equals_exact_token_bucket(
    rate: float, burst: int, steps: list[tuple[int, float]]
) -> None:
    """Compared with fractions, for three clients; only rounding errors may differ."""
    clock = Clock()
    limiter = RateLimiter(rate, burst, clock)
    tokens = {number: Fraction(burst) for number in range(3)}
    then = dict.fromkeys(range(3), Fraction(clock.now))
    for number, wait in steps:
        clock.now += wait
        now = Fraction(clock.now)
        exact = min(Fraction(burst), tokens[number] + (now - then[number]) * Fraction(rate))
        allowed = limiter(client(number), None)
        assert allowed == (exact >= 1) or 0 < 1 - exact < Fraction(1, 900)
        tokens[number], then[number] = exact - allowed, now


@pytest.mark.parametrize("rate", [0.1, 0.3, 3, 7, 10, 30])
def test_limiter_client_at_rate_is_never_refused(rate: float) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, 1, clock)
    start = clock.now
    for step in range(10_000):
        clock.now = start + step / rate
        assert limiter(client(1), None), step


def test_limiter_buckets_are_bounded() -> None:
    """Buckets of clients that have not sent lately are forgotten."""
    clock = Clock()
    limiter = RateLimiter(rate=1, burst=2, clock=clock)
    most = 0
    for number in range(20_000):
        clock.now += 0.01
        limiter(client(number), None)
        most = max(most, limiter.buckets)
    # A bucket that has lost one token is full after a second: 100 clients.
    assert 100 <= most <= 201 + 1
    clock.now += 10
    for number in range(most):
        limiter(client(-1 - number), None)
    assert limiter.buckets <= most


def test_limiter_sweep_keeps_used_buckets() -> None:
    """Only full buckets are forgotten, so no client gains a token."""
    clock = Clock()
    limiter = RateLimiter(rate=0.001, burst=2, clock=clock)
    assert [limiter(client(0), None) for _ in range(3)] == [True, True, False]
    for number in range(1, 1000):
        clock.now += 0.001
        assert limiter(client(number), None)
    assert not limiter(client(0), None)


def test_limiter_same_id_in_two_hubs_has_two_buckets() -> None:
    one, other = object(), object()
    limiter = RateLimiter(1, 1, Clock())
    assert limiter(client(1, one), None)
    assert limiter(client(1, other), None)
    assert not limiter(client(1, one), None)


def test_limiter_many_threads_take_each_token_once() -> None:
    limiter = RateLimiter(rate=1e-6, burst=50)
    allowed = Items[int]()

    def speak(number: int) -> None:
        for other in range(200):
            limiter(client(1000 * (number + 1) + other), None)
            if limiter(client(number), None):
                allowed.add(number)

    together(4, speak)
    assert sorted(allowed.now()) == [number for number in range(4) for _ in range(50)]
    assert limiter.refused == 4 * 150


def test_limiter_as_interceptor_protects_matcher() -> None:
    handled = Items[str]()
    limiter = RateLimiter(rate=1e-6, burst=2)

    matcher = MatcherMap[Any, str](lambda data: ("any", data))
    matcher.add("any", lambda ctx, meta: handled.add(ctx.payload))

    with serving(on_receive_message=limiter, receive_matcher=matcher) as served:
        peer, client = served.pair()
        peer.send("one", "two", "three", "four")
        assert handled.wait(2) == ["one", "two"]
        peer.send_close()
        client.context.wait()
        assert handled.now() == ["one", "two"]
        assert limiter.refused == 2


def test_limiter_clock_is_called_without_lock() -> None:
    """A clock that uses the limiter itself does not deadlock."""
    times = iter([0.0, 1.0, 2.0])

    def clock() -> float:
        now = next(times)
        if now == 0.0:
            thread = threading.Thread(target=lambda: limiter(client(2), None))
            thread.start()
            thread.join()
        return now

    limiter = RateLimiter(1, 1, clock)
    assert limiter(client(1), None)
    assert limiter.buckets == 2
