"""Fixtures of the concurrency tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hubthread.concurrency.calls import Call, Executor
from tests.concurrency.harness import Runtime, StrandOnWorkers


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The threads of a hub; none may be left at the end."""
    runtime = Runtime()
    yield runtime
    runtime.end()


@pytest.fixture
def made() -> Iterator[StrandOnWorkers]:
    """A strand with workers of its own; it must be idle at the end."""
    made = StrandOnWorkers()
    yield made
    made.end()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A semaphore that each thread releases when it begins to wait for a result."""
    begun = threading.Semaphore(0)
    begin_wait = Call._begin_wait

    def announced(self: Call[object], waiter: int, executor: Executor, name: str) -> None:
        begin_wait(self, waiter, executor, name)
        begun.release()

    monkeypatch.setattr(Call, "_begin_wait", announced)
    return begun


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function: after its call the system cannot start a thread."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)
