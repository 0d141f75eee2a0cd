"""A bounded share of the workers: all work runs, at most so much of it at a time, in turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import BoundedPool, Workers
from hubthread.errors import ClientClosed
from tests.support import TIMEOUT, Items, Logs, telling, together

MOST = 3


class Pool:
    """BoundedPool, and what they stand on."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.threads = Threads("test", telling(self.logs))
        self.workers = Workers(self.threads)
        self.carriers = BoundedPool(self.workers, MOST)

    def strand(self, name: str) -> Strand:
        return Strand(self.carriers, 10_000, lambda error: None, name)

    def end(self) -> None:
        self.carriers.close()
        self.workers.close()
        assert not self.threads.join(TIMEOUT)
        assert not self.logs.warnings()
        assert (self.carriers._taken, self.carriers._idle) == (0, 0)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.end()


def test_no_more_than_the_bound_at_a_time(pool: Pool) -> None:
    """Ten works of which each waits: three begin, and the others have their turn."""
    gate = threading.Event()
    begun: Items[int] = Items()
    ended: Items[int] = Items()

    def work(number: int) -> None:
        begun.add(number)
        assert gate.wait(TIMEOUT)
        ended.add(number)

    for number in range(10):
        pool.carriers.submit(partial(work, number))
    begun.wait(MOST)
    assert pool.threads.count() == MOST
    assert sorted(begun.now()) == [0, 1, 2]
    gate.set()
    assert sorted(ended.wait(10)) == list(range(10))
    assert pool.threads.count() <= MOST


def test_everything_runs_whoever_submits(pool: Pool) -> None:
    """From many threads at once, on no more threads than the bound."""
    ran: Items[tuple[int, int]] = Items()
    on: Items[int] = Items()

    def work(who: int, number: int) -> None:
        ran.add((who, number))
        on.add(threading.get_ident())

    def submit(who: int) -> None:
        for number in range(200):
            pool.carriers.submit(partial(work, who, number))

    together(6, submit)
    assert sorted(ran.wait(1200)) == [(who, number) for who in range(6) for number in range(200)]
    assert len(set(on.now())) <= MOST


def test_one_idle_carrier_is_not_two(pool: Pool) -> None:
    """Two works that come before it has woken up both begin."""
    pool.carriers.submit(lambda: None)
    while not pool.carriers._idle:
        assert pool.carriers._taken == 1
    gate = threading.Event()
    begun: Items[int] = Items()

    def work(number: int) -> None:
        begun.add(number)
        assert gate.wait(TIMEOUT)

    with pool.carriers._condition:  # it cannot wake up in between
        pool.carriers.submit(partial(work, 0))
        pool.carriers.submit(partial(work, 1))
    assert sorted(begun.wait(2)) == [0, 1]
    gate.set()


def test_a_strand_that_is_never_empty_lets_others_have_their_turn(pool: Pool) -> None:
    """As many busy clients as there are carriers, and one more that has a word to say."""
    heard = threading.Event()

    def chatter(strand: Strand) -> None:
        if not heard.is_set():
            strand.post(partial(chatter, strand))

    for number in range(MOST):
        strand = pool.strand(f"chatterbox {number}")
        strand.post(partial(chatter, strand))
    pool.strand("quiet").post(heard.set)
    assert heard.wait(TIMEOUT)


def test_without_a_thread_the_caller_does_it(pool: Pool, no_threads: Callable[[], None]) -> None:
    """What was taken runs, and nobody lingers."""
    no_threads()
    ran: list[int] = []
    pool.carriers.submit(lambda: ran.append(threading.get_ident()))
    assert ran == [threading.get_ident()]


def test_after_the_end_the_caller_does_it(pool: Pool) -> None:
    """The last callbacks of a hub that closes."""
    pool.carriers.close()
    pool.workers.close()
    ran: list[int] = []
    pool.carriers.submit(lambda: ran.append(threading.get_ident()))
    assert ran == [threading.get_ident()]


def test_a_strand_closes_without_anybody_waiting(pool: Pool) -> None:
    """From inside a closure too: what was accepted runs, then the last, then nothing."""
    ran: Items[str] = Items()
    strand = pool.strand("client 7")

    def end() -> None:
        strand.post(partial(ran.add, "accepted"))
        strand.close_soon(partial(ran.add, "last"))
        with pytest.raises(ClientClosed):
            strand.post(partial(ran.add, "too late"))
        ran.add("end")

    strand.post(end)
    assert ran.wait(3) == ["end", "accepted", "last"]
    other = pool.strand("client 8")
    other.close_soon(partial(ran.add, "idle"))
    assert ran.wait(4)[-1] == "idle"
