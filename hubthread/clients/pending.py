"""The requests to one client that wait for their answers.

Layer: clients.  Threads: any thread sends a request and waits.  Answers arrive in the client's
own order, most on its reader thread.  The end of the connection ends every wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from hubthread.concurrency.calls import Call
from hubthread.errors import (
    ClientClosed,
    ExecTimeout,
    HubThreadError,
    PayloadError,
    QueueFull,
)
from hubthread.matcher.formats import ID
from hubthread.matcher.matcher import Answer

if TYPE_CHECKING:
    from hubthread.concurrency.timers import Timer, Timers

__all__ = ["Followed", "PendingRequests"]


Question: TypeAlias = "Callable[[int], str | bytes]"
"""A function that returns the message of the request with that number."""


class Asked(Protocol):
    """The client that is asked."""

    def write(self, data: str | bytes) -> int:
        """Send a message."""

    def wait_for(self, call: Call[Any], timeout: float | None) -> Any:
        """Wait for the result of ``call``."""


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
        self._open: dict[ID, Request] = {}
        self._last = 0
        self._closed = False

    def open(self, request: Request) -> int:
        """Keep a new request, and return its number.

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
            self._open[self._last] = request
            return self._last

    def wait(self, client: Asked, question: Question, timeout: float) -> Any:
        """Send a request and return the answer.

        :raises ExecTimeout: after ``timeout`` seconds.
        """
        awaited = Awaited()
        number = self.open(awaited)
        try:
            client.write(question(number))
            return client.wait_for(awaited.call, timeout)
        finally:
            self.forget(number)

    def follow(
        self,
        client: Asked,
        question: Question,
        timeout: float,
        followed: Followed,
        timers: Timers,
    ) -> None:
        """Send a request and return at once."""
        number = self.open(followed)
        followed.timer = timers.set(timeout, lambda: self.expire(number, timeout))
        try:
            client.write(question(number))
        except BaseException:
            self.forget(number)
            raise

    def answer(self, answer: Answer) -> bool:
        """Hand ``answer`` to its request; return False if none waits."""
        with self._lock:
            request = self._open.pop(answer.number, None)
        if request is None:
            return False
        request.answer(answer)
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
            request.fail(ClientClosed(f"{self._name} left before it answered"))

    def expire(self, number: int, timeout: float) -> None:
        """End a request that has no answer after ``timeout`` seconds with ``ExecTimeout``."""
        with self._lock:
            request = self._open.pop(number, None)
        if request is not None:
            request.fail(ExecTimeout(f"{self._name} gave no answer within {timeout:.4g} s"))


class Request(Protocol):
    """One open request.  Exactly one of its methods is called, once."""

    def answer(self, answer: Answer) -> None:
        """Take the answer.  In the client's order."""

    def fail(self, error: HubThreadError) -> None:
        """Take the reason that there is no answer.  Any thread."""


class Awaited:
    """A request whose thread waits for ``call``."""

    __slots__ = ("_answer", "call")

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self.call: Call[Any] = Call(lambda: self._answer)

    def answer(self, answer: Answer) -> None:
        """See ``Request``."""
        self._answer = answer
        self.call.run()

    def fail(self, error: HubThreadError) -> None:
        """See ``Request``."""
        self.call.abandon(error)


class Followed:
    """A request whose answer a function gets, in the client's order.

    :param load: converts the answer; raises ``PayloadError``.
    :param then: called with the answer, or with the error in its place.
    :param post: runs a closure in the client's order.
    """

    __slots__ = ("_load", "_post", "_then", "timer")

    def __init__(
        self,
        load: Callable[[Answer], Any],
        then: Callable[[Any], object],
        post: Callable[[Callable[[], object]], object],
    ) -> None:
        self._load = load
        self._then = then
        self._post = post
        self.timer: Timer | None = None

    def answer(self, answer: Answer) -> None:
        """See ``Request``."""
        self._release()
        try:
            result = self._load(answer)
        except PayloadError as error:
            result = error
        self._then(result)

    def fail(self, error: HubThreadError) -> None:
        """See ``Request``."""
        self._release()
        self._post(lambda: self._then(error))

    def _release(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
