"""The cancellation tree: a hub's context, below it those of hotlines, clients and users.

Layer: concurrency.  Threads: every method may be called on any thread; callbacks run on the
thread that cancels.
Source: the specification's ``context.Context``, its cancel functions, its merged context.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from time import monotonic

from hubthread.checks import check_callable, check_kind, check_timeout, refuse_unrun
from hubthread.concurrency.calls import wait_for

__all__ = ["Context"]


class Context:
    """A node of the cancellation tree: cancelled once, with everything below it.

    Threads: every method may be called on any thread.  No callback runs under a lock.

    :param parent: a context that cancels this one when it is cancelled, for the same reason.
    :param deadline: seconds of ``time.monotonic``.  From then on the context counts as
        cancelled: ``wait`` returns, but no callback runs.  If the parent has an earlier
        deadline, that one holds.
    """

    def __init__(self, parent: Context | None = None, deadline: float | None = None) -> None:
        if parent is not None:
            check_kind("parent", parent, Context, "a Context or None")
        self._lock = threading.RLock()  # guards what follows; not held for callbacks
        self._condition: threading.Condition | None = None  # made by the first wait
        self._callbacks: list[Callable[[str], None]] = []
        # Weak references, so that a forgotten child costs nothing.  A plain dictionary keeps
        # the order of creation, and each step on it is atomic; a WeakKeyDictionary may change
        # under iteration when a child dies on another thread.
        self._children: dict[weakref.ref[Context], None] = {}
        self._reason: str | None = None
        self._second: Context | None = None  # of a merged context: keeps it alive
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
        """Return a context that is cancelled as soon as one of the two is cancelled."""
        check_kind("second", second, Context, "a Context")
        merged = cls(first, second.deadline)
        merged._second = second
        second._adopt(merged)
        return merged

    @property
    def cancelled(self) -> bool:
        """True if it was cancelled, or its deadline has passed."""
        return self.reason is not None

    @property
    def reason(self) -> str | None:
        """The reason of its cancellation; ``None`` if it is not cancelled."""
        with self._lock:
            reason = self._reason
        if reason is None and self.deadline is not None and monotonic() >= self.deadline:
            return "deadline passed"
        return reason

    def cancel(self, reason: str = "cancelled") -> bool:
        """Cancel this context and everything below it, and run the callbacks on this thread.

        All callbacks run, the children's first, even if one of them raises; the last exception
        is raised after the last callback.

        :returns: False if it was cancelled before.
        """
        with ExitStack() as callbacks:  # calls the last one first
            try:
                return self._mark(reason, callbacks)
            except BaseException:  # an interrupt: mark the rest, too
                self._mark(reason, callbacks)
                raise

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is cancelled, for ``timeout`` seconds at most; return True if it is."""
        check_timeout(timeout)
        with self._lock:
            if self._condition is None:
                self._condition = threading.Condition(self._lock)
            condition = self._condition
        if self.deadline is not None:
            own = max(0.0, self.deadline - monotonic())
            timeout = own if timeout is None else min(own, timeout)
        wait_for(condition, lambda: self.cancelled, timeout)
        return self.cancelled

    def add_callback(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` once, when the context is cancelled, or now if it was.

        The callback runs on the thread that cancels, under no lock, after everything below is
        cancelled too.  ``cancel`` raises its exception after the other callbacks.  A deadline
        that passes calls no callback.
        """
        check_callable("callback", callback, "reason")
        with self._lock:
            reason = self._reason
            if reason is None:
                self._callbacks.append(callback)
                return
        _call(callback, reason)

    def _mark(self, reason: str, callbacks: ExitStack) -> bool:
        """Cancel this context and those below it, and collect their callbacks.

        A call that goes on with one that was interrupted may collect a callback twice.
        """
        with self._lock:
            first = self._reason is None
            if first:
                self._reason = reason
            while self._callbacks:
                callbacks.callback(_call, self._callbacks[-1], reason)
                del self._callbacks[-1]
            children = list(self._children)
            if self._condition is not None:
                self._condition.notify_all()
        for weak in children:
            child = weak()
            if child is not None:
                child._mark(reason, callbacks)
        return first

    def _adopt(self, child: Context) -> None:
        with self._lock:
            reason = self._reason
            if reason is None:
                forget = partial(_forget, self._children)  # refers to the dictionary, not to self
                self._children[weakref.ref(child, forget)] = None
                return
        child.cancel(reason)

    def __repr__(self) -> str:
        reason = self.reason
        return f"<Context {'open' if reason is None else f'cancelled: {reason}'}>"


def _call(callback: Callable[[str], object], reason: str) -> None:
    refuse_unrun(callback(reason))


def _forget(children: dict[weakref.ref[Context], None], child: weakref.ref[Context]) -> None:
    children.pop(child, None)
