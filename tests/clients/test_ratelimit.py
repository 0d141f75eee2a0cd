"""The rate limiter: a token bucket for each client, against exact arithmetic and real peers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import IOContext, RateLimiter, SettingError
from tests.support import Items, serving, together


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def client(number: int, hub: object = None) -> IOContext:
    """All that the limiter looks at."""
    found: Any = SimpleNamespace(connection_id=number, hub=hub)
    return found  # type: ignore[no-any-return]


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=2, burst=3, clock=clock)
    ada, bob = client(1), client(2)
    assert [limiter(ada, None) for _ in range(5)] == [True, True, True, False, False]
    assert limiter(bob, None)  # has a bucket of its own
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
def test_it_is_a_token_bucket(rate: float, burst: int, steps: list[tuple[int, float]]) -> None:
    """Against fractions, for three clients: the same answers but for what rounding leaves."""
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
def test_a_client_that_speaks_at_the_rate_is_never_refused(rate: float) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, 1, clock)
    start = clock.now
    for step in range(10_000):
        clock.now = start + step / rate
        assert limiter(client(1), None), step


def test_what_is_kept_is_bounded() -> None:
    """By who spoke lately: clients that came and went long ago leave nothing behind."""
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


def test_who_is_refused_is_remembered_through_a_sweep() -> None:
    """Only full buckets are forgotten: nobody gains a token by the crowd around it."""
    clock = Clock()
    limiter = RateLimiter(rate=0.001, burst=2, clock=clock)
    assert [limiter(client(0), None) for _ in range(3)] == [True, True, False]
    for number in range(1, 1000):
        clock.now += 0.001
        assert limiter(client(number), None)
    assert not limiter(client(0), None)


def test_one_limiter_serves_several_hubs() -> None:
    """Whose clients have the same ids."""
    one, other = object(), object()
    limiter = RateLimiter(1, 1, Clock())
    assert limiter(client(1, one), None)
    assert limiter(client(1, other), None)
    assert not limiter(client(1, one), None)


def test_many_threads_take_no_token_twice() -> None:
    """Clients on their own threads, while others sweep: each gets its burst, no more."""
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


def test_messages_over_the_limit_reach_no_handler() -> None:
    """The peer stays and is heard again later; the others do not notice."""
    clock, seen = Clock(), Items[Any]()
    limiter = RateLimiter(rate=1, burst=2, clock=clock)

    def receive(ctx: IOContext, meta: Any) -> bool:
        if ctx.payload == "later":
            clock.now += 1
        heard = limiter(ctx, meta)
        seen.add((ctx.payload, heard))
        return heard

    with serving(on_receive_message=receive) as served:
        eager, calm = served.peer(), served.peer()
        eager.send("1", "2", "3", "4")
        seen.wait(4)
        calm.send("5")
        seen.wait(5)
        eager.send("later")
        assert [heard for _, heard in seen.wait(6)] == [True, True, False, False, True, True]


def test_it_is_an_interceptor_as_it_stands() -> None:
    """Given to the settings, it keeps from the matcher what is too much."""
    handled = Items[str]()
    limiter = RateLimiter(rate=1e-6, burst=2)

    class Matcher:
        def dispatch(self, ctx: IOContext, meta: Any, data: str) -> None:
            handled.add(data)

        def freeze(self) -> None:
            """Nothing to freeze."""

    with serving(on_receive_message=limiter, receive_matcher=Matcher()) as served:
        peer, client = served.pair()
        peer.send("one", "two", "three", "four")
        assert handled.wait(2) == ["one", "two"]
        peer.send_close()
        client.context.wait()
        assert handled.now() == ["one", "two"]
        assert limiter.refused == 2


def test_the_clock_runs_under_no_lock() -> None:
    """A clock that uses the limiter itself, or is slow, holds up nobody."""
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


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RateLimiter(0, 1), "rate"),
        (lambda: RateLimiter(float("inf"), 1), "rate"),
        (lambda: RateLimiter(1, 0), "burst"),
        (lambda: RateLimiter(1, 1.5), "burst"),  # type: ignore[arg-type]
        (lambda: RateLimiter(1, 1, 5), "clock"),  # type: ignore[arg-type]
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], object], field: str) -> None:
    with pytest.raises(SettingError) as caught:
        make()
    assert caught.value.field == field
