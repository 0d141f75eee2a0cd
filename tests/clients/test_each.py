"""``each_client`` of hubs, hotlines and ticking rooms: order, waits, results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import (
    ExecTimeout,
    FrameControl,
    Hotline,
    HotlineFrameOption,
    HubClosed,
    Iteration,
    QueueFull,
    UsageError,
    WrongThread,
)
from hubthread.clients.each import EachClient
from hubthread.core.core import Core
from tests.support import TIMEOUT, AnyClient, AnyHub, Items, Serving, in_thread, serving

Owner = Callable[[Serving], Any]


def the_hub(served: Serving) -> AnyHub:
    return served.hub


def a_hotline(served: Serving) -> Hotline[Any, Any]:
    """Return a hotline with all clients."""
    hotline = served.hub.hotline()
    for client in served.hub.clients():
        hotline.answer(client)
    return hotline


def a_room_with_a_clock(served: Serving) -> FrameControl[Any]:
    return HotlineFrameOption[dict[str, Any]](dict).run(a_hotline(served))


each_owner = pytest.mark.parametrize("owner", [the_hub, a_hotline, a_room_with_a_clock])


def who(client_id: Any, ctx: Any, meta: Any) -> Any:
    return client_id, ctx, meta


class Held:
    """A closure that keeps a client or the hub busy until ``go`` is set."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()

    def __call__(self, *_: object) -> None:
        self.begun.set()
        assert self.go.wait(TIMEOUT)

    def hold(self, executor: Any) -> Held:
        executor.exec_async(self)
        assert self.begun.wait(TIMEOUT)
        return self


@each_owner
def test_each_client_returns_result_of_each(owner: Owner) -> None:
    with serving(on_handshake=lambda request: request.path) as served:
        clients = [served.pair(path=path)[1] for path in ("/a", "/b", "/c")]
        iteration = owner(served).each_client(who)
        assert iteration.done
        assert iteration.results == {
            client.connection_id: (client.connection_id, client, client.meta) for client in clients
        }
        assert (iteration.errors, iteration.gone) == ({}, [])
        assert [client.meta for client in clients] == ["/a", "/b", "/c"]


def test_each_client_of_hotline_visits_members() -> None:
    """A closed hotline has none."""
    with serving() as served:
        inside, outside = (client for _, client in served.pairs(2))
        hotline = a_hotline(served)
        hotline.hangup(outside)
        assert list(hotline.each_client(who).results) == [inside.connection_id]
        hotline.close()
        assert hotline.each_client(who).results == {}
        assert hotline.each_client(who, wait_hub=False).wait(TIMEOUT).done


@each_owner
def test_each_client_task_raises_is_kept_and_logged(owner: Owner) -> None:
    with serving() as served:
        clients = [client for _, client in served.pairs(3)]
        wrong = clients[1].connection_id
        error = LookupError("tripped")

        def task(client_id: Any, ctx: Any, meta: Any) -> str:
            if client_id == wrong:
                raise error
            return "fine"

        for wait_hub in (True, False):
            iteration = owner(served).each_client(task, wait_hub=wait_hub).wait(TIMEOUT)
            assert iteration.errors == {wrong: error}
            assert iteration.errors[wrong] is error
            assert set(iteration.results.values()) == {"fine"}
            assert len(iteration.results) == 2
            assert "2 results, 1 errors" in repr(iteration)
        logged = [each for each in served.logs.warnings() if "tripped" in each]
        assert len(logged) == 1
        assert repr(clients[1]) in logged[0]


@each_owner
def test_each_client_task_keeps_order_of_client(owner: Owner) -> None:
    """A busy client does not delay others."""
    order = Items[str]()
    with serving() as served:
        busy, _ = (client for _, client in served.pairs(2))
        held = Held().hold(busy)
        busy.exec_async(lambda: order.add("before"))

        def task(client_id: Any, ctx: Any, meta: Any) -> None:
            order.add("busy" if ctx is busy else "idle")

        iteration = owner(served).each_client(task, wait_clients=False)
        busy.exec_async(lambda: order.add("after"))
        assert order.wait(1) == ["idle"]
        assert not iteration.done
        held.go.set()
        iteration.wait(TIMEOUT)
        assert order.wait(4) == ["idle", "before", "busy", "after"]


@each_owner
@pytest.mark.parametrize("way", ["context_iter_a_async_exec", "context_iter_a_sync_exec"])
def test_context_iter_a_hub_busy_returns_at_once(owner: Owner, way: str) -> None:
    with serving() as served:
        _, client = served.pair()
        visited = owner(served)
        held = Held().hold(served.hub)
        iteration = getattr(visited, way)(who)
        assert not iteration.done
        assert repr(iteration).startswith("<Iteration not begun")
        held.go.set()
        assert list(iteration.wait(TIMEOUT).results) == [client.connection_id]


@each_owner
def test_context_iter_s_waits_for_hub_only(owner: Owner) -> None:
    order = Items[str]()
    with serving() as served:
        _, client = served.pair()
        visited = owner(served)
        busy = Held().hold(client)
        held = Held().hold(served.hub)
        served.hub.exec_async(lambda _: order.add("hub"))

        def call() -> Iteration[Any]:
            iteration: Iteration[Any] = visited.context_iter_s_async_exec(who)
            order.add("returned")
            return iteration

        calling = in_thread(call)
        held.go.set()
        iteration = calling()
        assert order.now() == ["hub", "returned"]
        assert not iteration.done
        busy.go.set()
        assert iteration.wait(TIMEOUT).done


def test_each_client_snapshot_is_taken_in_hub_order() -> None:
    """A client that comes between the call and the hub's step takes part."""
    with serving() as served:
        held = Held().hold(served.hub)
        iteration = served.hub.context_iter_a_sync_exec(who)
        _, client = served.pair()
        held.go.set()
        assert list(iteration.wait(TIMEOUT).results) == [client.connection_id]
        served.pair()
        assert len(iteration.results) == 1


@each_owner
def test_each_client_leaving_client_runs_task_before_close(owner: Owner) -> None:
    order = Items[str]()
    with serving(on_connection_close=lambda ctx, meta: order.add("close")) as served:
        peer, client = served.pair()
        held = Held().hold(client)
        iteration = owner(served).each_client(
            lambda client_id, ctx, meta: order.add("task"), wait_clients=False
        )
        peer.reset()
        client.context.wait(TIMEOUT)
        held.go.set()
        assert order.wait(2) == ["task", "close"]
        assert iteration.wait(TIMEOUT).gone == []


def test_each_client_left_client_is_gone() -> None:
    """It leaves between the snapshot and the queuing of its task."""
    ended = threading.Event()
    with serving(on_connection_close=lambda ctx, meta: ended.set()) as served:
        (leaving, left), (_, stays) = served.pairs(2)
        leaving.close()
        assert ended.wait(TIMEOUT)

        class Late(EachClient[Any, Any]):
            def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[AnyClient]]]:
                return served.hub._core, lambda: [left, stays]

        iteration = Late().each_client(who)
        assert iteration.gone == [left.connection_id]
        assert list(iteration.results) == [stays.connection_id]
        assert iteration.errors == {}
        assert iteration.done


def test_each_client_full_queue_is_error() -> None:
    with serving(chan_queue_size=2) as served:
        full, free = (client for _, client in served.pairs(2))
        held = Held().hold(full)
        for _ in range(2):
            full.exec_async(lambda: None)
        iteration = served.hub.each_client(who)
        assert isinstance(iteration.errors[full.connection_id], QueueFull)
        assert list(iteration.results) == [free.connection_id]
        held.go.set()


@each_owner
def test_each_client_timeout_has_stack_of_client(owner: Owner) -> None:
    """The tasks still run, and the caller may wait again."""
    with serving() as served:
        clients = [client for _, client in served.pairs(2)]
        held = Held().hold(clients[0])
        visited = owner(served)
        timeout, told = 0.05, ""
        while "in __call__" not in told:  # until the step of the hub is done in less than that
            assert timeout < TIMEOUT
            with pytest.raises(ExecTimeout) as late:
                visited.each_client(who, timeout=timeout)
            timeout, told = 2 * timeout, str(late.value)
        iteration = visited.each_client(who, wait_clients=False, timeout=TIMEOUT)
        for _ in range(2):
            with pytest.raises(ExecTimeout, match="in __call__"):
                iteration.wait(0.01)
        held.go.set()
        assert len(iteration.wait(TIMEOUT).results) == 2


def test_each_client_timeout_includes_hub_step() -> None:
    with serving() as served:
        held = Held().hold(served.hub)
        for wait_clients in (True, False):
            with pytest.raises(ExecTimeout, match="in __call__"):
                served.hub.each_client(who, wait_clients=wait_clients, timeout=0.01)
        iteration = served.hub.each_client(who, wait_hub=False)
        with pytest.raises(ExecTimeout):
            iteration.wait(0.01)
        held.go.set()
        assert iteration.wait(TIMEOUT).done


@each_owner
def test_each_client_wait_on_hub_thread_is_refused(owner: Owner) -> None:
    """Without ``wait_clients`` the tasks are queued at once."""
    with serving() as served:
        _, client = served.pair()
        visited = owner(served)
        with pytest.raises(WrongThread, match="each_client"):
            served.hub.exec_sync(lambda _: visited.each_client(who))
        held = Held().hold(client)
        iteration = served.hub.exec_sync(lambda _: visited.context_iter_s_async_exec(who))
        with pytest.raises(WrongThread, match="iteration"):
            served.hub.exec_sync(lambda _: iteration.wait())
        assert client.statistics().closures_waiting == 1
        held.go.set()
        assert iteration.wait(TIMEOUT).done


def test_each_client_wait_in_tick_is_refused() -> None:
    """The call is allowed if it does not wait."""
    with serving() as served:
        _, client = served.pair()
        frame = a_room_with_a_clock(served)
        held = Held().hold(client)  # or the iteration may be done before it is waited for
        for wait in (True, False):
            with pytest.raises(WrongThread, match="tick"):
                frame.exec_sync(
                    lambda frame, obj: frame.each_client(who, wait_hub=wait).wait()  # noqa: B023
                )
        iteration = frame.exec_sync(
            lambda frame, obj: frame.each_client(who, wait_hub=False, wait_clients=False)
        )
        held.go.set()
        assert list(iteration.wait(TIMEOUT).results) == [client.connection_id]


@each_owner
def test_each_client_in_own_callback_runs_task_at_once(owner: Owner) -> None:
    """It runs once; the tasks of the others are waited for."""
    visits = Items[Any]()
    with serving() as served:
        clients = [client for _, client in served.pairs(3)]
        visited = owner(served)

        def task(client_id: Any, ctx: Any, meta: Any) -> None:
            visits.add((client_id, threading.get_ident() == caller.get(client_id)))

        caller: dict[Any, int] = {}

        def callback() -> list[Any]:
            caller[clients[1].connection_id] = threading.get_ident()
            return sorted(visited.each_client(task).results)

        ids = [client.connection_id for client in clients]
        assert clients[1].exec_sync(callback, TIMEOUT) == ids
        clients[1].exec_sync(lambda: None)
        assert sorted(visits.now()) == [(ids[0], False), (ids[1], True), (ids[2], False)]
        assert served.logs.warnings() == []


def test_iteration_second_waiter_is_refused() -> None:
    with serving() as served:
        _, client = served.pair()
        held = Held().hold(client)
        iteration = served.hub.context_iter_a_sync_exec(who)
        refused = Items[BaseException]()

        def wait() -> None:
            try:
                iteration.wait(TIMEOUT)
            except UsageError as error:
                refused.add(error)
                held.go.set()

        waits = [in_thread(wait) for _ in range(2)]
        for wait_for in waits:
            wait_for()
        assert "another thread" in str(refused.wait(1)[0])
        assert iteration.wait(TIMEOUT).done


@each_owner
def test_each_client_hub_closing_runs_accepted_tasks(owner: Owner) -> None:
    """Afterwards ``each_client`` raises."""
    with serving() as served:
        peer, client = served.pair()
        visited = owner(served)
        held = Held().hold(client)
        iteration = visited.context_iter_s_async_exec(who)
        waiting = in_thread(lambda: iteration.wait(TIMEOUT))
        closing = in_thread(lambda: served.hub.close(TIMEOUT))
        assert peer.closed()[0] == 1001
        peer.close()
        held.go.set()
        closing()
        assert list(waiting().results) == [client.connection_id]
        for wait_hub in (True, False):
            with pytest.raises(HubClosed):
                visited.each_client(who, wait_hub=wait_hub)


def test_iteration_hub_stopped_by_bug_raises_hub_closed() -> None:
    def fail() -> None:
        raise AssertionError("a bug")

    with serving() as served:
        held = Held().hold(served.hub)
        served.hub._core.loop.schedule(fail)
        iteration = served.hub.context_iter_a_async_exec(who)
        held.go.set()
        for _ in range(2):
            with pytest.raises(HubClosed, match="a bug"):
                iteration.wait(TIMEOUT)


@pytest.mark.load
def test_each_client_clients_coming_and_going_are_counted_once() -> None:
    with serving() as served:
        stays = served.pair()[1].connection_id
        stop = threading.Event()

        def come_and_go() -> None:
            while not stop.is_set():
                served.peer().close()

        coming = [in_thread(come_and_go) for _ in range(2)]
        for _ in range(50):
            iteration = served.hub.each_client(who, timeout=TIMEOUT)
            assert iteration.done
            ids = [*iteration.results, *iteration.gone]
            assert stays in ids
            assert len(ids) == len(set(ids))
            assert iteration.errors == {}
        stop.set()
        for come in coming:
            come()
