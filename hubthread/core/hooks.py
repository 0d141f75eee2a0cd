"""Calls of the program's hooks and pages, and the record of refused requests.

Layer: core.  Threads: a hook runs on the thread that has the request.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from hubthread.checks import checked
from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.logs import LogName, log_safely
from hubthread.protocol.request import Request

__all__ = ["HookCall", "Refusals"]


class HookCall:
    """One call of a hook or page for a request, as the watchdog sees it.

    Threads: made and ended on the thread that calls the hook; the watchdog only looks.
    """

    __slots__ = ("_request", "_what", "runner")

    def __init__(self, what: str, request: Request) -> None:
        self._what = what
        self._request = request
        self.runner: int | None = thread_id()

    @property
    def name(self) -> str:
        """The call's name in the log.  The path comes from the peer, so it is quoted and cut."""
        request = self._request
        name = f"{self._what} for {request.path[:100]!r} of {request.peer}"
        return LogName(name, request._log_ids())

    def current_callback(self) -> int | None:
        """Return 0 until the hook has returned, then None (see ``watchdog.Watched``)."""
        return None if self.runner is None else 0


class Refusals:
    """The requests that were answered with an error status: counted, logged and reported.

    Threads: every method may be called on any thread; ``callback`` runs on the caller's.

    :param callback: ``Upgrader.error``.
    """

    def __init__(
        self,
        logger: logging.Logger,
        incidents: Incidents,
        callback: Callable[[Request | None, int, str], Any] | None,
    ) -> None:
        self._logger = logger
        self._incidents = incidents
        self._callback = callback
        self._lock = threading.RLock()  # guards what follows
        self._by_status: Counter[int] = Counter()

    @property
    def count(self) -> int:
        """The number of refusals so far."""
        with self._lock:
            return self._by_status.total()

    def by_status(self) -> dict[int, int]:
        """Return the number of refusals by status."""
        with self._lock:
            return dict(self._by_status)

    def add(
        self,
        request: Request | None,
        status: int,
        reason: str,
        limit: str | None = None,
        peer: object = None,
    ) -> None:
        """Record that a request was answered with ``status``.

        :param limit: the limit that refused the request (``hubthread.limits``), if one did.
        :param peer: the peer's address, for the log line of a limit.
        """
        with self._lock:
            self._by_status[status] += 1
        text = "request refused: %s %s (%r)"
        if limit is not None:
            args = status, reason, peer
            self._incidents.log_limit(limit, logging.INFO, text, *args, about=request)
        else:
            log_safely(self._logger, logging.DEBUG, text, status, reason, request)
        if self._callback is not None:
            try:
                # The thread may belong to a WSGI server, and serve another client next.
                checked(contextvars.copy_context().run(self._callback, request, status, reason))
            except BaseException as error:  # noqa: BLE001 - logged
                self._incidents.log_exception(error, "Upgrader.error raised")
