"""The threads of a hub: named, counted, joined, and logged when they crash."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import threading
from functools import partial
from time import monotonic

import pytest

from hubthread.concurrency import threads as module
from hubthread.concurrency.threads import Threads, _Begun, is_runnable
from tests.support import TIMEOUT, Items, Logs, in_thread, incidents_to


def wait_for(event: threading.Event) -> None:
    event.wait(TIMEOUT)


def test_threads_started_thread_is_named_counted_and_a_daemon() -> None:
    threads = Threads("hubthread-x", incidents_to(Logs()))
    go, told = threading.Event(), threading.Event()
    found: list[object] = []

    def target() -> None:
        me = threading.current_thread()
        found.extend([me.name, me.daemon, threads.is_mine(), threads.count()])
        told.set()
        go.wait(TIMEOUT)

    threads.start(target, "reader")
    assert told.wait(TIMEOUT)
    assert found == ["hubthread-x-reader", True, True, 1]
    assert not threads.is_mine()
    go.set()
    assert threads.join(TIMEOUT) == []
    assert threads.count() == 0


def test_threads_join_timeout_returns_running_threads() -> None:
    threads = Threads("test", incidents_to(Logs()))
    go = threading.Event()
    threads.start(lambda: None, "quick")
    threads.start(partial(wait_for, go), "slow")
    for timeout in (0.01, -1):
        left = threads.join(timeout)
        assert [thread.name for thread in left if thread.name != "test-quick"] == ["test-slow"]
    go.set()
    assert threads.join(TIMEOUT) == []


def test_threads_join_waits_for_threads_started_meanwhile() -> None:
    """Each thread of a chain starts the next one, and ends."""
    threads = Threads("test", incidents_to(Logs()))
    ended: list[int] = []
    last, go = threading.Event(), threading.Event()

    def step(left: int) -> None:
        if left:
            threads.start(lambda: step(left - 1), f"{left}")
        else:
            last.set()
            go.wait(TIMEOUT)
        ended.append(left)

    threads.start(lambda: step(20), "first")
    joined = in_thread(lambda: threads.join(TIMEOUT))
    assert last.wait(TIMEOUT)
    go.set()
    assert joined() == []
    assert sorted(ended) == list(range(21))
    assert threads.count() == 0


def test_threads_leave_excludes_the_caller_from_join() -> None:
    """The thread that closes a hub joins the others."""
    threads = Threads("test", incidents_to(Logs()))
    others: list[list[threading.Thread]] = []
    done = threading.Event()

    def closer() -> None:
        threads.leave()
        assert not threads.is_mine()
        others.append(threads.join(TIMEOUT))
        done.set()

    threads.start(closer, "closer")
    assert done.wait(TIMEOUT)
    assert others == [[]]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(0), KeyboardInterrupt()])
def test_threads_crash_is_logged_with_the_name(error: BaseException) -> None:
    logs = Logs()
    threads = Threads("test", incidents_to(logs))

    def crash() -> None:
        raise error

    threads.start(crash, "crasher")
    threads.join(TIMEOUT)
    (logged,) = logs.at_least(logging.CRITICAL)
    assert "test-crasher died" in logged
    assert type(error).__name__ in logged


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_threads_start_refused_by_the_system_raises_and_counts_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    threads = Threads("test", incidents_to(Logs()))

    def refuse(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(type(error)):
            threads.start(lambda: pytest.fail("ran"), "none")
    assert threads.count() == 0
    ran = threading.Event()
    threads.start(ran.set, "one")
    assert threads.join(TIMEOUT) == []
    assert ran.is_set()


class Late(threading.Thread):
    """A thread that runs only when ``gate`` opens."""

    gate: threading.Event

    def _bootstrap(self) -> None:
        self.gate.wait(TIMEOUT)
        super()._bootstrap()  # type: ignore[misc]


def test_threads_launch_does_not_wait_for_the_first_step() -> None:
    """The thread is counted and joined though it has not run yet."""
    threads = Threads("test", incidents_to(Logs()))
    late = Late(target=threads.guard, args=(lambda: None,))
    late.gate = threading.Event()
    threads.launch(late, "late")
    assert not late.is_alive()
    assert threads.count() == 1
    assert threads.join(0.01) == [late]
    join = in_thread(lambda: threads.join(TIMEOUT))
    late.gate.set()
    assert join() == []
    assert not late.is_alive()
    assert threads.count() == 0


def test_threads_failed_start_ends_a_join_that_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = Threads("test", incidents_to(Logs()))
    starting, joining = threading.Event(), threading.Event()

    class Announced(_Begun):
        def wait(self, timeout: float | None = None) -> bool:
            joining.set()
            return super().wait(timeout)

    class Refused(threading.Thread):
        def start(self) -> None:
            starting.set()
            joining.wait(TIMEOUT)
            raise RuntimeError("can't start new thread")

    def launch() -> None:
        with pytest.raises(RuntimeError):
            threads.launch(Refused(), "refused")

    monkeypatch.setattr(module, "_Begun", Announced)
    launched = in_thread(launch)
    assert starting.wait(TIMEOUT)
    assert in_thread(lambda: threads.join(100 * TIMEOUT))() == []
    launched()


class Renamed(threading.Thread):
    """A thread of a Python in which ``Thread._started`` has another name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_started" or type(value) is threading.Event:
            super().__setattr__(name, value)


def test_threads_guard_marks_the_start_if_python_does_not() -> None:
    """The fallback of ``_start_without_waiting``."""
    threads = Threads("test", incidents_to(Logs()))
    inside, gate = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        gate.wait(TIMEOUT)

    thread = Renamed(target=threads.guard, args=(work,))
    threads.launch(thread, "renamed")
    assert inside.wait(TIMEOUT)
    with threads._lock:
        begun = threads._running[thread]
    assert begun.is_set()
    gate.set()
    assert threads.join(TIMEOUT) == []


def test_threads_take_no_signals() -> None:
    """Also a thread that another one starts; a process that is forked on one gets its signals."""
    threads = Threads("test", incidents_to(Logs()))
    told: Items[set[signal.Signals]] = Items()

    def blocked() -> set[signal.Signals]:
        return {
            signal.Signals(number)
            for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())
            if number in {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
        }

    def fork() -> None:
        told.add(blocked())
        child = os.fork()
        if child == 0:
            os._exit(len(blocked()))
        told.add({signal.Signals(1)} if os.waitpid(child, 0)[1] else set())

    def target() -> None:
        told.add(blocked())
        threads.start(fork, "second")

    threads.start(target, "first")
    assert threads.join(TIMEOUT) == []
    handled = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    assert told.wait(3) == [handled, handled, set()]
    assert blocked() == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a thread")
def test_is_runnable_tells_a_thread_that_computes_from_one_that_waits() -> None:
    ends, begun, waits = threading.Event(), threading.Event(), threading.Event()

    def compute() -> None:
        while not ends.is_set():
            begun.set()
            hashlib.pbkdf2_hmac("sha256", b"x", b"x", 200_000)  # without the GIL

    def wait() -> None:
        waits.set()
        ends.wait(TIMEOUT)

    computing = threading.Thread(target=compute, name="a (R) b")
    waiting = threading.Thread(target=wait)
    computing.start()
    waiting.start()
    try:
        assert begun.wait(TIMEOUT)
        assert waits.wait(TIMEOUT)
        deadline = monotonic() + TIMEOUT
        while not is_runnable(computing) or is_runnable(waiting):  # on their way at first
            assert monotonic() < deadline
    finally:
        ends.set()
        computing.join(TIMEOUT)
        waiting.join(TIMEOUT)
