"""Sees that nothing is held back for long: one thread for all of a hub's readers.

Layer: concurrency.  Threads: readers watch and forget; the flusher thread releases.

A reader that has got several messages at once holds the replies back, to send them with
one system call when it is through.  A handler may block, though, and then the replies to
the messages before it must not wait for it.  What has been held for ``PATIENCE`` seconds
this thread releases, once: a handler that takes long, or for ever, costs nothing more.
It sleeps while nobody holds anything, and ends after ``LINGER`` seconds of that.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Protocol

from hubthread.concurrency.threads import Threads

__all__ = ["Flusher", "Held"]

PATIENCE = 0.001
"""Seconds that something may be held: far above a quick handler, far below what is felt."""

LINGER = 5.0
"""Seconds that the thread stays when nothing is held: load comes in waves."""


class Held(Protocol):
    """Something that holds messages back."""

    def uncork(self) -> None:
        """Send them, and hold no more; must neither block nor raise."""


class Flusher:
    """Releases what is held for too long.

    Threads: ``watch``, ``forget`` and ``close`` from any.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threading.Lock()  # guards what follows; not held to release
        self._condition = threading.Condition(self._lock)
        self._held: dict[Held, float] = {}  # since when; oldest first
        self._running = False
        self._asleep = False
        self._busy = False  # something was watched since the thread last looked
        self._closed = False

    def watch(self, held: Held) -> bool:
        """Release ``held`` in ``PATIENCE`` seconds, unless it is forgotten before.

        :returns: false when there is no thread to do so: nothing may be held back then.
        """
        # The lock itself, which is quicker than the condition that shares it.
        with self._lock:
            if self._closed:
                return False
            self._held.setdefault(held, monotonic())  # in its place: oldest first
            self._busy = True
            if self._running:
                if self._asleep:
                    self._asleep = False
                    self._condition.notify()
                return True
            self._running = True
        try:
            self._threads.start(self._run, "flusher")
        except RuntimeError:
            with self._condition:
                self._running = False
                stranded, self._held = self._held, {}
            for each in stranded:  # some may have come while the start was tried
                each.uncork()
            return False
        return True

    def forget(self, held: Held) -> None:
        """Nothing is held there any more."""
        with self._lock:
            self._held.pop(held, None)

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        while self._wait():
            self._release_due()

    def _wait(self) -> bool:
        """Wait until something is due, or nearly; false ends the thread."""
        with self._condition:
            while not self._held and not self._closed:
                if self._busy:
                    # Nothing can be due before.  Most is forgotten sooner, and a thread that
                    # then went to sleep would be woken again by the next batch of messages:
                    # a tenth of the echo rate of 100 clients with 16 in flight on 3.13t.
                    self._busy = False
                    self._condition.wait(PATIENCE)
                    continue
                self._asleep = True
                woken = self._condition.wait(LINGER)
                self._asleep = False
                if not woken:
                    break
            if not self._held or self._closed:
                self._running = False
                return False
            left = next(iter(self._held.values())) + PATIENCE - monotonic()
            if left > 0:
                self._condition.wait(left)
            return True

    def _release_due(self) -> None:
        """Release what has been held for long enough."""
        due = []
        with self._condition:
            now = monotonic()
            for held, since in self._held.items():
                if now - since < PATIENCE:
                    break
                due.append(held)
            for held in due:
                del self._held[held]
        for held in due:
            held.uncork()
