"""Send what a reader has held back for too long: one thread for all readers of a hub.

A reader that reads several messages at once corks its outbox: it holds the replies back, and
sends them with one system call after the last message.  If a handler blocks, the replies to
earlier messages must not wait for it.  The flusher thread therefore uncorks every outbox that
has been corked for ``PATIENCE`` seconds.  It sleeps while no outbox is corked, and ends after
``LINGER`` seconds without one.

Layer: concurrency.  Threads: readers call ``watch`` and ``forget``; the flusher thread calls
``uncork``.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Protocol

from hubthread.concurrency.threads import Threads

__all__ = ["Corked", "Flusher"]

PATIENCE = 0.001
"""Seconds that an outbox may stay corked: longer than a quick handler, too short to notice."""

LINGER = 5.0
"""Seconds that the thread stays when no outbox is corked, since load comes in waves."""


class Corked(Protocol):
    """An outbox that holds messages back."""

    def uncork(self) -> None:
        """Send the messages, and hold none back from now on.  Must neither block nor raise."""


class Flusher:
    """The thread that uncorks outboxes, and the outboxes that it watches.

    Threads: ``watch``, ``forget`` and ``close`` may be called on any thread.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threading.RLock()  # guards what follows; not held for uncork()
        self._condition = threading.Condition(self._lock)
        self._corked: dict[Corked, float] = {}  # and since when; oldest first
        self._running = False
        self._asleep = False
        self._busy = False  # watch() was called since the thread last looked
        self._closed = False

    def watch(self, corked: Corked) -> bool:
        """Uncork ``corked`` in ``PATIENCE`` seconds, unless it is forgotten before.

        :returns: False if no thread could be started; the caller must then send at once.
        """
        # The lock itself is quicker than the condition around it.
        with self._lock:
            if self._closed:
                return False
            self._corked.setdefault(corked, monotonic())  # keeps its place: oldest first
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
            with self._lock:
                self._running = False
                stranded, self._corked = self._corked, {}
            for each in stranded:  # other readers may have added theirs meanwhile
                each.uncork()
            return False
        except BaseException:  # an interrupt: a second thread does no harm
            with self._lock:
                self._running = False
            raise
        return True

    def forget(self, corked: Corked) -> None:
        """Stop watching ``corked``: its reader has uncorked it."""
        with self._lock:
            self._corked.pop(corked, None)

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        while self._wait():
            self._uncork_due()

    def _wait(self) -> bool:
        """Wait until an outbox is about due; return False if the thread is to end."""
        with self._lock:
            while not self._corked and not self._closed:
                if self._busy:
                    # Under load most outboxes are forgotten before they are due.  A thread
                    # that fell asleep would be woken by the next batch of messages, and each
                    # wake-up costs its reader time.  So it dozes for as long as nothing new
                    # can come due.
                    self._busy = False
                    self._condition.wait(PATIENCE)
                    continue
                self._asleep = True
                woken = self._condition.wait(LINGER)
                self._asleep = False
                if not woken:
                    break
            if not self._corked or self._closed:
                self._running = False
                return False
            left = next(iter(self._corked.values())) + PATIENCE - monotonic()
            if left > 0:
                self._condition.wait(left)
            return True

    def _uncork_due(self) -> None:
        """Uncork every outbox that has been corked for ``PATIENCE`` seconds."""
        due = []
        with self._lock:
            now = monotonic()
            for corked, since in self._corked.items():
                if now - since < PATIENCE:
                    break
                due.append(corked)
            for corked in due:
                del self._corked[corked]
        for corked in due:
            corked.uncork()
