"""The flusher: what is held is released soon, once, unless it is forgotten before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hubthread.concurrency import flusher as flusher_module
from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.threads import Threads
from tests.support import TIMEOUT, Logs, telling


class Box:
    """Something that holds: it counts its releases, and a test waits for them."""

    def __init__(self) -> None:
        self._releases = threading.Semaphore(0)
        self.times = 0

    def uncork(self) -> None:
        self.times += 1
        self._releases.release()

    def wait(self) -> None:
        assert self._releases.acquire(timeout=TIMEOUT)


class Made:
    """A flusher and its threads."""

    def __init__(self) -> None:
        self.threads = Threads("test", telling(Logs()))
        self.flusher = Flusher(self.threads)


@pytest.fixture
def made() -> Iterator[Made]:
    """A flusher, closed at the end; no thread may be left then."""
    made = Made()
    yield made
    made.flusher.close()
    assert made.threads.join(TIMEOUT) == []


def test_there_is_no_thread_before_it_is_needed(made: Made) -> None:
    """A hub whose clients send one message at a time has no flusher thread."""
    assert made.threads.count() == 0


def test_what_is_held_is_released_once(made: Made) -> None:
    """Several at once each get their turn; a handler that blocks for ever costs no more."""
    boxes = [Box() for _ in range(3)]
    for box in boxes:
        assert made.flusher.watch(box)
    for box in boxes:
        box.wait()
    for _ in range(3):  # the thread goes round and round meanwhile
        again = Box()
        assert made.flusher.watch(again)
        again.wait()
    assert [box.times for box in boxes] == [1, 1, 1]
    assert made.threads.count() == 1


def test_what_is_short_does_not_end_the_thread(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is forgotten before the thread has woken up for it: that looks once more, later.

    Until then it needs nobody to wake it.
    """
    started: list[str] = []
    waits: list[float] = []
    asleep = threading.Semaphore(0)
    start, wait = made.threads.start, made.flusher._condition.wait

    def counted(target: Callable[[], None], what: str) -> None:
        started.append(what)
        start(target, what)

    def announced(timeout: float) -> bool:
        waits.append(timeout)
        if timeout == flusher_module.LINGER:
            asleep.release()
        return wait(timeout)

    monkeypatch.setattr(made.threads, "start", counted)
    monkeypatch.setattr(made.flusher._condition, "wait", announced)
    box = Box()
    for _ in range(10):
        made.flusher.watch(box)
        made.flusher.forget(box)
        assert asleep.acquire(timeout=TIMEOUT)
        assert waits[-2:] == [flusher_module.PATIENCE, flusher_module.LINGER]
    assert started == ["flusher"]


def test_it_wakes_from_its_sleep(made: Made) -> None:
    """When nothing was held for a while, the next one is still flushed soon."""
    first, second = Box(), Box()
    made.flusher.watch(first)
    first.wait()
    made.flusher.forget(first)
    made.flusher.forget(first)  # forgotten already: nothing happens
    made.flusher.watch(second)
    second.wait()


def test_the_thread_ends_and_comes_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """After LINGER seconds without anything held there is no thread; it starts again."""
    monkeypatch.setattr(flusher_module, "LINGER", 0.001)
    for _ in range(3):
        box = Box()
        assert made.flusher.watch(box)
        box.wait()
        assert made.threads.join(TIMEOUT) == []


def test_without_a_thread_nothing_may_be_held(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told, and asks again later."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not made.flusher.watch(Box())
    box = Box()
    assert made.flusher.watch(box)
    box.wait()


def test_who_came_while_no_thread_could_start_is_released(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told that there is a thread, or will be."""
    other = Box()

    def refuse(self: threading.Thread) -> None:
        assert made.flusher.watch(other)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not made.flusher.watch(Box())
    other.wait()


def test_after_its_end_nothing_may_be_held(made: Made) -> None:
    """Closed, with a thread or without one, it starts none."""
    made.flusher.close()
    assert not made.flusher.watch(Box())
    assert made.threads.count() == 0
