"""Gates and lists that a test waits on, and work on threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TIMEOUT = 60.0
"""Seconds until a wait fails its test.  A test that passes never waits this long."""


class Items(Generic[T]):
    """A list that threads append to and a test waits for."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._items: list[T] = []

    def add(self, item: T) -> None:
        with self._lock:
            self._items.append(item)
            self._changed.notify_all()

    def now(self) -> list[T]:
        """Return the items so far."""
        with self._lock:
            return list(self._items)

    def until(self, enough: Callable[[list[T]], bool]) -> list[T]:
        """Wait until ``enough(items)``, and return the items."""
        with self._lock:
            arrived = self._changed.wait_for(lambda: enough(self._items), TIMEOUT)
            assert arrived, f"only {self._items!r}"
            return list(self._items)

    def wait(self, count: int) -> list[T]:
        """Wait for ``count`` items, and return all items."""
        return self.until(lambda items: len(items) >= count)


class Notes:
    """A list of events in their order: call it to add one."""

    def __init__(self) -> None:
        self._items: Items[Any] = Items()

    def __call__(self, note: Any) -> None:
        self._items.add(note)

    def now(self) -> list[Any]:
        """Return the notes so far."""
        return self._items.now()

    def wait(self, wanted: object) -> None:
        """Wait until ``wanted`` is one of the notes."""
        self._items.until(lambda notes: wanted in notes)


class Gate:
    """A stop in a callback: the callback waits until the test opens the gate."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._open = threading.Semaphore(0)

    def __call__(self, *_: object) -> Any:
        self._reached.release()
        assert self._open.acquire(timeout=3 * TIMEOUT)  # the test's own wait fails first

    def reached(self) -> None:
        """Wait until a callback stands at the gate."""
        assert self._reached.acquire(timeout=TIMEOUT)

    def open(self, times: int = 1) -> None:
        """Let ``times`` callbacks pass, those to come included."""
        self._open.release(times)


class Task(Generic[T]):
    """A function that runs on a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error

    def join(self) -> None:
        """Wait for the function to end, and ignore what it returned or raised."""
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "the function still runs"

    def result(self) -> T:
        """Wait for the function to end; return its result, or raise its error."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._results[0]


def in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Run ``work`` on a thread.  Call the returned function to wait for its result."""
    return Task(work).result


def together(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(0)`` to ``work(count - 1)`` on threads that start at the same time."""
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(TIMEOUT)
        work(number)

    tasks = [Task(lambda number=number: run(number)) for number in range(count)]  # type: ignore[misc]
    for task in tasks:
        task.result()


def tries() -> Iterator[None]:
    """Yield for ``TIMEOUT`` seconds, for tests that ask a server until it has heard of them."""
    deadline = monotonic() + TIMEOUT
    while monotonic() < deadline:
        yield
