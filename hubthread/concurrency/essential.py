"""Callbacks whose closures and pushes no bound refuses: those of a client that comes or goes.

The bounds of queues hold back peers that send much.  What tells a program of a client's start or
end must not be lost because others send much.

Layer: concurrency.  Threads: each thread has its own mark.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["is_essential", "run_essential"]

T = TypeVar("T")

_here = threading.local()


def run_essential(work: Callable[[], T]) -> T:
    """Return ``work()``; until it returns, ``is_essential`` is true on this thread."""
    before = is_essential()
    _here.marked = True
    try:
        return work()
    finally:
        _here.marked = before


def is_essential() -> bool:
    """Return True inside ``run_essential``.  Queues that are full ask."""
    return getattr(_here, "marked", False)
