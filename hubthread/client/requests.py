"""The requests that wait for an answer.

Layer: client.  Threads: the caller holds the lock of the link.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hubthread.client.queue import Queue
from hubthread.errors import HubThreadError, Lost, Refused, TimedOut

__all__ = ["Requests"]


class Request(NamedTuple):
    """A request that has no answer yet."""

    resolve: Callable[[Any], object]
    reject: Callable[[HubThreadError], object]
    deadline: float
    """The time of the machine at which the request is given up."""


class Requests:
    """The requests without an answer, by their numbers.

    :param queue: the queue with the requests that wait for a connection.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._open: dict[int, Request] = {}
        self._sent: set[int] = set()
        self._numbers = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._open)

    def new_number(self) -> int:
        """Return the number of a new request."""
        return next(self._numbers)

    def open(
        self,
        resolve: Callable[[Any], object],
        reject: Callable[[HubThreadError], object],
        deadline: float = math.inf,
        number: int | None = None,
    ) -> int:
        """Keep a new request, and return its number."""
        number = self.new_number() if number is None else number
        self._open[number] = Request(resolve, reject, deadline)
        return number

    def note_sent(self, number: int) -> None:
        """Note that a request was sent, and is lost if the connection ends."""
        self._sent.add(number)

    def forget(self, number: int) -> None:
        """Wait no more for an answer, and do not send the request if it waits."""
        if self._open.pop(number, None) is not None:
            self._sent.discard(number)
            self._queue.forget(number)

    def take_answer(self, message: Mapping[str, Any]) -> None:
        """Take an answer."""
        number = message.get("reply")
        request = self._open.get(number) if type(number) is int else None
        if request is None or number is None:
            return
        self.forget(number)
        if "error" in message:
            request.reject(Refused(str(message["error"])))
        else:
            request.resolve(message)

    def due(self) -> float:
        """Return the time at which the next request is given up."""
        return min((each.deadline for each in self._open.values()), default=math.inf)

    def expire(self, now: float) -> None:
        """Give up the requests whose time is over."""
        for number, request in list(self._open.items()):
            if request.deadline <= now and number in self._open:
                self.forget(number)
                request.reject(TimedOut("no answer came in time"))

    def lose_sent(self) -> None:
        """Give up the requests that were sent, because their answers are lost."""
        for number in list(self._sent):
            request = self._open.get(number)
            self.forget(number)
            self._sent.discard(number)
            if request is not None:
                request.reject(Lost("the connection ended before the answer"))

    def lose_all(self, reason: str) -> None:
        """Give up every request."""
        for number, request in list(self._open.items()):
            self.forget(number)
            request.reject(Lost(reason))
