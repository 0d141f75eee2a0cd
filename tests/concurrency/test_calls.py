"""Results across threads: cycles of waits are refused, and nothing else is."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency import calls as waits
from hubthread.concurrency.calls import Call, stack_of
from hubthread.concurrency.loop import Loop
from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from hubthread.errors import DeadlockError, ExecTimeout
from tests.support import TIMEOUT, in_thread, telling, together

Exec = Callable[[Callable[[], Any]], Any]


class Parties:
    """Hubs and strands, of which each can run closures for the others."""

    def __init__(self) -> None:
        logger = logging.getLogger("hubthread.tests")
        self._threads = Threads("test", telling(logger))
        self._workers = Workers(self._threads)
        self._logger = logger
        self._loops: list[Loop[None]] = []
        self.errors: list[BaseException] = []

    def hub(self) -> Loop[None]:
        loop: Loop[None] = Loop("hub", 100, None, telling(self._logger), self.errors.append)
        self._loops.append(loop)
        self._threads.start(lambda: loop.run(lambda: None), "hub")
        return loop

    def strand(self, name: str = "strand") -> Strand:
        return Strand(self._workers, 100, self.errors.append, name)

    def of_kind(self, kind: str) -> tuple[Exec, Exec]:
        """``exec_async`` and ``exec_sync`` of a new hub or strand."""
        if kind == "hub":
            loop = self.hub()
            return (
                lambda work: loop.exec_async(lambda _: work()),
                lambda work: loop.exec_sync(lambda _: work()),
            )
        strand = self.strand()
        return strand.post, strand.call

    def end(self) -> None:
        self._workers.close()
        for loop in self._loops:
            loop.close()
        assert not self._threads.join(TIMEOUT)
        assert not self.errors
        assert not waits._waiting


@pytest.fixture
def parties() -> Iterator[Parties]:
    made = Parties()
    yield made
    made.end()


class Run:
    """An executor whose runner is what a test says."""

    runner: int | None = None


@pytest.mark.parametrize(
    "kinds",
    [
        ["hub", "strand"],
        ["strand", "strand"],
        ["hub", "hub"],
        ["hub", "strand", "strand"],
        ["strand", "strand", "strand"],
        ["hub", "strand", "hub", "strand", "strand"],
    ],
    ids="-".join,
)
def test_a_cycle_is_refused_once(parties: Parties, kinds: list[str]) -> None:
    """In a ring, where each waits for the next, the last to begin is refused, and only it."""
    ring = [parties.of_kind(kind) for kind in kinds]
    size = len(ring)
    barrier = threading.Barrier(size)
    outcomes: list[object] = [None] * size
    ended = threading.Semaphore(0)

    def wait_for_the_next(number: int) -> None:
        barrier.wait(TIMEOUT)
        _, call_next = ring[(number + 1) % size]
        try:
            outcomes[number] = call_next(lambda: number)
        except DeadlockError as error:
            outcomes[number] = str(error)

    def run(number: int) -> None:
        wait_for_the_next(number)
        ended.release()

    for number, (post, _) in enumerate(ring):
        post(partial(run, number))
    for _ in ring:
        assert ended.acquire(timeout=TIMEOUT)
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert len(refused) == 1
    assert "exec_async" in refused[0]
    results = [number for number, outcome in enumerate(outcomes) if outcome == number]
    assert len(results) == size - 1


def test_what_was_refused_runs_later(parties: Parties) -> None:
    """A refused wait leaves its work queued: it runs when the chain is resolved."""
    hub, strand = parties.hub(), parties.strand()
    ran = threading.Event()

    def on_hub(_: None) -> None:
        with pytest.raises(DeadlockError, match="client 1"):
            strand_of_client.call(ran.set)
        assert not ran.is_set()

    strand_of_client = strand
    strand.name = "client 1"
    strand.call(lambda: hub.exec_sync(on_hub))
    assert ran.wait(TIMEOUT)


def test_the_own_thread_is_no_wait(parties: Parties) -> None:
    """Hub and strand run at once what their own thread asks for, however deep."""
    hub, strand = parties.hub(), parties.strand()
    assert hub.exec_sync(lambda _: hub.exec_sync(lambda _: hub.exec_sync(lambda _: 3))) == 3
    assert strand.call(lambda: strand.call(lambda: strand.call(lambda: 3, TIMEOUT))) == 3
    # The strand is idle and runs its call on the hub's thread, which so is at home in both.
    assert hub.exec_sync(lambda _: strand.call(lambda: hub.exec_sync(lambda _: 4))) == 4


def test_an_executor_that_runs_here_is_refused() -> None:
    """Waiting for an executor whose runner is the caller is the shortest cycle."""
    executor = Run()
    executor.runner = threading.get_ident()
    with pytest.raises(DeadlockError, match="me"):
        Call(lambda: 1).result(executor, "me")
    assert not waits._waiting


def test_a_chain_is_no_cycle(parties: Parties) -> None:
    """Whoever waits for one that waits for another is let through, at any length."""
    strands = [parties.strand() for _ in range(20)]

    def down(number: int) -> int:
        if number == len(strands):
            return 0
        # A time-out, so that each level has a thread of its own.
        return 1 + strands[number].call(lambda: down(number + 1), TIMEOUT)

    assert down(0) == 20


def test_many_wait_for_one(parties: Parties) -> None:
    """Waits that meet in one executor are no cycle, under contention from all of them."""
    hub = parties.hub()
    strands = [parties.strand() for _ in range(6)]
    total = [0]

    def add(_: None) -> None:
        total[0] += 1

    def work(number: int) -> None:
        for count in range(50):
            other = strands[(number + count) % len(strands)]
            other.call(lambda: hub.exec_sync(add), TIMEOUT if count % 2 else None)

    together(6, work)
    assert total[0] == 300


def test_one_that_has_its_result_holds_up_nobody(
    parties: Parties, waiting: threading.Semaphore
) -> None:
    """A thread that was answered, and has not woken yet, is no part of a cycle."""
    hub, strand = parties.hub(), parties.strand()
    for _ in range(30):
        go = threading.Event()
        hub.exec_async(lambda _, go=go: go.wait(TIMEOUT))  # type: ignore[misc]

        answered = in_thread(lambda: strand.call(lambda: hub.exec_sync(lambda _: 1)))
        assert waiting.acquire(timeout=TIMEOUT)
        # The hub answers the handler and, in the same breath, asks its client.
        asked: list[object] = []

        def ask(_: None, asked: list[object] = asked) -> None:
            try:
                asked.append(strand.call(lambda: 2))
            except DeadlockError as error:
                asked.append(error)

        hub.exec_async(ask)
        go.set()
        assert answered() == 1
        hub.exec_sync(lambda _: None)
        assert asked == [2]
        while waiting.acquire(blocking=False):  # those of this round
            pass


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_goes_to_the_caller(error: BaseException) -> None:
    """Whatever the work raises is raised where its result is waited for, once."""

    def fail() -> None:
        raise error

    call = Call(fail)
    in_thread(call.run)()
    with pytest.raises(type(error)) as raised:
        call.result(Run(), "somebody")
    assert raised.value is error


def test_abandoned_work_tells_its_caller() -> None:
    """Work that will not run gives its caller the reason, before and during the wait."""
    for early in (True, False):
        call: Call[None] = Call(lambda: pytest.fail("must not run"))
        if early:
            call.abandon(ValueError("gone"))
        waiting = in_thread(lambda call=call: call.result(Run(), "x"))  # type: ignore[misc]
        if not early:
            call.abandon(ValueError("gone"))
        with pytest.raises(ValueError, match="gone"):
            waiting()


def test_a_time_out_shows_the_stack(parties: Parties) -> None:
    """Who waits in vain is told what the executor is doing, and its work still runs."""
    hub = parties.hub()
    go, busy, ran = threading.Event(), threading.Event(), threading.Event()

    def a_slow_closure(_: None) -> None:
        busy.set()
        go.wait(TIMEOUT)

    hub.exec_async(a_slow_closure)
    assert busy.wait(TIMEOUT)
    with pytest.raises(ExecTimeout, match="a_slow_closure") as raised:
        hub.exec_sync(lambda _: ran.set(), timeout=0.001)
    assert "a_slow_closure" in raised.value.stack
    assert not ran.is_set()
    go.set()
    assert ran.wait(TIMEOUT)


@pytest.mark.parametrize("timeout", [0, -1, -0.5])
def test_a_time_out_that_is_used_up(timeout: float) -> None:
    """What is not there at once is late, also when the time was up before the call."""
    with pytest.raises(ExecTimeout, match="no thread runs"):
        Call(lambda: 1).result(Run(), "idle", timeout)
    ready = Call(lambda: 1)
    ready.run()
    assert ready.result(Run(), "idle", timeout) == 1


def test_an_endless_time_out() -> None:
    """Infinity is as good as none."""
    call = Call(lambda: 1)
    waiting = in_thread(lambda: call.result(Run(), "x", float("inf")))
    call.run()
    assert waiting() == 1


def test_no_stack_of_no_thread() -> None:
    """A thread that is not there has no stack; the caller has its own."""
    assert stack_of(None) == stack_of(-1) == ""
    assert "test_no_stack_of_no_thread" in stack_of(threading.get_ident())
