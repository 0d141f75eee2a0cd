"""The cancellation tree: hub → hotline, hub → client, and what users hang below them.

Layer: concurrency.  Threads: any; callbacks run on the thread that cancels.
Source: the specification's ``context.Context``, its cancel functions, its merged context.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import monotonic

from hubthread.concurrency.calls import wait_for

__all__ = ["Context"]


class Context:
    """Something that can be cancelled, once, with everything below it.

    Threads: every method from any.  No callback runs under a lock.

    :param parent: cancelled with it, for its reason.
    :param deadline: on the clock of ``time.monotonic``, in seconds; from then on the
        context counts as cancelled.  Nobody is woken for it but those who wait.  The
        earlier one of this and the parent's holds.
    """

    def __init__(self, parent: Context | None = None, deadline: float | None = None) -> None:
        self._lock = threading.Lock()  # guards what follows, and never a callback
        self._condition: threading.Condition | None = None  # made by the first who waits
        self._callbacks: list[Callable[[str], None]] = []
        # Weak, so that a child which nobody holds any more costs nothing.  A plain dict, in
        # the order of making: each step is atomic, while a WeakKeyDictionary under iteration
        # may be changed by a child that dies in another thread.
        self._children: dict[weakref.ref[Context], None] = {}
        self._reason: str | None = None
        self._second: Context | None = None  # of a merged one: what leads to it lives on
        self.parent = parent
        self.deadline = deadline
        if parent is not None:
            if parent.deadline is not None:
                self.deadline = (
                    parent.deadline if deadline is None else min(parent.deadline, deadline)
                )
            parent._adopt(self)

    @classmethod
    def merge(cls, first: Context, second: Context) -> Context:
        """A context that is cancelled with whichever of the two is cancelled first."""
        merged = cls(first, second.deadline)
        merged._second = second
        second._adopt(merged)
        return merged

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, or its deadline has passed."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """Why it was cancelled; ``None`` while it was not."""
        with self._lock:
            reason = self._reason
        if reason is None and self.deadline is not None and monotonic() >= self.deadline:
            return "deadline passed"
        return reason

    def cancel(self, reason: str = "cancelled") -> bool:
        """Cancel it and everything below; wake all who wait; run the callbacks here.

        All callbacks run, the children's first, whatever one of them raises; the last
        exception is raised in the end.

        :returns: false when it had been cancelled before.
        """
        with ExitStack() as callbacks:  # it calls them last in, first out
            return self._mark(reason, callbacks)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is cancelled, or ``timeout`` seconds; true when cancelled."""
        with self._lock:
            if self._condition is None:
                self._condition = threading.Condition()
            condition = self._condition
        until = self.deadline
        if timeout is not None:
            until = monotonic() + timeout if until is None else min(until, monotonic() + timeout)
        wait_for(
            condition,
            lambda: self.cancelled,
            None if until is None else max(0.0, until - monotonic()),
        )
        return self.cancelled

    def add_callback(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` once when it is cancelled; at once if it is already.

        It runs on the thread that cancels, outside of any lock, when everything below is
        cancelled too.  What it raises is raised there, after the other callbacks: catch
        what you can handle.  A deadline that passes calls nobody.
        """
        with self._lock:
            reason = self._reason
            if reason is None:
                self._callbacks.append(callback)
                return
        callback(reason)

    def _mark(self, reason: str, callbacks: ExitStack) -> bool:
        """Cancel without calling anybody; the callbacks are collected."""
        with self._lock:
            if self._reason is not None:
                return False
            self._reason = reason
            own, self._callbacks = self._callbacks, []
            children = list(self._children)
            condition = self._condition
        if condition is not None:
            with condition:
                condition.notify_all()
        for callback in reversed(own):
            callbacks.callback(callback, reason)
        for weak in children:
            child = weak()
            if child is not None:
                child._mark(reason, callbacks)
        return True

    def _adopt(self, child: Context) -> None:
        with self._lock:
            reason = self._reason
            if reason is None:
                forget = partial(_forget, self._children)  # not self: it may be gone by then
                self._children[weakref.ref(child, forget)] = None
                return
        child.cancel(reason)

    def __repr__(self) -> str:
        reason = self.reason
        return f"<Context {'open' if reason is None else f'cancelled: {reason}'}>"


def _forget(children: dict[weakref.ref[Context], None], child: weakref.ref[Context]) -> None:
    children.pop(child, None)
