"""A hub in a child that was forked from its process: it refuses calls, and touches nothing."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import HotlineFrameOption, Hub, HubSetting, LongPollingOption, UsageError
from hubthread.concurrency import calls
from hubthread.hub.fork import _renew_locks
from tests.support import TIMEOUT, Items, Serving, serving

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child; fail if it raises there, with its traceback."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - goes to the parent
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as told:
        trouble = told.read()
    os.waitpid(child, 0)
    assert trouble == ""


def is_refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except UsageError as error:
        return "before this one was forked" in str(error)
    return False


Calls = dict[str, Callable[[], object]]


def calls_of(s: Serving, client: Any) -> Calls:
    """Return each call that would be accepted and go nowhere."""
    hub: Hub[Any, Any] = s.hub
    plain, hotline = hub.hotline(), hub.hotline()
    frame: Any = HotlineFrameOption(dict, hz=10, logic=lambda frame, obj: None).run(hotline)
    plain.answer(client)
    frame.answer(client)
    countdown = frame.operation_timeout(60, lambda frame, obj: None)
    gate = frame.await_inputs([client], 60, 0)
    poll = hub.long_polling(LongPollingOption(lambda hub, done: None, 60))
    iteration = hub.each_client(lambda *_: None, wait_clients=False, timeout=TIMEOUT)
    iteration.wait(TIMEOUT)
    return {
        "hub.broadcast": lambda: hub.broadcast("x"),
        "hub.broadcast_with_filter": lambda: hub.broadcast_with_filter("x", lambda *_: True),
        "hub.exec_async": lambda: hub.exec_async(lambda dhub: None),
        "hub.exec_sync": lambda: hub.exec_sync(lambda dhub: None, 0.1),
        "hub.each_client": lambda: hub.each_client(lambda *_: None, timeout=0.1),
        "hub.hotline": hub.hotline,
        "hub.serve": hub.serve,
        "hub.start": hub.start,
        "hub.start_once": hub.start_once,
        "hub.join": hub.join,
        "hub.long_polling": lambda: hub.long_polling(LongPollingOption(lambda hub, done: None, 1)),
        "poll.wait": poll.wait,
        "room.push": lambda: plain.push("x"),
        "room.push_json": lambda: plain.push_json({}),
        "room.answer": lambda: plain.answer(client),
        "room.hangup": lambda: plain.hangup(client),
        "room.close": plain.close,
        "room.close_if_empty": plain.close_if_empty,
        "room.wait_push_consumed": lambda: plain.wait_push_consumed(1),
        "room.each_client": lambda: plain.each_client(lambda *_: None, timeout=0.1),
        "the hotline below a ticking room": lambda: hotline.push("x"),
        "frame.push": lambda: frame.push("x"),
        "frame.exec_async": lambda: frame.exec_async(lambda frame, obj: None),
        "frame.exec_sync": lambda: frame.exec_sync(lambda frame, obj: None, 0.1),
        "frame.pause": frame.pause,
        "frame.resume": frame.resume,
        "frame.operation_timeout": lambda: frame.operation_timeout(1, lambda frame, obj: None),
        "frame.await_inputs": lambda: frame.await_inputs([], 1, 0),
        "frame.close": frame.close,
        "frame.join": frame.join,
        "countdown.done": countdown.done,
        "gate.answer": lambda: gate.answer(client, 1),
        "gate.wait": gate.wait,
        "ctx.write": lambda: client.write("x"),
        "ctx.write_json": lambda: client.write_json({}),
        "ctx.exec_async": lambda: client.exec_async(lambda: None),
        "ctx.exec_sync": lambda: client.exec_sync(lambda: None),
        "ctx.close": client.close,
        "ctx.hub_broadcast": lambda: client.hub_broadcast("x"),
        "ctx.wait_write_consumed": lambda: client.wait_write_consumed(0),
    }


def test_hub_in_forked_child_refuses_each_call_that_would_go_nowhere() -> None:
    with serving() as s:
        peer, client = s.pair()
        refusing = calls_of(s, client)

        def child() -> None:
            assert [name for name, call in refusing.items() if not is_refused(call)] == []

        in_child(child)
        s.hub.broadcast("from the parent")
        assert peer.message() == "from the parent"


def test_hub_in_forked_child_still_has_statistics_and_repr() -> None:
    with serving() as s:
        _, client = s.pair()
        room = s.hub.hotline()
        room.answer(client)

        def child() -> None:
            assert s.hub.statistics().clients == 1
            assert room.statistics().members == 1
            assert client.statistics().written == 0
            assert "1 clients" in repr(s.hub)
            assert "1 members" in repr(room)
            assert s.server.statistics().connections == 1

        in_child(child)


def test_hub_close_in_forked_child_returns_and_leaves_the_sockets_alone() -> None:
    with serving() as s:
        peer, _ = s.pair()

        def child() -> None:
            with s.server:
                pass
            s.hub.context.cancel()
            s.hub.close()
            with pytest.raises(SystemExit):
                sys.exit()

        in_child(child)
        s.hub.broadcast("still here")
        assert peer.message() == "still here"
        s.peer()
        s.came()
        assert s.hub.statistics().clients == 2


def test_new_hub_in_forked_child_works() -> None:
    """Also one that was made before the fork and not started."""
    early = Hub[Any, Any](HubSetting(dict))
    with serving():

        def child() -> None:
            for hub in (early, Hub[Any, Any](HubSetting(dict))):
                hub.start()
                assert hub.exec_sync(lambda dhub: 1, TIMEOUT) == 1
                hub.close()

        in_child(child)
    early.close()


def test_hub_in_forked_child_is_refused_while_its_locks_are_held() -> None:
    """Threads of the parent that held them are not there to release them."""
    with serving() as s:
        _, client = s.pair()
        room = s.hub.hotline()
        held, release = threading.Event(), threading.Event()
        locks = (room._log._lock, client._strand._lock, s.hub._core.registry._lock)

        def hold() -> None:
            with locks[0], locks[1], locks[2], calls._table_lock:
                held.set()
                release.wait(TIMEOUT)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(TIMEOUT)

        def child() -> None:
            for call in (lambda: room.push("x"), lambda: client.exec_async(print)):
                with pytest.raises(UsageError):
                    call()
            assert s.hub.statistics().hotlines == 1
            with Hub[Any, Any](HubSetting(dict)) as hub:  # the child's own
                assert hub.exec_sync(lambda dhub: 1, TIMEOUT) == 1

        in_child(child)
        release.set()
        thread.join()


def test_renew_locks_keeps_conditions_on_their_lock() -> None:
    class Part:
        def __init__(self) -> None:
            self.lock = threading.RLock()
            self.shared = threading.Condition(self.lock)
            self.own = threading.Condition()

    part = Part()
    before = part.lock, part.shared, part.own
    _renew_locks(part)
    assert part.lock is not before[0]
    assert part.shared is not before[1]
    assert part.own is not before[2]
    with part.shared:
        assert part.lock._is_owned()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("tick_threads")
def test_fork_in_a_tick_leaves_the_rooms_with_the_parent() -> None:
    pids, ticks = Items[int](), Items[int]()

    def fork(frame: Any, obj: Any) -> None:
        if not obj:
            pid = obj["child"] = os.fork()
            if pid == 0:
                os._exit(7)
            pids.add(pid)
        ticks.add(frame.hotline_id)

    with serving() as s:
        option = HotlineFrameOption[Any](dict, fork, hz=50)
        rooms = [option.run(s.hub.hotline()) for _ in range(2)]
        for pid in pids.wait(2):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        for room in rooms:
            before = len(ticks.now())
            number = room.hotline_id
            ticks.until(lambda seen, n=number, at=before: seen[at:].count(n) > 2)  # type: ignore[misc]
