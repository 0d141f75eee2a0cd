"""``HubSetting.around_callback``: a context manager around each callback of a client."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from hubthread import Hub, HubSetting, MatcherMap
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, in_thread

AnyHub = VirtualHub[Any, Any]


class Around:
    """The hook; ``notes`` has what happened, in order."""

    def __init__(self, swallow: bool = False, fail: bool = False) -> None:
        self.notes: list[str] = []
        self.threads: list[int] = []
        self._swallow = swallow
        self._fail = fail

    @contextlib.contextmanager
    def __call__(self, ctx: Any, meta: Any) -> Iterator[None]:
        self.notes.append(f"enter {ctx.connection_id} {meta}")
        self.threads.append(threading.get_ident())
        try:
            yield
        except BaseException as error:
            self.notes.append(f"exit {error!r}")
            if not self._swallow:
                raise
        else:
            self.notes.append("exit")
            if self._fail:
                raise LookupError("the commit failed")

    def note(self, what: str) -> Any:
        return lambda *args: self.notes.append(what)


def fail(*args: Any) -> None:
    raise ValueError("tripped")


def a_hub(around: Any, **fields: Any) -> AnyHub:
    return VirtualHub(HubSetting[Any, Any](lambda: "meta", around_callback=around, **fields))


@pytest.mark.parametrize("times", [False, True])
def test_around_callback_is_around_each_callback_of_a_client(times: bool) -> None:
    around = Around()
    note = around.note
    matcher = MatcherMap[Any, Any](handlers={"a": lambda ctx, meta: note("handler")()})
    hub = a_hub(
        around,
        on_connection_start=note("start"),
        receive_matcher=matcher,
        on_receive_message=note("intercept"),
        on_connection_close=note("close"),
        callback_times=times,
    )
    with hub:
        client = hub.connect()
        client.send_json({"type": "a"})
        client.ctx.exec_async(note("async"))
        client.ctx.exec_sync(note("sync"))
        hub.each_client(note("each"))
        client.ctx.context.add_callback(note("cancelled"))
        client.close()
        hub.settle()
    (enter,) = {each for each in around.notes if each.startswith("enter")}
    assert enter == "enter 1 meta"
    assert " ".join(around.notes).replace(enter, "(").replace("exit", ")") == (
        "( start ) ( intercept handler ) ( async ) ( sync ) ( each ) ( cancelled ) ( close )"
    )


def test_around_callback_gets_what_the_callback_raised() -> None:
    """Also what ``receive_matcher_error`` has handled: the manager may have to roll back."""
    around = Around()
    matcher = MatcherMap[Any, Any](handlers={"a": fail})
    hub = a_hub(
        around,
        receive_matcher=matcher,
        receive_matcher_error=around.note("handled"),
        on_connection_close=fail,
    )
    with hub:
        client = hub.connect()
        del around.notes[:]
        client.send_json({"type": "a"})
        client.ctx.exec_async(fail)
        hub.settle()
        with pytest.raises(ValueError, match="tripped"):
            client.ctx.exec_sync(fail)
        assert list(hub.each_client(fail).errors) == [1]
        client.close()
        hub.settle()
    exits = [each for each in around.notes if not each.startswith("enter")]
    assert exits == ["handled", *["exit ValueError('tripped')"] * 5]


def test_around_callback_that_swallows_ends_the_exception() -> None:
    around = Around(swallow=True)
    matcher = MatcherMap[Any, Any](handlers={"a": fail})
    with a_hub(around, on_connection_start=fail, receive_matcher=matcher) as hub:
        client = hub.connect()
        client.send_json({"type": "a"})
        assert client.ctx.exec_sync(fail) is None
        assert client.close_code is None
        assert [str(error) for error in hub.errors] == ["tripped"]  # of the handler: it is logged


def test_around_callback_whose_end_raises_is_logged_or_told() -> None:
    around = Around(fail=True)
    hub = a_hub(around, on_receive_message=lambda ctx, meta: ctx.write("answer"))
    with hub:
        client = hub.connect()
        assert client.close_code == 1011
    with a_hub(around, receive_matcher_error=around.note("handled")) as hub:
        around._fail = False
        client = hub.connect()
        around._fail = True
        client.send("a")
        with pytest.raises(LookupError, match="the commit"):
            client.ctx.exec_sync(lambda: None)
        assert client.close_code is None
        assert [type(error) for error in hub.errors] == [LookupError]
    assert "handled" not in around.notes


@pytest.mark.parametrize("result", [None, 5, fail])
def test_around_callback_that_returns_no_manager_runs_no_callback(result: object) -> None:
    ran: list[object] = []
    hub = a_hub(lambda ctx, meta: result, on_connection_start=lambda ctx, meta: ran.append(1))
    with hub:
        assert hub.connect().close_code == 1011
    assert ran == []


def test_around_callback_is_not_entered_again_in_the_clients_own_turn() -> None:
    """What ends with the inner manager, such as a session, would be missed by the callback."""
    around = Around()
    with a_hub(around) as hub:
        ctx = hub.connect().ctx
        del around.notes[:]
        ctx.exec_sync(lambda: ctx.exec_sync(around.note("inner")))
    assert around.notes[:3] == ["enter 1 meta", "inner", "exit"]


def test_exec_sync_with_around_callback_never_runs_on_the_calling_thread() -> None:
    """The thread may have a session of its own, as that of a view."""
    around = Around()
    started = threading.Event()
    setting = HubSetting[Any, Any](
        dict, around_callback=around, on_connection_start=lambda ctx, meta: started.set()
    )
    with Hub(setting) as hub, connect(hub.serve().url):
        assert started.wait(TIMEOUT)
        caller: list[int] = []

        def call() -> None:
            caller.append(threading.get_ident())
            (client,) = hub.clients()
            client.exec_sync(lambda: None)

        in_thread(call)()
        assert around.threads[1] != caller[0]
