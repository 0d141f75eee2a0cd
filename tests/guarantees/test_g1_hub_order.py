"""G1: an accepted closure runs exactly once, on the hub thread, in the order of acceptance."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hubthread import DHub, Hub, HubClosed, HubSetting, InternalError, QueueFull
from tests.support import TIMEOUT, Items, Logs, fence, in_thread, serving, together


def test_hub_closures_run_once_in_the_order_of_acceptance() -> None:
    """The order holds for each of several threads."""
    ran: list[tuple[int, int]] = []
    with Hub(HubSetting[Any, Any](dict)) as hub:

        def submit(number: int) -> None:
            for step in range(200):
                hub.exec_async(lambda _, step=step: ran.append((number, step)))  # type: ignore[misc]

        together(8, submit)
        fence(hub)
    assert len(ran) == 8 * 200
    for number in range(8):
        assert [step for who, step in ran if who == number] == list(range(200))


def test_hub_closures_run_on_the_hub_thread() -> None:
    """Any thread may submit them, by ``exec_async`` or ``exec_sync``."""
    idents: list[int] = []
    with serving() as s:
        peer, client = s.pair()

        def note(_: DHub[Any, Any]) -> None:
            idents.append(threading.get_ident())

        s.hub.exec_async(note)
        s.hub.exec_sync(note)
        in_thread(lambda: s.hub.exec_sync(note))()
        client.exec_sync(lambda: s.hub.exec_sync(note))
        name = s.hub.exec_sync(lambda _: threading.current_thread().name)
        peer.close()
    assert len(set(idents)) == 1
    assert len(idents) == 4
    assert threading.get_ident() not in idents
    assert name == f"hubthread-{s.hub.name}-hub"


def test_hub_closures_before_the_start_run_first_after_it() -> None:
    ran: list[int] = []
    hub = Hub(HubSetting[Any, Any](dict))
    hub.exec_async(lambda _: ran.append(1))
    hub.exec_async(lambda _: ran.append(2))
    with hub:
        hub.exec_sync(lambda _: ran.append(3))
    assert ran == [1, 2, 3]


def test_hub_never_started_closed_runs_its_closures() -> None:
    ran: list[int] = []
    hub = Hub(HubSetting[Any, Any](dict))
    hub.exec_async(lambda _: ran.append(1))
    hub.close()
    assert ran == [1]


def test_hub_closed_refuses_every_call() -> None:
    """None of the refused closures runs."""
    ran: list[str] = []
    with serving() as s:
        hub = s.hub
    for submit in (
        lambda: hub.exec_async(lambda _: ran.append("async")),
        lambda: hub.exec_sync(lambda _: ran.append("sync")),
        lambda: hub.broadcast("x"),
        lambda: hub.broadcast_with_filter("x", lambda *_: True),
        hub.hotline,
        hub.serve,
    ):
        with pytest.raises(HubClosed):
            submit()
    assert ran == []


def test_hub_closures_racing_with_close_are_refused_or_run() -> None:
    for _ in range(8):
        hub = Hub.started(HubSetting[Any, Any](dict))
        ran: list[tuple[int, int]] = []
        accepted: Items[tuple[int, int]] = Items()
        going = threading.Barrier(5)

        def submit(number: int) -> None:
            going.wait(TIMEOUT)  # noqa: B023
            for step in range(1_000_000):
                try:
                    hub.exec_async(lambda _, step=step: ran.append((number, step)))  # type: ignore[misc] # noqa: B023
                except HubClosed:
                    return
                except QueueFull:
                    continue
                accepted.add((number, step))  # noqa: B023

        waits = [in_thread(lambda number=number: submit(number)) for number in range(4)]  # type: ignore[misc]
        going.wait(TIMEOUT)
        hub.close()
        for wait in waits:
            wait()
        assert sorted(ran) == sorted(accepted.now())
        for number in range(4):
            steps = [step for who, step in ran if who == number]
            assert steps == sorted(steps)


def test_hub_closure_raising_is_logged_and_counted_and_the_next_one_runs() -> None:
    """The log has the traceback."""
    logs = Logs()

    def trip(_: DHub[Any, Any]) -> None:
        raise LookupError("tripped")

    with Hub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        hub.exec_async(trip)
        with pytest.raises(LookupError, match="tripped"):
            hub.exec_sync(trip)
        assert hub.exec_sync(lambda _: "on") == "on"
        assert hub.statistics().closures_failed == 1
        assert hub.statistics().closures_run == 3
    (record,) = logs.warnings()
    assert "a closure raised" in record
    assert "in trip" in record


def test_hub_closure_raising_system_exit_does_not_end_the_hub() -> None:
    logs = Logs()
    with Hub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        hub.exec_async(lambda _: exit(1))
        with pytest.raises(SystemExit):
            hub.exec_sync(lambda _: exit(1))
        assert hub.exec_sync(lambda _: 1) == 1
    assert "SystemExit" in logs.warnings()[0]


def test_hub_with_a_bug_of_hubthread_ends_and_tells_everyone() -> None:
    """It is logged as critical, waiting callers get an error, and ``join`` raises."""
    held, release = threading.Event(), threading.Event()

    def bug() -> None:
        raise ZeroDivisionError("a bug")

    with serving() as s:
        peer, client = s.pair()
        hotlines = [s.hub.hotline() for _ in range(3)]
        for hotline in hotlines:
            hotline.answer(client)

        def hold(_: DHub[Any, Any]) -> None:
            held.set()
            release.wait(TIMEOUT)

        s.hub.exec_async(hold)
        held.wait(TIMEOUT)
        s.hub._core.loop.schedule(bug)
        submitted = threading.Event()

        def wait() -> None:
            submitted.set()
            s.hub.exec_sync(lambda _: None)

        waiting = in_thread(wait)
        submitted.wait(TIMEOUT)
        release.set()
        with pytest.raises(HubClosed):
            waiting()
        assert peer.closed() == (1001, "the server is going away")
        peer.send_close(1001)
        peer.close()
        with pytest.raises(InternalError) as caught:
            s.hub.join(TIMEOUT)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert s.hub.statistics().state == "failed"
        assert s.hub.statistics().threads == 0
        assert all(hotline.is_closed for hotline in hotlines)
        with pytest.raises(HubClosed):
            s.hub.exec_async(lambda _: None)
    assert "a bug in hubthread" in s.logs.wait("ZeroDivisionError")


def test_hub_exec_sync_runs_after_pushes_of_the_same_thread() -> None:
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        for number in range(100):
            assert hotline.push(str(number)) == number + 1
            s.hub.exec_sync(lambda _: None, TIMEOUT)
            assert hotline.is_push_consumed(number + 1)
        assert peer.messages(100) == [str(number) for number in range(100)]
