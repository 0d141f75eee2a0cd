"""``each_client``: a task for each client of a hub or a room, in each client's own order.

Layer: clients.  Threads: any thread begins an iteration and waits for it.  The hub thread hands
the task out.  Each client runs the task like any of its callbacks, many clients at once.
Source: the specification's ``ContextIterAAsyncExec``, ``ContextIterASyncExec`` and
``ContextIterSAsyncExec``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_timeout, check_work, refuse_unrun
from hubthread.concurrency.calls import Call
from hubthread.concurrency.deadline import Deadline
from hubthread.errors import ClientClosed, HubClosed, QueueFull, UsageError
from hubthread.net.tick_batch import refuse_in_tick
from hubthread.types import ClientID

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.core.core import Core
    from hubthread.interfaces import IOContext

__all__ = ["EachClient", "Iteration"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class Iteration(Generic[T]):
    """The results of a task for each client, as ``each_client`` returns them.

    An iteration may be read while it runs: each property is a copy of the results so far.  After
    its end every client is in exactly one of ``results``, ``errors`` and ``gone``.

    Threads: every method may be called on any thread; only one thread at a time may ``wait``.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        clients: Callable[[], list[Client[Any, Any]]],
        task: Callable[[ClientID, IOContext, Any], T],
    ) -> None:
        self._core = core
        self._clients = clients
        self._task = task
        self._waiter: int | None = None  # the thread that waits
        # The waiting thread's, once the hub thread has filled ``_visits`` in the step.
        self._step: Call[None] | None = None
        self._step_failure: HubClosed | None = None
        self._visits: deque[_Visit] = deque()
        self._lock = threading.RLock()  # guards what follows
        self._total: int | None = None  # None until the hub thread has handed the task out
        self._results: dict[ClientID, T] = {}
        self._errors: dict[ClientID, BaseException] = {}
        self._gone: list[ClientID] = []

    @classmethod
    def over_nobody(cls, core: Core[Any, Any]) -> Iteration[T]:
        """Return an iteration over no client, which is done."""

        def task(client_id: ClientID, ctx: IOContext, meta: Any) -> T:
            raise AssertionError("there is no client to run it for")

        iteration = cls(core, list, task)
        iteration._hand_out(None)
        return iteration

    @property
    def results(self) -> dict[ClientID, T]:
        """The results of the tasks that have returned, in the order of their ends."""
        with self._lock:
            return dict(self._results)

    @property
    def errors(self) -> dict[ClientID, BaseException]:
        """The exceptions of the tasks that have raised.

        ``QueueFull`` means that the task was not run, because ``chan_queue_size`` closures of
        that client were waiting.
        """
        with self._lock:
            return dict(self._errors)

    @property
    def gone(self) -> list[ClientID]:
        """The clients that left before their task was queued."""
        with self._lock:
            return list(self._gone)

    @property
    def done(self) -> bool:
        """True once all tasks have ended."""
        with self._lock:
            return self._left() == 0

    def wait(self, timeout: float | None = None) -> Iteration[T]:
        """Wait until all tasks have ended.

        In a callback of one of the clients, the task of that client runs at once: in its place
        it would come after the callback, which waits.

        :param timeout: seconds for all tasks together; None waits without limit.
        :returns: the iteration itself.
        :raises ExecTimeout: if the time is up; its text has the stack of the late client or of
            the hub thread.  The tasks still run, and the thread may wait again.
        :raises DeadlockError: if the hub or a client waits for this thread; the thread may wait
            again, as after ``ExecTimeout``.
        :raises WrongThread: on the hub thread and in a tick, because all clients would wait too.
        :raises HubClosed: if a bug has stopped the hub before it handed the task out.
        :raises UsageError: if another thread waits for this iteration.
        """
        check_timeout(timeout)
        if self.done:
            return self
        self._core.loop.refuse_here("waiting for an iteration")
        refuse_in_tick("waiting for an iteration")
        deadline = Deadline(timeout)
        with self._lock:
            if self._waiter not in (None, threading.get_ident()):
                raise UsageError("another thread waits for this iteration: let one wait for all")
            self._waiter = threading.get_ident()
        try:
            self._wait_handed_out(deadline)
            while self._visits:
                self._visits[0].wait(deadline.left())
                self._visits.popleft()
        finally:
            self._waiter = None
        return self

    def hand_out(self, wait: bool, deadline: Deadline) -> None:
        """Let the hub thread queue the task for each client.

        :param wait: True returns after the tasks are queued, False at once.
        """
        loop = self._core.loop
        if wait and loop.is_here():
            self._hand_out(None)
            return
        self._step = loop.submit(self._hand_out)
        if wait:
            self._wait_handed_out(deadline)

    def _wait_handed_out(self, deadline: Deadline) -> None:
        if self._step_failure is not None:
            raise self._step_failure
        if self._step is not None:
            try:
                self._step.result(self._core.loop, self._core.loop.name, deadline.left())
            except HubClosed as error:
                self._step_failure = error
                raise
            self._step = None

    # On the hub thread.

    def _hand_out(self, _: object) -> None:
        clients = self._clients()
        with self._lock:
            self._total = len(clients)
        for client in clients:
            visit = _Visit(client, self._run)
            try:
                client.exec_async(visit.run)
            except ClientClosed:
                with self._lock:
                    self._gone.append(client.connection_id)
            except QueueFull as error:
                self._fail(client, error)
            else:
                self._visits.append(visit)

    # On the thread that runs a client's callbacks.

    def _run(self, client: Client[Any, Any]) -> None:
        client_id = client.connection_id
        try:
            result = self._task(client_id, client, client.meta)
            if result is not None:
                refuse_unrun(result)
        except BaseException as error:  # noqa: BLE001 - logged, and kept for the caller
            client.note(error)
            self._fail(client, error)
        else:
            with self._lock:
                self._results[client_id] = result

    def _fail(self, client: Client[Any, Any], error: BaseException) -> None:
        with self._lock:
            self._errors[client.connection_id] = error
        self._core.incidents.log_exception(error, "the task for each client raised for %r", client)

    def _left(self) -> int | None:
        """Return the number of tasks that have not ended.  The caller holds the lock."""
        if self._total is None:
            return None
        return self._total - len(self._results) - len(self._errors) - len(self._gone)

    def __repr__(self) -> str:
        with self._lock:
            left = self._left()
            state = "not begun" if left is None else f"{left} left"
            return (
                f"<Iteration {state}, {len(self._results)} results, {len(self._errors)} errors, "
                f"{len(self._gone)} gone>"
            )


class _Visit:
    """The task of one client.

    Threads: ``run`` is called in the client's order, which also guards ``_begun``.
    """

    __slots__ = ("_begun", "_call", "_client")

    def __init__(self, client: Client[Any, Any], run: Callable[[Client[Any, Any]], None]) -> None:
        self._client = client
        self._call = Call(lambda: run(client))
        self._begun = False

    def run(self) -> None:
        """Run the task, unless it has run."""
        if not self._begun:
            self._begun = True
            self._call.run()

    def wait(self, timeout: float | None) -> None:
        """Wait for the end of the task; in a callback of the client itself, run it."""
        if self._client.is_here():
            self.run()
        self._client.wait_for(self._call, timeout)


class EachClient(Generic[Meta, Header]):
    """The ``each_client`` of a hub (for all clients) and of a room (for its members)."""

    __slots__ = ()

    def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[Client[Meta, Header]]]]:
        raise NotImplementedError

    def each_client(
        self,
        task: Callable[[ClientID, IOContext, Meta], T],
        *,
        wait_hub: bool = True,
        wait_clients: bool = True,
        timeout: float | None = None,
    ) -> Iteration[T]:
        """Run ``task(client_id, ctx, meta)`` for each client, in that client's own order.

        The hub thread takes a snapshot of the clients (of a room: its members) and queues the
        task for each.  Later arrivals are not included.  Clients that left before their task was
        queued are listed in ``gone``; clients that leave afterwards still run it, before their
        close callback.

        An exception of a task is logged and kept in ``errors``; the other clients go on.  A slow
        client delays only its own task.

        :param task: it may run on another thread than the client's callbacks, so thread-local
            state, such as a connection of ``sqlite3``, is not there.
        :param wait_hub: return when all tasks are queued; otherwise return at once.
        :param wait_clients: with ``wait_hub``, return when all tasks have ended.  Without
            ``wait_hub`` it waits for nothing: call ``wait`` of the iteration.
        :param timeout: seconds for the waits of this call; None waits without limit.
        :raises HubClosed: if the hub is closed; no task is run.
        :raises QueueFull: if ``chan_queue_size`` closures wait for the hub; no task is run.
        :raises DeadlockError: see ``Iteration.wait``.
        :raises ExecTimeout: see ``Iteration.wait``.
        :raises WrongThread: with ``wait_clients``, on the hub thread and in a tick.  With
            ``wait_hub`` alone the hub thread queues the tasks at once.
        """
        check_work(task, ("client_id", "ctx", "meta"))
        check_timeout(timeout)
        core, clients = self._to_visit()
        deadline = Deadline(timeout)
        if wait_hub and wait_clients:
            core.loop.refuse_here("each_client with wait_clients")
            refuse_in_tick("each_client with wait_clients")
        iteration = Iteration(core, clients, task)
        iteration.hand_out(wait_hub, deadline)
        if wait_hub and wait_clients:
            iteration.wait(deadline.left())
        return iteration

    def context_iter_a_async_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """Call ``each_client`` without any waiting (``ContextIterAAsyncExec``)."""
        return self.each_client(task, wait_hub=False, wait_clients=False)

    def context_iter_a_sync_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """Call ``each_client`` without waiting; the caller waits for the iteration later.

        In the specification's ``ContextIterASyncExec`` the hub itself waits for one client after
        another.  Here only the caller ever waits, in ``Iteration.wait``.
        """
        return self.each_client(task, wait_hub=False, wait_clients=True)

    def context_iter_s_async_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """Call ``each_client`` and wait only for the hub (``ContextIterSAsyncExec``)."""
        return self.each_client(task, wait_hub=True, wait_clients=False)
