"""Every thread of one hub: named, counted, and joined at the end.

Layer: concurrency.  Threads: any starts one; ``join`` is for the thread that closes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubthread.concurrency.incidents import Incidents

__all__ = ["Threads"]


class _Arrival(threading.Event):
    """Takes the place of ``Thread._started``, for a start that does not wait.

    ``Thread.start`` ends with a wait for the first step of the new thread, which then is
    in its way: with one thread for each connection, the listener would sleep and be woken
    again for each.  3,570 connections/s come in without that wait, 2,930 with it (5,000 of
    them, 2 cores, CPython 3.11).  A test holds that ``_started`` is still so called.
    """

    def wait(self, timeout: float | None = None) -> bool:
        """``Thread.start`` gives no time-out, ``Threads.join`` does."""
        return True if timeout is None else super().wait(timeout)


class Threads:
    """Starts threads and remembers them while they run.

    They are daemon threads, because an interpreter must be able to exit with clients
    connected; an orderly end is the hub's ``close``, which joins them all.

    :param prefix: every thread is called ``<prefix>-<what>``.
    """

    def __init__(self, prefix: str, incidents: Incidents) -> None:
        self.prefix = prefix
        self._incidents = incidents
        self._lock = threading.Lock()  # guards what follows
        self._running: dict[threading.Thread, _Arrival] = {}
        self._process = 0  # of those that run

    def start(self, target: Callable[[], None], what: str) -> None:
        """Run ``target`` on a new thread.

        What it raises is a bug of the library (users' functions are called where their
        exceptions are caught): it is logged as critical.

        :raises RuntimeError: when the system gives no more threads.
        """
        self.launch(threading.Thread(target=self.guard, args=(target,)), what)

    def launch(self, thread: threading.Thread, what: str) -> None:
        """Start a thread that runs what it does through ``guard``; it may run later.

        :raises RuntimeError: when the system gives no more threads.
        """
        thread.name = f"{self.prefix}-{what}"
        thread.daemon = True
        arrival = _Arrival()
        thread._started = arrival  # type: ignore[attr-defined]
        with self._lock:
            if not self._running:
                self._process = os.getpid()
            self._running[thread] = arrival
        try:
            thread.start()
        except Exception:
            with self._lock:
                del self._running[thread]
            arrival.set()  # ``join`` may be waiting for it
            raise

    def is_mine(self) -> bool:
        """Whether the caller is one of these threads."""
        with self._lock:
            return threading.current_thread() in self._running

    def leave(self) -> None:
        """Take the calling thread out: it ends by itself, and ``join`` does not wait for it."""
        with self._lock:
            self._running.pop(threading.current_thread(), None)

    def count(self) -> int:
        """How many run now."""
        with self._lock:
            return len(self._running)

    def left_behind(self) -> bool:
        """Whether some ran when this process was forked: they have not come along."""
        with self._lock:
            return bool(self._running) and self._process != os.getpid()

    def join(self, deadline: float) -> list[threading.Thread]:
        """Wait for all until ``deadline`` (monotonic); returns those that still run."""
        while True:
            with self._lock:
                # One that is on its way does not count as alive, and cannot be joined yet.
                running = {
                    thread: arrival
                    for thread, arrival in self._running.items()
                    if thread.is_alive() or not arrival.is_set()
                }
            if not running or monotonic() >= deadline:
                return list(running)
            # One that ends may have started another: look again afterwards.
            for thread, arrival in running.items():
                arrived = arrival.wait(max(0.0, deadline - monotonic()))
                if arrived and thread.ident is not None:  # else its start has failed
                    thread.join(max(0.0, deadline - monotonic()))

    def guard(self, target: Callable[[], None]) -> None:
        """Run ``target`` on the calling thread, the last thing that it does."""
        with self._lock:
            arrival = self._running.get(threading.current_thread())
        if arrival is not None:  # as Thread does, as long as it calls that _started
            arrival.set()
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - SystemExit too: it would die in silence
            name = threading.current_thread().name
            text = "a bug in hubthread: %s died"
            self._incidents.log_exception(error, text, name, level=logging.CRITICAL)
        finally:
            with self._lock:
                self._running.pop(threading.current_thread(), None)
