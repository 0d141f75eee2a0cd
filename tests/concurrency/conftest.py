"""What these tests are given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hubthread.concurrency.calls import Call, Executor
from tests.concurrency.made import Made


@pytest.fixture
def made() -> Iterator[Made]:
    made = Made()
    yield made
    made.end()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released by each thread that begins to wait for a result."""
    begun = threading.Semaphore(0)
    begin_wait = Call._begin_wait

    def announced(self: Call[object], me: int, executor: Executor, name: str) -> None:
        begin_wait(self, me, executor, name)
        begun.release()

    monkeypatch.setattr(Call, "_begin_wait", announced)
    return begun


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on the system gives no thread."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)
