"""The flusher: what is held is flushed soon, again and again, until it is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from hubthread.concurrency import flusher as flusher_module
from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.threads import Threads
from tests.support import TIMEOUT, Logs


class Box:
    """Something that holds: it counts its flushes, and a test waits for them."""

    def __init__(self) -> None:
        self._flushes = threading.Semaphore(0)

    def flush(self) -> None:
        self._flushes.release()

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._flushes.acquire(timeout=TIMEOUT)


class Made:
    """A flusher and its threads."""

    def __init__(self) -> None:
        self.threads = Threads("test", Logs())
        self.flusher = Flusher(self.threads)


@pytest.fixture
def made() -> Iterator[Made]:
    """A flusher, closed at the end; no thread may be left then."""
    made = Made()
    yield made
    made.flusher.close()
    assert made.threads.join(monotonic() + TIMEOUT) == []


def test_there_is_no_thread_before_it_is_needed(made: Made) -> None:
    """A hub whose clients send one message at a time has no flusher thread."""
    assert made.threads.count() == 0


def test_what_is_held_is_flushed_again_and_again(made: Made) -> None:
    """As long as it is held; several at once each get their turn."""
    boxes = [Box() for _ in range(3)]
    for box in boxes:
        assert made.flusher.watch(box)
    for box in boxes:
        box.wait(3)
        made.flusher.forget(box)
    assert made.threads.count() == 1


def test_it_wakes_from_its_sleep(made: Made) -> None:
    """When nothing was held for a while, the next one is still flushed soon."""
    first, second = Box(), Box()
    made.flusher.watch(first)
    first.wait()
    made.flusher.forget(first)
    made.flusher.forget(first)  # forgotten already: nothing happens
    made.flusher.watch(second)
    second.wait(2)
    made.flusher.forget(second)


def test_the_thread_ends_and_comes_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """After LINGER seconds without anything held there is no thread; it starts again."""
    monkeypatch.setattr(flusher_module, "LINGER", 0.001)
    for _ in range(3):
        box = Box()
        assert made.flusher.watch(box)
        box.wait()
        made.flusher.forget(box)
        assert made.threads.join(monotonic() + TIMEOUT) == []


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
    made.flusher.forget(box)


def test_after_its_end_nothing_may_be_held(made: Made) -> None:
    """Closed, with a thread or without one, it starts none."""
    made.flusher.close()
    assert not made.flusher.watch(Box())
    assert made.threads.count() == 0
