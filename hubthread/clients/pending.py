"""The requests to one client that wait for their answers.

Layer: clients.  Threads: any thread sends a request and waits.  Answers arrive in the client's
own order, most on its reader thread.  The end of the connection ends every wait.
"""

from __future__ import annotations

import threading
from typing import Any

from hubthread.concurrency.calls import Call
from hubthread.errors import ClientClosed, QueueFull
from hubthread.matcher.formats import ID

__all__ = ["PendingRequests"]


class PendingRequests:
    """The open requests to one client, by number.

    A number is used once.  The answer, the time-out or the end of the connection removes a
    request; only the thread that has removed it ends its wait.

    Threads: every method may be called on any thread.

    :param bound: the number of requests that may be open.
    :param name: the client's name, for error messages.
    """

    def __init__(self, bound: int, name: str) -> None:
        self._bound = bound
        self._name = name
        self._lock = threading.RLock()  # guards what follows
        self._open: dict[ID, _Request] = {}
        self._last = 0
        self._closed = False

    def open(self) -> tuple[int, Call[Any]]:
        """Return the number of a new request, and the call that waits for its answer.

        :raises ClientClosed: after ``close``.
        :raises QueueFull: if ``bound`` requests are open.
        """
        with self._lock:
            if self._closed:
                raise ClientClosed(f"{self._name} is closed: no answer can arrive")
            if len(self._open) >= self._bound:
                raise QueueFull(
                    f"{self._name}: {self._bound} requests wait for their answers, as many as "
                    f"chan_queue_size allows"
                )
            self._last += 1
            request = self._open[self._last] = _Request()
            return self._last, request.call

    def answer(self, number: ID, payload: Any) -> bool:
        """Hand ``payload`` to the request ``number``; return False if none waits."""
        with self._lock:
            request = self._open.pop(number, None)
        if request is None:
            return False
        request.payload = payload
        request.call.run()
        return True

    def forget(self, number: int) -> None:
        """Remove a request whose wait has ended."""
        with self._lock:
            self._open.pop(number, None)

    def close(self) -> None:
        """End every wait with ``ClientClosed``: the client has left."""
        with self._lock:
            self._closed = True
            requests, self._open = self._open, {}
        for request in requests.values():
            request.call.abandon(ClientClosed(f"{self._name} left before it answered"))


class _Request:
    """One request; ``answer`` writes ``payload`` before it runs the call."""

    __slots__ = ("call", "payload")

    def __init__(self) -> None:
        self.payload: Any = None
        self.call: Call[Any] = Call(lambda: self.payload)
