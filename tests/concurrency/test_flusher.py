"""The flusher: a corked outbox is uncorked soon, once, unless it is forgotten before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hubthread.concurrency import flusher as module
from hubthread.concurrency.flusher import Flusher
from tests.concurrency.harness import Runtime
from tests.support import TIMEOUT


class Box:
    """A corked outbox that counts how often it is uncorked."""

    def __init__(self) -> None:
        self._releases = threading.Semaphore(0)
        self.times = 0

    def uncork(self) -> None:
        self.times += 1
        self._releases.release()

    def wait(self) -> None:
        assert self._releases.acquire(timeout=TIMEOUT)


@pytest.fixture
def flusher(runtime: Runtime) -> Iterator[Flusher]:
    """A flusher whose thread is one of ``runtime``; closed at the end."""
    flusher = Flusher(runtime.threads)
    yield flusher
    flusher.close()


def test_flusher_has_no_thread_before_the_first_watch(runtime: Runtime) -> None:
    assert runtime.threads.count() == 0


def test_flusher_uncorks_each_outbox_once(
    flusher: Flusher, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 10 * TIMEOUT)
    boxes = [Box() for _ in range(3)]
    for box in boxes:
        assert flusher.watch(box)
    for box in boxes:
        box.wait()
    for _ in range(3):  # the thread looks again and again meanwhile
        again = Box()
        assert flusher.watch(again)
        again.wait()
    assert [box.times for box in boxes] == [1, 1, 1]
    assert runtime.threads.count() == 1


def test_flusher_dozes_once_before_it_sleeps(
    flusher: Flusher, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outbox that is forgotten before it is due does not need to wake the thread again."""
    monkeypatch.setattr(module, "LINGER", 10 * TIMEOUT)
    started: list[str] = []
    waits: list[float] = []
    asleep = threading.Semaphore(0)
    start, wait = runtime.threads.start, flusher._condition.wait

    def counted(target: Callable[[], None], what: str) -> None:
        started.append(what)
        start(target, what)

    def announced(timeout: float) -> bool:
        waits.append(timeout)
        if timeout == module.LINGER:
            asleep.release()
        return wait(timeout)

    monkeypatch.setattr(runtime.threads, "start", counted)
    monkeypatch.setattr(flusher._condition, "wait", announced)
    box = Box()
    for _ in range(10):
        flusher.watch(box)
        flusher.forget(box)
        assert asleep.acquire(timeout=TIMEOUT)
        assert waits[-2:] == [module.PATIENCE, module.LINGER]
    assert started == ["flusher"]


def test_flusher_asleep_is_woken_by_watch(flusher: Flusher) -> None:
    """Forgetting an outbox twice does nothing."""
    first, second = Box(), Box()
    flusher.watch(first)
    first.wait()
    flusher.forget(first)
    flusher.forget(first)  # forgotten already: nothing happens
    flusher.watch(second)
    second.wait()


def test_flusher_thread_ends_after_linger_and_starts_again(
    flusher: Flusher, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.001)
    for _ in range(3):
        box = Box()
        assert flusher.watch(box)
        box.wait()
        assert runtime.threads.join(TIMEOUT) == []


def test_flusher_watch_without_a_thread_returns_false(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not flusher.watch(Box())
    box = Box()
    assert flusher.watch(box)
    box.wait()


def test_flusher_uncorks_outboxes_added_during_a_failed_start(
    flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Box()

    def refuse(self: threading.Thread) -> None:
        assert flusher.watch(other)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not flusher.watch(Box())
    other.wait()


def test_flusher_watch_after_close_returns_false(flusher: Flusher, runtime: Runtime) -> None:
    flusher.close()
    assert not flusher.watch(Box())
    assert runtime.threads.count() == 0
