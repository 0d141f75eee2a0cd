"""Results of other threads: only a wait that closes a cycle is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency import calls
from hubthread.concurrency.calls import RUNS, Call, stack_of, wait_for
from hubthread.concurrency.loop import Loop
from hubthread.concurrency.strand import Strand
from hubthread.errors import DeadlockError, ExecTimeout
from tests.concurrency.harness import Runtime
from tests.support import TIMEOUT, Gate, Task, in_thread, together
from tests.support.waiting import tries

Exec = Callable[[Callable[[], Any]], Any]


class Parties:
    """Hubs and strands, each of which runs closures for the others."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loops: list[Loop[None]] = []
        self.errors: list[BaseException] = []

    def hub(self) -> Loop[None]:
        loop: Loop[None] = Loop("hub", 100, None, self._runtime.incidents, self.errors.append)
        self._loops.append(loop)
        self._runtime.threads.start(lambda: loop.run(lambda: None), "hub")
        return loop

    def strand(self, name: str = "strand") -> Strand:
        return Strand(self._runtime.workers, 100, self.errors.append, name)

    def of_kind(self, kind: str) -> tuple[Exec, Exec]:
        """Return ``exec_async`` and ``exec_sync`` of a new hub or strand."""
        if kind == "hub":
            loop = self.hub()
            return (
                lambda work: loop.exec_async(lambda _: work()),
                lambda work: loop.exec_sync(lambda _: work()),
            )
        strand = self.strand()
        return strand.post, strand.call

    def end(self) -> None:
        for loop in self._loops:
            loop.close()
        self._runtime.end()
        assert not self.errors
        assert not calls._waiting


@pytest.fixture
def parties(runtime: Runtime) -> Iterator[Parties]:
    made = Parties(runtime)
    yield made
    made.end()


class Run:
    """An executor whose runner the test sets."""

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
def test_call_cycle_refuses_exactly_the_last_wait(parties: Parties, kinds: list[str]) -> None:
    """Each executor of a ring waits for the next."""
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
    assert "would never end" in refused[0]
    assert "exec_async" in refused[0]
    results = [number for number, outcome in enumerate(outcomes) if outcome == number]
    assert len(results) == size - 1


def test_call_refused_wait_leaves_its_closure_queued(parties: Parties) -> None:
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


def test_call_on_own_thread_runs_at_once_at_any_depth(parties: Parties) -> None:
    hub, strand = parties.hub(), parties.strand()
    assert hub.exec_sync(lambda _: hub.exec_sync(lambda _: hub.exec_sync(lambda _: 3))) == 3
    assert strand.call(lambda: strand.call(lambda: strand.call(lambda: 3, TIMEOUT))) == 3
    # The idle strand runs its call on the hub's thread, which is then in both executors.
    assert hub.exec_sync(lambda _: strand.call(lambda: hub.exec_sync(lambda _: 4))) == 4


def test_call_to_executor_on_own_thread_is_refused() -> None:
    executor = Run()
    executor.runner = threading.get_ident()
    with pytest.raises(DeadlockError, match="me"):
        Call(lambda: 1).result(executor, "me")
    assert not calls._waiting


def test_call_chain_of_twenty_waits_is_not_refused(parties: Parties) -> None:
    strands = [parties.strand() for _ in range(20)]

    def down(number: int) -> int:
        if number == len(strands):
            return 0
        # A time-out, so that each level has a thread of its own.
        return 1 + strands[number].call(lambda: down(number + 1), TIMEOUT)

    assert down(0) == 20


def test_call_many_waits_for_one_executor_are_not_refused(parties: Parties) -> None:
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


def test_call_answered_thread_that_has_not_woken_is_not_part_of_a_cycle(
    parties: Parties, waiting: threading.Semaphore
) -> None:
    hub = parties.hub()
    for _ in range(30):
        strand = parties.strand()  # idle: that of the last round may still be on its way out
        go = threading.Event()
        hub.exec_async(lambda _, go=go: go.wait(TIMEOUT))  # type: ignore[misc]

        answered = in_thread(partial(strand.call, lambda: hub.exec_sync(lambda _: 1)))
        assert waiting.acquire(timeout=TIMEOUT)
        # The hub answers the handler, and asks its client in the same closure.
        asked: list[object] = []

        def ask(_: None, asked: list[object] = asked, strand: Strand = strand) -> None:
            try:
                asked.append(strand.call(lambda: 2))
            except DeadlockError as error:
                asked.append(error)

        hub.exec_async(ask)
        go.set()
        assert answered() == 1
        hub.exec_sync(lambda _: None)
        assert asked == [2]
        while waiting.acquire(blocking=False):  # the waits of this round
            pass


def test_call_abandoned_raises_its_reason_before_and_during_the_wait() -> None:
    for early in (True, False):
        call: Call[None] = Call(lambda: pytest.fail("must not run"))
        if early:
            call.abandon(ValueError("gone"))
        waiting = in_thread(lambda call=call: call.result(Run(), "x"))  # type: ignore[misc]
        if not early:
            call.abandon(ValueError("gone"))
        with pytest.raises(ValueError, match="gone"):
            waiting()


def test_call_timeout_shows_the_stack_and_still_runs(parties: Parties) -> None:
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
def test_call_used_up_timeout_raises_unless_the_result_is_there(timeout: float) -> None:
    with pytest.raises(ExecTimeout, match="no thread runs"):
        Call(lambda: 1).result(Run(), "idle", timeout)
    ready = Call(lambda: 1)
    ready.run()
    assert ready.result(Run(), "idle", timeout) == 1


def test_call_infinite_timeout_waits() -> None:
    call = Call(lambda: 1)
    waiting = in_thread(lambda: call.result(Run(), "x", float("inf")))
    call.run()
    assert waiting() == 1


def test_stack_of_no_thread_is_empty() -> None:
    assert stack_of(None) == stack_of(-1) == ""
    assert "in test_stack_of_no_thread_is_empty\n" in stack_of(threading.get_ident())


def test_stack_of_a_thread_that_runs_is_left_out_without_the_gil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A frame that ends while it is read would crash the process."""
    ended, waits = threading.Event(), Gate()

    def run() -> None:
        def inner() -> None:
            sum(range(100))

        while not ended.is_set():
            inner()

    runs, waiting = threading.Thread(target=run), Task(waits)
    monkeypatch.setattr(calls, "HAS_GIL", False)
    runs.start()
    try:
        assert any(stack_of(runs.ident) == RUNS for _ in tries())
        waits.reached()
        assert any("in __call__\n" in stack_of(waiting.thread.ident) for _ in tries())
    finally:
        ended.set()
        runs.join()
        waits.open()
        waiting.result()


def test_wait_without_a_timeout_begins_anew_on_the_main_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python may miss a signal that comes as a wait begins."""
    looks: list[int] = []

    def arrived() -> bool:
        looks.append(1)
        return len(looks) > 3

    monkeypatch.setattr(calls, "SIGNAL_CHECK", 0.001)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "main_thread", threading.current_thread)
        assert wait_for(threading.Condition(), arrived, None)
