"""The cache of threads: whoever submits gets one now, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency import workers as module
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from hubthread.errors import HubClosed
from tests.support import TIMEOUT, Items, Logs, in_thread, telling, together


def wait_for(event: threading.Event) -> None:
    event.wait(TIMEOUT)


def meet(barrier: threading.Barrier) -> None:
    barrier.wait(TIMEOUT)


class Pool:
    def __init__(self) -> None:
        self.logs = Logs()
        self.threads = Threads("test", telling(self.logs))
        self.workers = Workers(self.threads)

    def end(self) -> None:
        self.workers.close()
        assert not self.threads.join(TIMEOUT)
        assert not self.logs.warnings()
        assert not self.workers._idle


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.end()


class Announced(list[Any]):
    """The list of idle workers, that says when one has come to rest."""

    def __init__(self) -> None:
        super().__init__()
        self.rested = threading.Semaphore(0)

    def append(self, item: Any) -> None:
        super().append(item)
        self.rested.release()


def test_a_blocked_work_holds_up_nobody(pool: Pool) -> None:
    """While twenty works wait for something, the next one runs at once."""
    go = threading.Event()
    for _ in range(20):
        pool.workers.submit(partial(wait_for, go))
    ran = threading.Event()
    pool.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    assert not go.is_set()
    go.set()


def test_an_idle_worker_is_used_again(pool: Pool) -> None:
    """Works one after another need one thread."""
    pool.workers._idle = idle = Announced()
    idents: list[int] = []
    for _ in range(50):
        pool.workers.submit(lambda: idents.append(threading.get_ident()))
        assert idle.rested.acquire(timeout=TIMEOUT)
    assert len(set(idents)) == 1
    assert pool.threads.count() == 1


@pytest.mark.parametrize("linger", [0.0, 0.0002, 0.002])
def test_handed_over_to_one_that_is_leaving(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, linger: float
) -> None:
    """Each work runs exactly once, also when its worker is just about to give up waiting."""
    monkeypatch.setattr(module, "LINGER", linger)
    ran = Items[tuple[int, int]]()

    def submit(number: int) -> None:
        for count in range(60):
            done = threading.Event()

            def work(mark: tuple[int, int] = (number, count), done: Any = done) -> None:
                ran.add(mark)
                done.set()

            pool.workers.submit(work)
            if count % 3:
                assert done.wait(TIMEOUT)

    together(4, submit)
    seen = ran.wait(240)
    pool.end()
    assert sorted(seen) == [(number, count) for number in range(4) for count in range(60)]


def test_an_idle_worker_goes_home(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a worker with nothing to do ends by itself, and takes itself off."""
    monkeypatch.setattr(module, "LINGER", 0.001)
    ran = threading.Event()
    pool.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    assert not pool.threads.join(TIMEOUT)
    assert not pool.workers._idle


def test_close_sends_idle_and_busy_home(pool: Pool) -> None:
    """The idle ones end now, the busy ones when they are done; nothing new is accepted."""
    pool.workers._idle = idle = Announced()
    go, busy, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        go.wait(TIMEOUT)
        ended.set()

    pool.workers.submit(work)
    pool.workers.submit(lambda: None)
    assert busy.wait(TIMEOUT)
    assert idle.rested.acquire(timeout=TIMEOUT)
    pool.workers.close()
    pool.workers.close()
    with pytest.raises(HubClosed):
        pool.workers.submit(lambda: pytest.fail("ran"))
    assert not ended.is_set()
    go.set()
    pool.end()
    assert ended.is_set()


def test_close_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was accepted runs once, the rest is refused, and every thread ends."""
    monkeypatch.setattr(module, "LINGER", 0.0002)
    for _ in range(10):
        pool = Pool()
        accepted: list[int] = []
        ran: list[int] = []

        def work(
            number: int, pool: Pool = pool, accepted: list[int] = accepted, ran: list[int] = ran
        ) -> None:
            try:
                for count in range(10):
                    if number == 0 and count == 3:
                        pool.workers.close()
                    mark = number * 100 + count
                    pool.workers.submit(lambda mark=mark: ran.append(mark))  # type: ignore[misc]
                    accepted.append(mark)
            except HubClosed:
                pass

        together(3, work)
        pool.end()
        assert sorted(ran) == sorted(accepted)


def test_no_thread_to_be_had(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitter is told, and its work does not run; an idle worker is still of use."""
    pool.workers._idle = idle = Announced()
    pool.workers.submit(lambda: None)
    assert idle.rested.acquire(timeout=TIMEOUT)
    go, ran = threading.Event(), threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pool.workers.submit(partial(wait_for, go))
        with pytest.raises(RuntimeError, match="new thread"):
            pool.workers.submit(lambda: pytest.fail("ran"))
    pool.workers.submit(ran.set)
    assert ran.wait(TIMEOUT)
    go.set()


def test_work_may_use_the_workers(pool: Pool) -> None:
    """It runs under no lock: a work submits others and waits for them."""
    reached: list[int] = []

    def nested(depth: int, done: threading.Event) -> None:
        if depth:
            deeper = threading.Event()
            pool.workers.submit(partial(nested, depth - 1, deeper))
            wait_for(deeper)
        reached.append(depth)
        done.set()

    last = threading.Event()
    nested(10, last)
    assert reached == list(range(11))
    pool.workers.submit(pool.workers.close)


def test_nothing_is_kept_of_what_has_run(pool: Pool) -> None:
    """A resting worker holds nothing of the work it has done."""
    let_go = threading.Event()

    class Big:
        def __call__(self) -> None: ...

        def __del__(self) -> None:
            let_go.set()

    # From a thread of its own: without the GIL, what one thread has made another cannot
    # free while the maker waits.
    in_thread(lambda: pool.workers.submit(Big()))()
    assert let_go.wait(TIMEOUT)


class SlowThreads(Threads):
    """Threads that begin when they are let, or that are refused."""

    def __init__(self) -> None:
        super().__init__("test", telling(Logs()))
        self.asked = Items[Callable[[], None]]()
        self.refusing = False

    def start(self, target: Callable[[], None], what: str) -> None:
        if self.refusing:
            raise RuntimeError("can't start new thread")
        self.asked.add(target)

    def begin(self, number: int) -> None:
        super().start(self.asked.wait(number + 1)[number], f"worker-{number}")


def test_a_burst_of_short_works_needs_few_threads() -> None:
    """One thread is sent for, and as it begins it sends for the next, whatever waits."""
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


def test_a_burst_of_works_that_block_gets_a_thread_each() -> None:
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


def test_what_waits_is_done_by_who_is_there_when_no_more_threads_come() -> None:
    """And when they come again, they are sent for."""
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


def test_who_relied_on_a_thread_that_does_not_come_is_served() -> None:
    """A work is accepted since a thread is on its way, and then the system refuses it."""

    class RefusedThreads(SlowThreads):
        def start(self, target: Callable[[], None], what: str) -> None:
            workers.submit(partial(ran.add, 2))  # another's, at that moment
            raise RuntimeError("can't start new thread")

    ran = Items[int]()
    workers = Workers(RefusedThreads())
    with pytest.raises(RuntimeError, match="new thread"):
        workers.submit(partial(ran.add, 1))
    assert ran.now() == [2]
