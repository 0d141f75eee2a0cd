"""A task for each client of a hub or a hotline, in each client's own order.

Layer: hub.  Threads: any begins and waits; the hub thread hands the task out; each client's
task runs like any callback of that client, so many at once.
Source: the specification's ``ContextIterAAsyncExec``, ``ContextIterASyncExec`` and
``ContextIterSAsyncExec``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_work
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
    """What became of a task for each client: made by ``each_client``.

    It can be looked at while it runs: each property is a copy of what there is by then.

    Threads: everything from any; ``wait`` from one at a time.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        members: Callable[[], list[Client[Any, Any]]],
        task: Callable[[ClientID, IOContext, Any], T],
    ) -> None:
        self._core = core
        self._members = members
        self._task = task
        # Of the one thread that waits.
        self._step: Call[None] | None = None
        self._unwaited: list[_Visit[T]] | None = None
        self._failure: HubClosed | None = None
        self._lock = threading.Lock()  # guards what follows
        self._waited_for = False
        self._visits: list[_Visit[T]] = []
        self._left: int | None = None  # of the tasks; None: not handed out yet
        self._results: dict[ClientID, T] = {}
        self._errors: dict[ClientID, BaseException] = {}
        self._gone: list[ClientID] = []

    @classmethod
    def over_nobody(cls, core: Core[Any, Any]) -> Iteration[T]:
        """One that is done."""

        def task(client_id: ClientID, ctx: IOContext, meta: Any) -> T:
            raise AssertionError("there is nobody to run it for")

        iteration = cls(core, list, task)
        iteration._hand_out(None)
        return iteration

    @property
    def results(self) -> dict[ClientID, T]:
        """What the tasks have returned, in the order in which they ended."""
        with self._lock:
            return dict(self._results)

    @property
    def errors(self) -> dict[ClientID, BaseException]:
        """What the tasks have raised.

        ``QueueFull`` stands for a task that was not run, because ``chan_queue_size``
        closures waited for that client already.
        """
        with self._lock:
            return dict(self._errors)

    @property
    def gone(self) -> list[ClientID]:
        """Clients that left before they could be given the task."""
        with self._lock:
            return list(self._gone)

    @property
    def done(self) -> bool:
        """Whether all tasks have ended."""
        with self._lock:
            return self._left == 0

    def wait(self, timeout: float | None = None) -> Iteration[T]:
        """Wait until every task has ended; the iteration itself.

        In a callback of a client that the iteration is for, that client's task runs at
        once: it would come after the callback, which waits.

        :param timeout: seconds for all together.
        :raises ExecTimeout: with the stack of what is waited for; the tasks still run, and
            one may wait again.
        :raises DeadlockError: when the hub or a client waits for this thread; likewise.
        :raises WrongThread: on the hub thread and in a tick, where everybody would wait too.
        :raises HubClosed: when a bug has stopped the hub before the tasks were handed out.
        :raises UsageError: when another thread waits for it already.
        """
        if self.done:
            return self
        self._core.loop.refuse_here("waiting for an iteration")
        refuse_in_tick("waiting for an iteration")
        deadline = Deadline(timeout)
        with self._waiting():
            self._wait_handed_out(deadline.left())
            visits = self._unwaited
            assert visits is not None
            while visits:
                visits[-1].wait(deadline.left())
                visits.pop()
        return self

    def hand_out(self, wait: bool, timeout: float | None) -> None:
        """Give each client its task, on the hub thread."""
        loop = self._core.loop
        if wait and loop.is_here():
            self._hand_out(None)
            return
        self._step = loop.submit(self._hand_out)
        if wait:
            with self._waiting():
                self._wait_handed_out(timeout)

    def _wait_handed_out(self, timeout: float | None) -> None:
        if self._failure is not None:
            raise self._failure
        if self._step is not None:
            try:
                self._step.result(self._core.loop, self._core.loop.name, timeout)
            except HubClosed as error:
                self._failure = error
                raise
            self._step = None
        if self._unwaited is None:
            self._unwaited = self._visits[::-1]

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._lock:
            if self._waited_for:
                raise UsageError("another thread waits for this iteration: let one wait for all")
            self._waited_for = True
        try:
            yield
        finally:
            with self._lock:
                self._waited_for = False

    # The hub thread.

    def _hand_out(self, _: object) -> None:
        visits = [_Visit(self, client) for client in self._members()]
        with self._lock:
            self._visits = visits
            self._left = len(visits)
        for visit in visits:
            try:
                visit.client.exec_async(visit.run)
            except (ClientClosed, QueueFull) as error:
                visit.refuse(error)

    # The thread that runs a client's callbacks.

    def _run(self, client: Client[Any, Any]) -> None:
        client_id = client.connection_id
        try:
            result = self._task(client_id, client, client.meta)
        except BaseException as error:  # noqa: BLE001 - logged, and kept for who waits
            client.note(error)
            self._raised(client, error)
        else:
            with self._lock:
                self._results[client_id] = result
                self._count_one()

    def _raised(self, client: Client[Any, Any], error: BaseException) -> None:
        with self._lock:
            self._errors[client.connection_id] = error
            self._count_one()
        self._core.incidents.log_exception(error, "the task for each client raised for %r", client)

    def _left_before(self, client: Client[Any, Any]) -> None:
        with self._lock:
            self._gone.append(client.connection_id)
            self._count_one()

    def _count_one(self) -> None:
        assert self._left is not None
        self._left -= 1

    def __repr__(self) -> str:
        with self._lock:
            state = "not begun" if self._left is None else f"{self._left} left"
            return (
                f"<Iteration {state}, {len(self._results)} results, {len(self._errors)} errors, "
                f"{len(self._gone)} gone>"
            )


class _Visit(Generic[T]):
    """One client's part."""

    __slots__ = ("_begun", "_call", "_iteration", "client")

    def __init__(self, iteration: Iteration[T], client: Client[Any, Any]) -> None:
        self._iteration = iteration
        self.client = client
        self._call = Call(lambda: iteration._run(client))
        self._begun = False  # belongs to who has this client's turn

    def run(self) -> None:
        """Run the task, in the client's turn; once, whoever comes first."""
        if not self._begun:
            self._begun = True
            self._call.run()

    def refuse(self, error: ClientClosed | QueueFull) -> None:
        """Count it as ended: it will not run."""
        if isinstance(error, ClientClosed):
            self._iteration._left_before(self.client)
        else:
            self._iteration._raised(self.client, error)
        self._begun = True
        self._call.abandon(error)

    def wait(self, timeout: float | None) -> None:
        """Wait for its end; in the client's own callback, run it."""
        if self.client.is_here():
            self.run()
        with contextlib.suppress(ClientClosed, QueueFull):  # see refuse
            self.client.wait_for(self._call, timeout)


class EachClient(Generic[Meta, Header]):
    """What a hub and a hotline have in common: clients to go through."""

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

        The hub thread, in the order of its closures, looks who is there (of a hotline: who
        is in) and queues the task among each one's callbacks.  Who comes later has no
        part, who has left by then is ``gone``; one that leaves after it still has its task
        run, before its close callback.  What a task raises is logged and kept in
        ``errors``, and the others go on.  A slow client holds up its own task only.

        :param wait_hub: return when all tasks are queued, else at once.
        :param wait_clients: with ``wait_hub``: return when all tasks have ended, with their
            results and errors.  Without it nothing is waited for here: the iteration
            that is returned has a ``wait``.
        :param timeout: seconds for what is waited for here.
        :raises HubClosed, QueueFull: as ``hub.exec_async``; nothing is done.
        :raises DeadlockError, ExecTimeout, WrongThread: see ``Iteration.wait``.  On the hub
            thread ``wait_hub`` alone queues the tasks at once.
        """
        check_work(task)
        core, members = self._to_visit()
        deadline = Deadline(timeout)
        if wait_hub and wait_clients:
            core.loop.refuse_here("each_client with wait_clients")
            refuse_in_tick("each_client with wait_clients")
        iteration = Iteration(core, members, task)
        iteration.hand_out(wait_hub, timeout)
        if wait_hub and wait_clients:
            iteration.wait(deadline.left())
        return iteration

    def context_iter_a_async_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """``each_client`` without any waiting (``ContextIterAAsyncExec``)."""
        return self.each_client(task, wait_hub=False, wait_clients=False)

    def context_iter_a_sync_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """``each_client`` that returns at once with what can be waited for.

        ``ContextIterASyncExec`` lets the hub itself wait for each client in turn; here
        nobody but the caller ever does, in ``wait``.
        """
        return self.each_client(task, wait_hub=False, wait_clients=True)

    def context_iter_s_async_exec(
        self, task: Callable[[ClientID, IOContext, Meta], T]
    ) -> Iteration[T]:
        """``each_client`` that waits for the hub's step only (``ContextIterSAsyncExec``)."""
        return self.each_client(task, wait_hub=True, wait_clients=False)
