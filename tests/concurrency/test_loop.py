"""The hub thread (G1): each accepted closure runs once, in order."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency.loop import Loop
from hubthread.errors import ExecTimeout, HubClosed, QueueFull, WrongThread
from tests.support import TIMEOUT, Logs, in_thread, incidents_to, together

BOUND = 50


class Running:
    """A loop, the thread that runs it, and what it reported."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.failures: list[BaseException] = []
        self.interrupts = 0
        self.loop: Loop[str] = Loop(
            "hub x", BOUND, "the view", incidents_to(self.logs), self.failures.append
        )
        self.ended: Callable[[], None] | None = None

    def start(self) -> Loop[str]:
        self.ended = in_thread(lambda: self.loop.run(self.interrupted))
        return self.loop

    def interrupted(self) -> None:
        self.interrupts += 1
        self.loop.close()

    def end(self) -> None:
        self.loop.close()
        if self.ended is not None:
            self.ended()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.end()


def catch_up(loop: Loop[str]) -> None:
    """Wait until the closures that were submitted before have run."""
    done = threading.Event()
    loop.schedule(done.set)
    assert done.wait(TIMEOUT)


def test_loop_closures_of_many_threads_run_once_in_order(running: Running) -> None:
    """All closures run on the same thread."""
    loop = running.start()
    seen: list[tuple[int, int]] = []
    idents: set[int] = set()

    def note(number: int, count: int, view: str) -> int:
        assert view == "the view"
        idents.add(threading.get_ident())
        seen.append((number, count))
        return count

    def post(number: int) -> None:
        count = 0
        while count < 100:
            try:
                if count % 10 == number:
                    assert loop.exec_sync(partial(note, number, count), TIMEOUT) == count
                else:
                    loop.exec_async(partial(note, number, count))
            except QueueFull:
                catch_up(loop)
                continue
            count += 1

    together(6, post)
    running.end()
    assert len(seen) == 600
    for number in range(6):
        assert [count for who, count in seen if who == number] == list(range(100))
    assert len(idents) == 1
    assert loop.closures_run == 600
    assert not loop.closures_failed


def test_loop_close_runs_accepted_closures_and_refuses_the_rest(running: Running) -> None:
    loop = running.start()
    accepted: list[tuple[int, int]] = []
    ran: list[tuple[int, int]] = []

    def work(number: int) -> None:
        if number == 0:
            loop.schedule(loop.close)
            return
        count = 0
        while True:
            count += 1
            try:
                loop.exec_async(lambda _, mark=(number, count): ran.append(mark))  # type: ignore[misc]
            except HubClosed:
                return
            except QueueFull:
                with contextlib.suppress(HubClosed):
                    catch_up(loop)
                continue
            accepted.append((number, count))

    together(4, work)
    running.end()
    assert sorted(ran) == sorted(accepted)
    for refused in (loop.exec_async, loop.exec_sync):
        with pytest.raises(HubClosed, match="hub x"):
            refused(lambda _: pytest.fail("ran"))
    with pytest.raises(HubClosed):
        loop.schedule(lambda: pytest.fail("ran"))
    assert loop.runner is None


def test_loop_closed_before_its_start_runs_accepted_closures(
    running: Running, waiting: threading.Semaphore
) -> None:
    ran: list[int] = []
    for number in range(3):
        running.loop.exec_async(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    result = in_thread(lambda: running.loop.exec_sync(lambda _: ran.append(9)))
    assert waiting.acquire(timeout=TIMEOUT)
    running.loop.close()
    running.start()
    result()
    running.end()
    assert ran == [0, 1, 2, 9]


def test_loop_full_refuses_closures_but_not_jobs_of_the_library(running: Running) -> None:
    loop, ran = running.loop, []
    for number in range(BOUND):
        loop.exec_async(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    with pytest.raises(QueueFull):
        loop.exec_async(lambda _: ran.append(-1))
    with pytest.raises(QueueFull):
        loop.exec_sync(lambda _: ran.append(-1))
    loop.schedule(lambda: ran.append(BOUND))
    assert loop.depth() == BOUND + 1
    running.start()
    running.end()
    assert ran == list(range(BOUND + 1))
    assert loop.depth() == 0


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit(1), GeneratorExit()])
def test_loop_raising_closure_is_logged_or_raised_in_the_caller(
    running: Running, error: BaseException
) -> None:
    """The next closure runs."""
    loop = running.start()

    def fail(_: str) -> None:
        raise error

    loop.exec_async(fail)
    assert loop.exec_sync(lambda _: 1) == 1
    with pytest.raises(type(error)) as raised:
        loop.exec_sync(fail)
    assert raised.value is error
    assert loop.exec_sync(lambda _: 2) == 2
    assert loop.closures_failed == 1
    (logged,) = running.logs.warnings()
    assert "hub x: a closure raised" in logged
    assert type(error).__name__ in logged
    assert not running.failures


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_loop_raising_log_handler_does_not_stop_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(record: logging.LogRecord) -> None:
        raise ValueError(record.msg)

    monkeypatch.setattr(running.logs, "handle", broken)
    loop = running.start()
    loop.exec_async(lambda _: 1 / 0)
    assert loop.exec_sync(lambda _: 1) == 1
    assert loop.closures_failed == 1

    def bug() -> None:
        raise RuntimeError("ours")

    loop.schedule(bug)
    running.end()
    assert [str(failure) for failure in running.failures] == ["ours"]


def test_loop_raising_job_stops_it_and_tells_all_waiting_callers(
    running: Running, waiting: threading.Semaphore
) -> None:
    loop = running.loop
    ran: list[int] = []

    def bug() -> None:
        raise RuntimeError("ours")

    loop.exec_async(lambda _: ran.append(1))
    loop.schedule(bug)
    results = [in_thread(lambda: loop.exec_sync(lambda _: ran.append(2))) for _ in range(3)]
    for _ in results:
        assert waiting.acquire(timeout=TIMEOUT)
    running.start()
    for result in results:
        with pytest.raises(HubClosed, match="ours"):
            result()
    running.end()
    with pytest.raises(HubClosed):
        loop.exec_async(lambda _: ran.append(3))
    assert ran == [1]
    assert [str(failure) for failure in running.failures] == ["ours"]
    (logged,) = running.logs.at_least(logging.CRITICAL)
    assert "hub x stops" in logged
    assert loop.depth() == 0


@pytest.mark.parametrize("how", ["exec_async", "exec_sync"])
def test_loop_keyboard_interrupt_ends_it_after_the_rest_has_run(
    running: Running, how: str, waiting: threading.Semaphore
) -> None:
    """The interrupt is raised by ``run``, not in the thread that waits for the closure."""
    loop = running.loop
    ran: list[int] = []

    def struck(_: str) -> None:
        raise KeyboardInterrupt

    if how == "exec_async":
        loop.exec_async(struck)
        loop.exec_async(lambda _: ran.append(1))
        running.start()
    else:
        result = in_thread(lambda: loop.exec_sync(struck))
        assert waiting.acquire(timeout=TIMEOUT)
        loop.exec_async(lambda _: ran.append(1))
        running.start()
        with pytest.raises(HubClosed, match="interrupted"):
            result()
    assert running.ended is not None
    with pytest.raises(KeyboardInterrupt):
        running.ended()
    running.ended = None
    assert running.interrupts == 1
    assert ran == [1]
    assert not running.failures


def test_loop_on_its_own_thread_exec_sync_runs_at_once(running: Running) -> None:
    """``exec_async`` runs later, and ``refuse_here`` raises."""
    loop = running.start()
    steps: list[str] = []

    def outer(view: str) -> bool:
        loop.exec_async(lambda _: steps.append("later"))
        assert loop.exec_sync(lambda again: again is view)
        steps.append("now")
        with pytest.raises(WrongThread, match="join"):
            loop.refuse_here("join")
        return loop.is_here()

    assert loop.exec_sync(outer)
    assert not loop.is_here()
    loop.refuse_here("join")
    running.end()
    assert steps == ["now", "later"]


def test_loop_closure_may_call_every_method(running: Running) -> None:
    """A closure runs under no lock: a thread that it waits for may use the loop, too."""
    loop = running.start()
    order: list[str] = []

    def use(who: str) -> None:
        loop.exec_async(lambda _: order.append(who))
        loop.schedule(lambda: order.append(who))
        assert loop.depth() >= 2
        with pytest.raises(ExecTimeout) if who == "there" else pytest.raises(ZeroDivisionError):
            loop.exec_sync(lambda _: 1 / 0, timeout=0.001)
        loop.is_here()

    def closure(_: str) -> None:
        use("here")
        in_thread(lambda: use("there"))()
        in_thread(loop.close)()

    loop.exec_sync(closure)
    running.end()
    assert order == ["here"] * 2 + ["there"] * 2


def test_loop_idle_keeps_no_object_of_the_user(running: Running) -> None:
    loop = running.start()
    let_go = threading.Event()

    class Big:
        def __call__(self, _: Any) -> None: ...

        def __del__(self) -> None:
            let_go.set()

    # From a thread of its own: without the GIL, what one thread has made another cannot
    # free while the maker waits.
    in_thread(lambda: loop.exec_async(Big()))()
    assert let_go.wait(TIMEOUT)
    let_go.clear()
    in_thread(lambda: loop.exec_sync(Big()))()
    assert let_go.wait(TIMEOUT)
