"""What the server has asked one client and waits to be answered.

Layer: hub.  Threads: any asks, and waits; answers come in the client's own order, on its
reader; the end of the connection ends every wait.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hubthread.checks import check_number
from hubthread.concurrency.calls import Call
from hubthread.errors import ClientClosed, DeadlockError, QueueFull, UsageError
from hubthread.matcher.formats import ID
from hubthread.net.tick_batch import refuse_in_tick

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["PendingRequests", "ask"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class PendingRequests:
    """The open questions to one client, by number.

    A number is used once; whoever takes a question out of here, for its answer, its
    time-out or the end of the connection, is the only one to end its wait.

    Threads: any.

    :param bound: how many may be open.
    """

    def __init__(self, bound: int, name: str) -> None:
        self._bound = bound
        self._name = name
        self._lock = threading.Lock()  # guards what follows
        self._open: dict[ID, _Question] = {}
        self._last = 0
        self._closed = False

    def open(self) -> tuple[int, Call[Any]]:
        """A new question: its number, and what waits for its answer.

        :raises ClientClosed: after ``close``.
        :raises QueueFull: when ``bound`` are open.
        """
        with self._lock:
            if self._closed:
                raise ClientClosed(f"{self._name} is closed and answers nothing more")
            if len(self._open) >= self._bound:
                raise QueueFull(
                    f"{self._name}: {self._bound} requests wait for their answers, the bound "
                    f"of chan_queue_size"
                )
            self._last += 1
            question = self._open[self._last] = _Question()
            return self._last, question.call

    def answer(self, number: ID, payload: Any) -> bool:
        """Hand ``payload`` to who waits; false where nobody does (any more)."""
        with self._lock:
            question = self._open.pop(number, None)
        if question is None:
            return False
        question.payload = payload
        question.call.run()
        return True

    def forget(self, number: int) -> None:
        """Nobody waits for that answer any more."""
        with self._lock:
            self._open.pop(number, None)

    def close(self) -> None:
        """The client has gone: end every wait."""
        with self._lock:
            self._closed = True
            questions, self._open = self._open, {}
        for question in questions.values():
            question.call.abandon(ClientClosed(f"{self._name} left without an answer"))


class _Question:
    """One question; ``payload`` is written by who answers, before the call is run."""

    __slots__ = ("call", "payload")

    def __init__(self) -> None:
        self.payload: Any = None
        self.call: Call[Any] = Call(lambda: self.payload)


@overload
def ask(
    client: Client[Meta, Header], header: Header, obj: object, timeout: float = ...
) -> Any: ...
@overload
def ask(
    client: Client[Meta, Header],
    header: Header,
    obj: object,
    timeout: float = ...,
    *,
    into: type[T],
) -> T: ...
def ask(
    client: Client[Meta, Header],
    header: Header,
    obj: object,
    timeout: float = 10.0,
    *,
    into: Any = Any,
) -> Any:
    """Ask the client and return its answer.  See ``IOContext.request``, which it is."""
    check_number("timeout", timeout, 0)
    client.hub.loop.refuse_here("request")
    refuse_in_tick("request")
    if client.is_here():
        raise DeadlockError(
            f"request in a callback of client {client.connection_id} itself, whose answer is "
            f"read when the callback has returned: ask on another thread"
        )
    matcher = client.matcher
    if matcher is None:
        raise UsageError("request: the hub has no receive_matcher to tell answers by")
    load = matcher.answer_as(into)  # what can be no type of an answer is refused here
    questions = client.questions()
    number, call = questions.open()
    try:
        client.write(matcher.question(header, obj, number))
        payload = client.wait_for(call, timeout)
    finally:
        questions.forget(number)
    return load(payload)
