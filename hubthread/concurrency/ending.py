"""Call functions at the end of the process, while it can still do work.

``atexit`` comes too late: ``concurrent.futures`` has shut its executors down by then, and some
releases of Python 3.12 start no more threads.

Layer: concurrency.  Threads: ``at_end`` and ``forget`` may be called on any thread.  The main
thread calls the functions, when its program has ended.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - the functions registered last are called first
import contextlib
import threading
from collections.abc import Callable

__all__ = ["at_end", "forget"]

_lock = threading.RLock()  # guards what follows
_functions: list[Callable[[], object]] = []
_registered = False


def at_end(function: Callable[[], object]) -> None:
    """Call ``function``, which must not raise, when the main thread ends.

    Functions are called in the reverse order of these calls, as those of ``atexit``.
    """
    global _registered  # noqa: PLW0603 - Python cannot take the registration back
    with _lock:
        _functions.append(function)
        if _registered:
            return
        _registered = True
    register = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):  # the process is ending already
        register(_end)


def forget(function: Callable[[], object]) -> None:
    """Do not call ``function`` at the end; do nothing if it is not registered."""
    with _lock, contextlib.suppress(ValueError):
        _functions.remove(function)


def _end() -> None:
    while True:
        with _lock:
            if not _functions:
                return
            function = _functions.pop()
        function()
