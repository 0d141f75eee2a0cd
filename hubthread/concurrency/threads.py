"""The threads of one hub: named, counted, and joined at the end.

Layer: concurrency.  Threads: ``start`` and ``launch`` may be called on any thread; ``join`` is
for the thread that closes the hub.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from hubthread.concurrency.deadline import Deadline

if TYPE_CHECKING:
    from hubthread.concurrency.incidents import Incidents

__all__ = ["Threads", "is_runnable", "leave_signals_to_main_thread"]

# The signals that programs handle.  A process that a callback starts with ``subprocess`` inherits
# them as blocked, so they are few: a shell without SIGCHLD would wait for ever.
_HANDLED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "WINCH")

if hasattr(signal, "pthread_sigmask"):  # not on Windows
    _BLOCKED = {signal.Signals[f"SIG{name}"] for name in _HANDLED}

_NUMBER = re.compile("-[0-9]")

_own = threading.local()
"""``blocked``: the signals that a thread of a hub has blocked, or its starter before it."""


def leave_signals_to_main_thread() -> None:
    """Block signals on the calling thread, which belongs to a hub.

    Python runs signal handlers on the main thread.  If another thread takes the signal, a main
    thread that waits in ``time.sleep`` or ``Event.wait`` runs its handler only after the wait.
    """
    if hasattr(signal, "pthread_sigmask"):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        _own.blocked = _BLOCKED.difference(before)


def _unblock_in_child() -> None:
    """Let a process that a callback has forked have its signals."""
    blocked = getattr(_own, "blocked", None)
    if blocked:
        _own.blocked = None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unblock_in_child)


def is_runnable(thread: threading.Thread) -> bool:
    """Return True if ``thread`` runs, or would run if it had a core; False if that is not known.

    A thread that waits for the GIL does not count as runnable.  Only Linux tells.
    """
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb", buffering=0) as file:
            told: bytes = file.read(512)
    except OSError:  # the thread has ended, or there is no /proc
        return False
    # "<id> (<name>) <state> ...", see proc(5); the name may contain anything.
    return told.rpartition(b") ")[2].startswith(b"R")


class _Begun(threading.Event):
    """Set when a thread runs its first step; a wait without a time-out returns at once.

    It waits for a plain lock.  An exception that strikes inside the condition of an event may
    leave the condition's lock held, and then nobody can wait for the thread again.
    """

    blocked: set[signal.Signals] | None = None
    """The signals that the thread has inherited as blocked from another thread of a hub."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.role = _NUMBER.split(name, maxsplit=1)[0]
        """The name of the thread up to its first number."""
        self._begun = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Return True if the thread has begun."""
        return self._begun

    def set(self) -> None:
        """Let all waits end."""
        if not self._begun:
            self._begun = True
            with contextlib.suppress(RuntimeError):  # another thread has just done the same
                self._gate.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an event does, but only with a time-out; see ``_start_without_waiting``."""
        if timeout is None or self._begun:
            return True
        if self._gate.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX)):
            with contextlib.suppress(RuntimeError):  # a second ``set`` has just done the same
                self._gate.release()
        return self._begun


def _start_without_waiting(thread: threading.Thread, begun: _Begun) -> None:
    """Start ``thread``, and do not wait for its first step; ``Threads.guard`` sets ``begun``.

    ``Thread.start`` waits, without a time-out, on the private event ``Thread._started``.  With
    one thread for each connection the listener would sleep and be woken for each of them; a
    listener that does not wait accepts about a fifth more connections a second.  Hence the
    event is replaced by one whose wait returns at once.

    Fallback: if a future Python does not use ``_started``, the attribute is ignored and
    ``start`` waits.  Everything else works, since ``guard`` sets ``begun`` itself.  A test
    fails then.
    """
    thread._started = begun  # type: ignore[attr-defined]
    thread.start()


class Threads:
    """The threads that run for one hub.

    They are daemon threads, because a program must be able to exit while clients are
    connected.  ``Hub.close`` ends them in order, and joins all of them.

    :param prefix: the first part of the threads' names, ``<prefix>-<what>``.
    :param incidents: logs a thread that dies.
    """

    def __init__(self, prefix: str, incidents: Incidents) -> None:
        self.prefix = prefix
        self._incidents = incidents
        self._lock = threading.RLock()  # guards what follows
        self._running: dict[threading.Thread, _Begun] = {}
        self._roles: dict[str, set[threading.Thread]] = {}  # of ``_running``
        self._process = 0  # the process that has started them

    def start(self, target: Callable[[], None], what: str) -> None:
        """Run ``target`` on a new thread.

        An exception of ``target`` is a bug in the library, and logged as critical, because the
        library catches the exceptions of user functions where it calls them.

        :param what: the last part of the thread's name.
        :raises RuntimeError: if the system cannot start a thread.
        """
        self.launch(threading.Thread(target=self.guard, args=(target,)), what)

    def launch(self, thread: threading.Thread, what: str) -> None:
        """Start a thread whose ``run`` calls ``guard``; do not wait for its first step.

        :param what: the last part of the thread's name.
        :raises RuntimeError: if the system cannot start a thread.
        """
        thread.name = f"{self.prefix}-{what}"
        thread.daemon = True
        begun = _Begun(what)
        begun.blocked = getattr(_own, "blocked", None)
        try:
            with self._lock:
                if not self._running:
                    self._process = os.getpid()
                self._add(thread, begun)
            _start_without_waiting(thread, begun)
        except BaseException:
            # After an interrupt the thread may run all the same: ``guard`` adds it again.
            self._remove(thread)
            begun.set()  # ``join`` may wait for it
            raise

    def is_mine(self) -> bool:
        """Return True on one of these threads."""
        with self._lock:
            return threading.current_thread() in self._running

    def leave(self) -> None:
        """Forget the calling thread: ``join`` will not wait for it."""
        self._remove(threading.current_thread())

    def count(self) -> int:
        """Return the number of threads that run now."""
        with self._lock:
            return len(self._running)

    def roles(self) -> Counter[str]:
        """Return the number of threads that run now, by their names without numbers.

        What follows the first number names the client or room that the thread is busy with.
        """
        with self._lock:
            return +Counter({role: len(threads) for role, threads in self._roles.items()})

    def left_behind(self) -> bool:
        """Return True if this process was forked while threads ran: they do not exist in it."""
        with self._lock:
            return bool(self._running) and self._process != os.getpid()

    def join(self, timeout: float) -> list[threading.Thread]:
        """Wait for all threads, for ``timeout`` seconds; return the threads that still run."""
        deadline = Deadline(timeout)
        while True:
            with self._lock:
                # A thread that has not begun is not alive yet, and cannot be joined.
                running = {
                    thread: begun
                    for thread, begun in self._running.items()
                    if thread.is_alive() or not begun.is_set()
                }
            if not running or deadline.passed:
                return list(running)
            # Look again afterwards: a thread that ends may have started another.
            for thread, begun in running.items():
                has_begun = begun.wait(deadline.left())
                if has_begun and thread.ident is not None:  # None: its start has failed
                    thread.join(deadline.left())

    def guard(self, target: Callable[[], None]) -> None:
        """Run ``target`` on the calling thread, which ends after it."""
        with self._lock:
            thread = threading.current_thread()
            begun = self._running.get(thread)
            if begun is None:
                begun = _Begun(thread.name[len(self.prefix) + 1 :])
                self._add(thread, begun)
        if begun.blocked is None:
            leave_signals_to_main_thread()
        else:
            _own.blocked = begun.blocked
        begun.set()  # Thread has set it already, unless it names the event otherwise
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - SystemExit too, which would not be logged
            name = threading.current_thread().name
            text = "a bug in hubthread: %s died"
            self._incidents.log_exception(error, text, name, level=logging.CRITICAL)
        finally:
            self._remove(threading.current_thread())

    def _add(self, thread: threading.Thread, begun: _Begun) -> None:
        self._roles.setdefault(begun.role, set()).add(thread)
        self._running[thread] = begun

    def _remove(self, thread: threading.Thread) -> None:
        with self._lock:
            self._running.pop(thread, None)
            for threads in self._roles.values():
                threads.discard(thread)
