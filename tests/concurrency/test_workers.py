"""The cache of threads, and the pool that uses a bounded number of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency import workers as module
from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import BoundedPool, Workers
from hubthread.errors import ClientClosed, HubClosed
from tests.concurrency.harness import Runtime, announced_waits
from tests.support import TIMEOUT, Items, Logs, in_thread, incidents_to, together


def wait_for(event: threading.Event) -> None:
    assert event.wait(TIMEOUT)


def meet(barrier: threading.Barrier) -> None:
    barrier.wait(TIMEOUT)


class Announced(list[Any]):
    """A list of idle workers that releases ``rested`` for each worker that comes."""

    def __init__(self) -> None:
        super().__init__()
        self.rested = threading.Semaphore(0)

    def append(self, item: Any) -> None:
        super().append(item)
        self.rested.release()


def test_workers_blocked_work_does_not_hold_up_other_work(runtime: Runtime) -> None:
    go = threading.Event()
    for _ in range(20):
        runtime.workers.submit(partial(wait_for, go))
    ran = threading.Event()
    runtime.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    assert not go.is_set()
    go.set()


def test_workers_idle_worker_is_used_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 10 * TIMEOUT)
    runtime.workers._idle = idle = Announced()
    idents: list[int] = []
    for _ in range(50):
        runtime.workers.submit(lambda: idents.append(threading.get_ident()))
        assert idle.rested.acquire(timeout=TIMEOUT)
    assert len(set(idents)) == 1
    assert runtime.threads.count() == 1


@pytest.mark.parametrize("linger", [0.0, 0.0002, 0.002])
def test_workers_work_handed_to_an_ending_worker_runs_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, linger: float
) -> None:
    monkeypatch.setattr(module, "LINGER", linger)
    ran = Items[tuple[int, int]]()

    def submit(number: int) -> None:
        for count in range(60):
            done = threading.Event()

            def work(mark: tuple[int, int] = (number, count), done: Any = done) -> None:
                ran.add(mark)
                done.set()

            runtime.workers.submit(work)
            if count % 3:
                assert done.wait(TIMEOUT)

    together(4, submit)
    seen = ran.wait(240)
    runtime.end()
    assert sorted(seen) == [(number, count) for number in range(4) for count in range(60)]


def test_workers_idle_worker_ends_after_linger(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.001)
    ran = threading.Event()
    runtime.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    assert not runtime.threads.join(TIMEOUT)
    assert not runtime.workers._idle


def test_workers_close_ends_idle_and_then_busy_workers(runtime: Runtime) -> None:
    runtime.workers._idle = idle = Announced()
    go, busy, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go.wait(TIMEOUT)
        ended.set()

    runtime.workers.submit(work)
    runtime.workers.submit(lambda: None)
    assert busy.wait(TIMEOUT)
    assert idle.rested.acquire(timeout=TIMEOUT)
    runtime.workers.close()
    runtime.workers.close()
    with pytest.raises(HubClosed):
        runtime.workers.submit(lambda: pytest.fail("ran"))
    assert not ended.is_set()
    go.set()
    runtime.end()
    assert ended.is_set()


def test_workers_close_races_with_submits_that_run_or_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.0002)
    for _ in range(10):
        runtime = Runtime()
        accepted: list[int] = []
        ran: list[int] = []

        def work(
            number: int,
            runtime: Runtime = runtime,
            accepted: list[int] = accepted,
            ran: list[int] = ran,
        ) -> None:
            try:
                for count in range(10):
                    if number == 0 and count == 3:
                        runtime.workers.close()
                    mark = number * 100 + count
                    runtime.workers.submit(lambda mark=mark: ran.append(mark))  # type: ignore[misc]
                    accepted.append(mark)
            except HubClosed:
                pass

        together(3, work)
        runtime.end()
        assert sorted(ran) == sorted(accepted)


def test_workers_submit_without_a_thread_raises_but_uses_an_idle_worker(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 10 * TIMEOUT)
    runtime.workers._idle = idle = Announced()
    runtime.workers.submit(lambda: None)
    assert idle.rested.acquire(timeout=TIMEOUT)
    go, ran = threading.Event(), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        runtime.workers.submit(partial(wait_for, go))
        with pytest.raises(RuntimeError, match="new thread"):
            runtime.workers.submit(lambda: pytest.fail("ran"))
    runtime.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    go.set()


def test_workers_idle_worker_keeps_no_object_of_the_user(runtime: Runtime) -> None:
    let_go = threading.Event()

    class Big:
        def __call__(self) -> None: ...

        def __del__(self) -> None:
            let_go.set()

    # From a thread of its own: without the GIL, what one thread has made another cannot
    # free while the maker waits.
    in_thread(lambda: runtime.workers.submit(Big()))()
    assert let_go.wait(TIMEOUT)


class SlowThreads(Threads):
    """Threads that begin when the test says so, or are refused."""

    def __init__(self) -> None:
        super().__init__("test", incidents_to(Logs()))
        self.asked = Items[Callable[[], None]]()
        self.refusing = False

    def start(self, target: Callable[[], None], what: str) -> None:
        if self.refusing:
            raise RuntimeError("can't start new thread")
        self.asked.add(target)

    def begin(self, number: int) -> None:
        super().start(self.asked.wait(number + 1)[number], f"worker-{number}")


def test_workers_burst_of_short_work_starts_few_threads() -> None:
    """Each new thread starts one more, if work waits when it begins."""
    threads = SlowThreads()
    workers = Workers(threads)
    ran = Items[int]()
    for number in range(100):
        workers.submit(partial(ran.add, number))
    assert len(threads.asked.now()) == 1
    threads.begin(0)
    assert ran.wait(100) == list(range(100))
    assert len(threads.asked.now()) == 2
    workers.close()
    threads.begin(1)
    assert not threads.join(TIMEOUT)


def test_workers_burst_of_blocking_work_starts_a_thread_each() -> None:
    threads = SlowThreads()
    workers = Workers(threads)
    barrier = threading.Barrier(5)
    for _ in range(5):
        workers.submit(partial(meet, barrier))
    for number in range(5):
        threads.begin(number)
    workers.close()
    assert not threads.join(TIMEOUT)
    assert not barrier.broken
    assert len(threads.asked.now()) == 5


def test_workers_waiting_work_runs_on_present_workers_without_new_threads() -> None:
    threads = SlowThreads()
    workers = Workers(threads)
    ran, go = Items[int](), threading.Event()
    for number in range(10):
        workers.submit(partial(ran.add, number))
    workers.submit(partial(wait_for, go))
    threads.refusing = True
    threads.begin(0)
    assert ran.wait(10) == list(range(10))
    threads.refusing = False
    workers.submit(partial(ran.add, 10))
    threads.begin(1)
    assert ran.wait(11)[10] == 10
    go.set()
    workers.close()
    assert not threads.join(TIMEOUT)


def test_workers_work_accepted_during_a_failed_start_runs() -> None:
    """Another thread relied on the start that failed."""

    class RefusedThreads(SlowThreads):
        def start(self, target: Callable[[], None], what: str) -> None:
            workers.submit(partial(ran.add, 2))  # another's, at that moment
            raise RuntimeError("can't start new thread")

    ran = Items[int]()
    workers = Workers(RefusedThreads())
    with pytest.raises(RuntimeError, match="new thread"):
        workers.submit(partial(ran.add, 1))
    assert ran.now() == [2]


MOST = 3


@pytest.fixture
def pool(runtime: Runtime) -> Iterator[BoundedPool]:
    """A pool of three workers of ``runtime``; it must be empty at the end."""
    pool = BoundedPool(runtime.workers, MOST)
    yield pool
    pool.close()
    runtime.end()
    assert (pool._taken, pool._idle) == (0, 0)


def strand_on(pool: BoundedPool, name: str) -> Strand:
    return Strand(pool, 10_000, lambda error: None, name)


def test_pool_runs_no_more_than_its_bound_at_a_time(pool: BoundedPool, runtime: Runtime) -> None:
    gate = threading.Event()
    begun: Items[int] = Items()
    ended: Items[int] = Items()

    def work(number: int) -> None:
        begun.add(number)
        assert gate.wait(TIMEOUT)
        ended.add(number)

    for number in range(10):
        pool.submit(partial(work, number))
    begun.wait(MOST)
    assert runtime.threads.count() == MOST
    assert sorted(begun.now()) == [0, 1, 2]
    gate.set()
    assert sorted(ended.wait(10)) == list(range(10))
    assert runtime.threads.count() <= MOST


def test_pool_runs_all_work_of_many_threads_within_its_bound(pool: BoundedPool) -> None:
    ran: Items[tuple[int, int]] = Items()
    on: Items[int] = Items()

    def work(who: int, number: int) -> None:
        ran.add((who, number))
        on.add(threading.get_ident())

    def submit(who: int) -> None:
        for number in range(200):
            pool.submit(partial(work, who, number))

    together(6, submit)
    assert sorted(ran.wait(1200)) == [(who, number) for who in range(6) for number in range(200)]
    assert len(set(on.now())) <= MOST


def test_pool_one_idle_worker_does_not_count_twice(
    pool: BoundedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pieces of work that come before it wakes both begin."""
    idle = announced_waits(pool._condition, monkeypatch)
    pool.submit(lambda: None)
    assert idle.acquire(timeout=TIMEOUT)
    gate = threading.Event()
    begun: Items[int] = Items()

    def work(number: int) -> None:
        begun.add(number)
        assert gate.wait(TIMEOUT)

    with pool._condition:  # the idle worker cannot wake before both are submitted
        pool.submit(partial(work, 0))
        pool.submit(partial(work, 1))
    assert sorted(begun.wait(2)) == [0, 1]
    gate.set()


def test_pool_strand_that_is_never_empty_lets_others_run(pool: BoundedPool) -> None:
    """As many busy clients as there are workers, and a quiet one."""
    heard = threading.Event()

    def chatter(strand: Strand) -> None:
        if not heard.is_set():
            strand.post(partial(chatter, strand))

    for number in range(MOST):
        strand = strand_on(pool, f"chatterbox {number}")
        strand.post(partial(chatter, strand))
    strand_on(pool, "quiet").post(heard.set)
    assert heard.wait(TIMEOUT)


def test_pool_without_a_thread_runs_work_on_the_caller(
    pool: BoundedPool, no_threads: Callable[[], None]
) -> None:
    no_threads()
    ran: list[int] = []
    pool.submit(lambda: ran.append(threading.get_ident()))
    assert ran == [threading.get_ident()]


def test_pool_after_close_runs_work_on_the_caller(pool: BoundedPool, runtime: Runtime) -> None:
    pool.close()
    runtime.workers.close()
    ran: list[int] = []
    pool.submit(lambda: ran.append(threading.get_ident()))
    assert ran == [threading.get_ident()]


def test_pool_strand_close_soon_runs_accepted_closures_and_the_last(pool: BoundedPool) -> None:
    """``close_soon`` may be called inside a closure."""
    ran: Items[str] = Items()
    strand = strand_on(pool, "client 7")

    def end() -> None:
        strand.post(partial(ran.add, "accepted"))
        strand.close_soon(partial(ran.add, "last"))
        with pytest.raises(ClientClosed):
            strand.post(partial(ran.add, "too late"))
        ran.add("end")

    strand.post(end)
    assert ran.wait(3) == ["end", "accepted", "last"]
    other = strand_on(pool, "client 8")
    other.close_soon(partial(ran.add, "idle"))
    assert ran.wait(4)[-1] == "idle"
