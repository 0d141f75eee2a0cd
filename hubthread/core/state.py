"""The state of one hub, which its parts ask before they begin something new.

Layer: core.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from hubthread.checks import check_number
from hubthread.concurrency.calls import wait_for
from hubthread.errors import HubClosed, UsageError

__all__ = ["HubState"]


class HubState:
    """The state of a hub: ``new``, ``running``, ``closing`` or ``closed``.

    ``hub/lifecycle.py`` walks from one state to the next.  The state counts the calls of
    ``wait_done`` that closing has to wait for.

    :param hub_name: the hub's name, for error messages.
    :param opened: True if the hub has no ``delayed_execution`` to run first.
    """

    def __init__(self, hub_name: str, *, opened: bool) -> None:
        self._hub_name = hub_name
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._busy = 0  # calls of ``wait_done`` that are still to come
        self._process = 0  # the process that the hub was started in
        self._on_failure: Callable[[], None] | None = None
        self.refusal: str | None = None
        """Why this copy of the hub does nothing, in a child that was forked from its process."""
        self.value = "new"
        self.draining = False
        """True from the begin of a drain: the hub takes no new clients."""
        self.opened = opened
        self.loop_runs = False
        self.failure: BaseException | None = None
        """The bug of the library that stopped the hub thread."""

    def begin(self) -> None:
        """Go from ``new`` to ``running``.

        :raises UsageError: when the hub was started before.
        """
        with self._lock:
            if self.value != "new":
                raise UsageError(f"this hub is {self.value}; a hub runs once, so make a new one")
            self.value = "running"
            self._process = os.getpid()

    def cannot_begin(self) -> None:
        """Go back to ``new``, unless another thread has begun to close the hub meanwhile."""
        with self._lock:
            if self.value == "running":
                self.value = "new"

    def begin_close(self) -> str | None:
        """Go to ``closing``; return the state before, or None if closing began before."""
        with self._lock:
            if self.value not in ("new", "running"):
                return None
            before, self.value = self.value, "closing"
            return before

    def end(self) -> None:
        """Go to ``closed``."""
        with self._lock:
            self.value = "closed"
            self._changed.notify_all()

    def open(self) -> None:
        """Note that ``delayed_execution`` has run: the hub is open for work."""
        with self._lock:
            self.opened = True
            self._changed.notify_all()

    def loop_ended(self) -> None:
        """Note that the hub thread does not run closures any more."""
        with self._lock:
            self.loop_runs = False
            self._changed.notify_all()

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the hub thread stops by a bug of the library."""
        self._on_failure = callback

    def fail(self, error: BaseException) -> None:
        """Note that a bug of the library has stopped the hub thread."""
        self.failure = error
        if self._on_failure is not None:
            self._on_failure()

    def forked(self) -> bool:
        """Return True if the hub was started in another process, before that one forked."""
        return self._process not in (0, os.getpid())

    def refuse_closing(self, what: str) -> None:
        """Refuse to begin something new while the hub closes.

        :param what: the rest of the sentence "hub NAME is closing and …".
        :raises HubClosed: when the hub is closing or closed.
        """
        if self.refusal is not None:
            raise UsageError(self.refusal)
        if self.value in ("closing", "closed"):
            raise HubClosed(f"hub {self._hub_name} is {self.value} and {what}")

    def wait_open(self) -> None:
        """Wait until ``delayed_execution`` has run, or the hub has closed without running it."""
        if not self.opened:
            wait_for(self._changed, lambda: self.opened or self.value == "closed", None)

    def wait_closed(self, timeout: float | None) -> bool:
        """Wait until the hub is closed; return False after ``timeout`` seconds."""
        return wait_for(self._changed, lambda: self.value == "closed", timeout)

    def wait(self, arrived: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``arrived()`` is true of this state; return False after ``timeout`` seconds.

        Real time only: virtual time has to pass by itself meanwhile.
        """
        with self._lock:
            return self._changed.wait_for(arrived, timeout)

    @property
    def missing(self) -> int:
        """The number of calls of ``wait_done`` that closing still waits for."""
        return self._busy

    def wait_add(self, count: int) -> None:
        """Make closing wait for ``count`` more calls of ``wait_done``."""
        check_number("count", count, 1, whole=True)
        with self._lock:
            self._busy += count

    def wait_done(self) -> None:
        """Report one thing done that closing waits for.

        :raises UsageError: when there is no ``wait_add`` left to answer.
        """
        with self._lock:
            if self._busy == 0:
                raise UsageError("wait_done was called more often than wait_add announced")
            self._busy -= 1
            self._changed.notify_all()
