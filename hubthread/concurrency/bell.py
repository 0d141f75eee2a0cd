"""A wake-up that is never lost.

Layer: concurrency.  Threads: any thread rings; one thread, the owner, waits.
"""

from __future__ import annotations

import contextlib
import threading

__all__ = ["Bell"]


class Bell:
    """The wake-up of one waiting thread.

    A ring before the wait ends that wait at once, unlike ``Condition.notify``.  So a finaliser
    or a signal handler that rings on the owner's own thread, just before it waits, is heard.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()  # released by a ring, acquired by the owner
        self._silent.acquire()

    def ring(self) -> None:
        """Wake the owner, now or when it waits next; further rings before that do nothing."""
        if self._silent.locked():
            with contextlib.suppress(RuntimeError):  # another thread has rung meanwhile
                self._silent.release()

    @property
    def rung(self) -> bool:
        """True if the next wait ends at once."""
        return not self._silent.locked()

    def wait(self, timeout: float | None) -> bool:
        """Wait for a ring; return False after ``timeout`` seconds without one."""
        if timeout is None:
            return self._silent.acquire()
        return self._silent.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX))
