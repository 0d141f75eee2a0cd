"""A hub's threads: named, counted, joined, and their crashes told."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest

from hubthread.concurrency.threads import Threads
from tests.support import TIMEOUT, Logs, in_thread, telling, together


def wait_for(event: threading.Event) -> None:
    event.wait(TIMEOUT)


def test_a_thread_has_a_name_and_is_counted() -> None:
    """While it runs it is one of the hub's, a daemon, called after what it does."""
    threads = Threads("hubthread-x", telling(Logs()))
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


def test_join_returns_who_still_runs() -> None:
    """At the deadline those that run are named, and none that has ended."""
    threads = Threads("test", telling(Logs()))
    go = threading.Event()
    threads.start(lambda: None, "quick")
    threads.start(partial(wait_for, go), "slow")
    for timeout in (0.01, -1):
        left = threads.join(timeout)
        assert [thread.name for thread in left if thread.name != "test-quick"] == ["test-slow"]
    go.set()
    assert threads.join(TIMEOUT) == []


def test_join_waits_for_the_last_of_a_line() -> None:
    """A thread that starts another one and ends is no way past the join."""
    threads = Threads("test", telling(Logs()))
    ended: list[int] = []

    def step(left: int) -> None:
        if left:
            threads.start(lambda: step(left - 1), f"{left}")
        else:
            threading.Event().wait(0.01)
        ended.append(left)

    threads.start(lambda: step(20), "first")
    assert threads.join(TIMEOUT) == []
    assert sorted(ended) == list(range(21))
    assert threads.count() == 0


def test_one_that_leaves_is_not_waited_for() -> None:
    """A thread that takes itself out may join the others: that is how a closer works."""
    threads = Threads("test", telling(Logs()))
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
def test_a_crash_is_told(error: BaseException) -> None:
    """Whatever ends a thread of ours before its time is logged, with its name."""
    logs = Logs()
    threads = Threads("test", telling(logs))

    def crash() -> None:
        raise error

    threads.start(crash, "crasher")
    threads.join(TIMEOUT)
    (logged,) = logs.at_least(logging.CRITICAL)
    assert "test-crasher died" in logged
    assert type(error).__name__ in logged


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The caller is told, nothing is counted, and the next start may work."""
    threads = Threads("test", telling(Logs()))

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
    """A thread that the system runs only when ``gate`` opens."""

    gate: threading.Event

    def _bootstrap(self) -> None:
        self.gate.wait(TIMEOUT)
        super()._bootstrap()  # type: ignore[misc]


def test_a_start_does_not_wait_for_the_thread() -> None:
    """It is counted and waited for from then on, although it has not taken a step."""
    threads = Threads("test", telling(Logs()))
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


def test_a_start_that_fails_holds_no_join_up() -> None:
    """Whoever waits for a thread that does not come is told, long before the deadline."""
    threads = Threads("test", telling(Logs()))
    starting, joining = threading.Event(), threading.Event()

    class Refused(threading.Thread):
        def start(self) -> None:
            starting.set()
            joining.wait(TIMEOUT)
            threading.Event().wait(0.05)  # most likely the join waits by then
            raise RuntimeError("can't start new thread")

    def launch() -> None:
        with pytest.raises(RuntimeError):
            threads.launch(Refused(), "refused")

    def join() -> list[threading.Thread]:
        joining.set()
        return threads.join(100 * TIMEOUT)

    launched = in_thread(launch)
    assert starting.wait(TIMEOUT)
    assert in_thread(join)() == []
    launched()


def test_many_start_and_end() -> None:
    """Started from everywhere, all run, and in the end none is counted."""
    threads = Threads("test", telling(Logs()))
    ran = [0] * 4

    def work(number: int) -> None:
        for _ in range(10):
            done = threading.Event()
            threads.start(done.set, str(number))
            threads.count()
            assert done.wait(TIMEOUT)
            ran[number] += 1

    together(4, work)
    assert threads.join(TIMEOUT) == []
    assert ran == [10] * 4
    assert threads.count() == 0


class Renamed(threading.Thread):
    """A thread of a Python that calls ``_started`` otherwise."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_started" or type(value) is threading.Event:
            super().__setattr__(name, value)


def test_join_waits_for_no_arrival_that_is_never_told() -> None:
    """Wherever Python keeps that a thread has started, ``guard`` says so too."""
    threads = Threads("test", telling(Logs()))
    inside, gate = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        gate.wait(TIMEOUT)

    thread = Renamed(target=threads.guard, args=(work,))
    threads.launch(thread, "renamed")
    assert inside.wait(TIMEOUT)
    with threads._lock:
        arrival = threads._running[thread]
    assert arrival.is_set()
    gate.set()
    assert threads.join(TIMEOUT) == []
