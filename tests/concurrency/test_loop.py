"""The hub thread (G1): each accepted closure runs once, in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubthread.concurrency.loop import Loop
from hubthread.errors import HubClosed, QueueFull, WrongThread
from tests.support import TIMEOUT, Logs, in_thread, incidents_to

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
