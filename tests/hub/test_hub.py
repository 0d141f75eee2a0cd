"""The public methods of a hub."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    DeadlockError,
    DHub,
    ExecTimeout,
    HotlineFrameOption,
    Hub,
    HubSetting,
    MatcherMap,
    PayloadError,
    QueueFull,
    SettingError,
    UsageError,
    WrongThread,
)
from tests.support import (
    TIMEOUT,
    AnyHub,
    Items,
    Logs,
    in_thread,
    serving,
)


def setting(**fields: Any) -> HubSetting[Any, Any]:
    return HubSetting(meta_gen=dict, **fields)


def test_hub_exec_sync_returns_the_result_or_raises_the_exception() -> None:
    error = LookupError("mine")

    def trip(_: DHub[Any, Any]) -> None:
        raise error

    with Hub(setting()) as hub:
        result = object()
        assert hub.exec_sync(lambda _: result) is result
        with pytest.raises(LookupError) as caught:
            hub.exec_sync(trip)
        assert caught.value is error


def test_hub_exec_sync_on_the_hub_thread_runs_at_once() -> None:
    """A closure may call functions that submit and wait."""
    with Hub(setting()) as hub:
        assert hub.exec_sync(lambda dhub: dhub.hub.exec_sync(lambda _: "inner")) == "inner"


def test_hub_exec_sync_timed_out_shows_the_stack_of_the_hub() -> None:
    """The work still runs later."""
    release, ran = threading.Event(), threading.Event()

    def dawdle(_: DHub[Any, Any]) -> None:
        release.wait(TIMEOUT)

    with Hub(setting()) as hub:
        hub.exec_async(dawdle)
        with pytest.raises(ExecTimeout, match="in dawdle") as caught:
            hub.exec_sync(lambda _: ran.set(), 0.05)
        assert isinstance(caught.value, TimeoutError)
        assert "in dawdle" in caught.value.stack
        release.set()
        assert ran.wait(TIMEOUT)


def test_hub_exec_sync_between_two_hubs_in_a_cycle_is_refused() -> None:
    """The wait that would close the cycle raises; the other waits end with their results."""
    with Hub(setting()) as one, Hub(setting()) as two:

        def back(_: DHub[Any, Any]) -> str:
            with pytest.raises(DeadlockError, match="would never end"):
                one.exec_sync(lambda _: None)
            return "refused"

        assert one.exec_sync(lambda _: two.exec_sync(back)) == "refused"


def test_hub_exec_sync_between_hub_and_client_in_a_cycle_is_refused() -> None:
    """A handler waits for the hub, and the hub's closure for the handler's client."""

    def receive(ctx: Any, meta: Any) -> bool:
        def back(_: Any) -> str:
            try:
                ctx.exec_sync(lambda: None)
            except DeadlockError:
                return "refused"
            return "ran"

        ctx.write(ctx.hub.exec_sync(back))
        return False

    with serving(on_receive_message=receive) as s:
        peer, _ = s.pair()
        peer.send("x")
        assert peer.message() == "refused"


def test_hub_exec_async_with_a_full_queue_is_refused() -> None:
    """The closures that were accepted run."""
    ran: list[int] = []
    hub = Hub(setting(chan_queue_size=3))
    for number in range(3):
        hub.exec_async(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    for _ in range(2):
        with pytest.raises(QueueFull, match="chan_queue_size"):
            hub.exec_async(lambda _: ran.append(9))
    assert hub.statistics().queue_depth == 3
    hub.close()
    assert ran == [0, 1, 2]


def test_hub_broadcast_reaches_every_client() -> None:
    """Text and binary, of the hub or of a client, the sender included."""
    with serving() as s:
        pairs = s.pairs(3)
        assert s.hub.broadcast("text") == 1
        assert s.hub.broadcast(b"binary") == 2
        assert pairs[1][1].hub_broadcast("from one") == 3
        for peer, _ in pairs:
            assert peer.messages(3) == ["text", b"binary", "from one"]
        assert [client.write_count for _, client in pairs] == [3, 3, 3]


def test_hub_broadcast_with_filter_asks_on_the_hub_thread() -> None:
    """A client for which the predicate raises gets nothing, and the exception is logged."""
    idents = set()
    with serving(on_handshake=lambda request: request.path) as s:
        pairs = [s.pair(path=path) for path in ("/yes", "/no", "/trip")]

        def predicate(hub: AnyHub, ctx: Any, meta: str) -> bool:
            assert hub is s.hub
            idents.add(threading.get_ident())
            if meta == "/trip":
                raise LookupError("tripped")
            return meta == "/yes"

        s.hub.broadcast_with_filter("some", predicate)
        s.hub.exec_sync(lambda _: None)
        s.hub.broadcast("all")
        assert pairs[0][0].messages(2) == ["some", "all"]
        assert pairs[1][0].message() == "all"
        assert pairs[2][0].message() == "all"
        assert idents == {s.hub.exec_sync(lambda _: threading.get_ident())}
        assert "tripped" in s.logs.wait("a broadcast filter raised")


def test_hub_given_no_function_refuses_it_at_once() -> None:
    """For example the result of a function in place of the function: nothing is logged later."""
    with serving() as s:
        client: Any = s.pair()[1]
        hub: Any = s.hub
        room: Any = HotlineFrameOption(dict).run(hub.hotline())
        ways = [
            *(each.exec_async for each in (hub, client, room)),
            *(each.exec_sync for each in (hub, client, room)),
            *(each.each_client for each in (hub, room)),
            lambda work: hub.broadcast_with_filter("text", work),
        ]
        for way in ways:
            with pytest.raises(UsageError, match=r"expected a function .*, got None"):
                way(None)
        with pytest.raises(SettingError, match="option: expected a HotlineOption"):
            hub.hotline("lobby")
        for prefix in (None, 5, bytearray(b"p")):
            with pytest.raises(SettingError, match="prefix: expected text or bytes"):
                hub.byte_splicing(prefix, {})
        for reason in (None, b"bye"):
            with pytest.raises(SettingError, match="reason: expected text"):
                client.close(1000, reason)
        assert s.logs.warnings() == []
        assert client.exec_sync(lambda: 5, TIMEOUT) == 5


def test_hub_marshal_unmarshal_and_byte_splicing_follow_the_matcher() -> None:
    """Without a matcher they use JSON.  The result is of the type of the prefix."""
    hub = Hub(setting())
    assert hub.marshal({"a": [1, "ä"]}) == '{"a":[1,"ä"]}'
    assert hub.unmarshal('{"a": 1}', dict[str, int]) == {"a": 1}
    with pytest.raises(PayloadError):
        hub.unmarshal("{", dict)
    assert hub.byte_splicing("p ", [1]) == "p [1]"
    assert hub.byte_splicing(b"p ", [1]) == b"p [1]"
    hub.close()
    matcher = MatcherMap[Any, str](
        marshal=lambda obj: repr(obj).encode(), unmarshal=lambda data, into: into(data)
    )
    hub = Hub(setting(receive_matcher=matcher))
    assert hub.marshal(1) == b"1"
    assert hub.unmarshal("7", int) == 7
    assert hub.byte_splicing("p ", 1) == "p 1"
    hub.close()


def test_hub_made_freezes_its_matcher() -> None:
    """Many threads read the matcher."""
    matcher = MatcherMap[Any, str]()
    hub = Hub(setting(receive_matcher=matcher))
    with pytest.raises(UsageError, match="before the hub starts"):
        matcher.add("x", lambda ctx, meta: None)
    hub.close()


def test_hub_thread_waiting_for_a_socket_is_refused() -> None:
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()
        for wait in (client.wait_write_consumed, hotline.wait_push_consumed):
            with pytest.raises(WrongThread, match="hub thread"):
                s.hub.exec_sync(lambda _, wait=wait: wait(0))  # type: ignore[misc]


def test_hub_statistics_and_repr_show_its_life() -> None:
    hub = Hub(setting(hub_name="games", logger=Logs()))
    assert repr(hub) == "<Hub games new, 0 clients>"
    assert hub.statistics().state == "new"
    with hub, hub.serve() as server:
        assert repr(hub) == "<Hub games running, 0 clients>"
        statistics = hub.statistics()
        assert (statistics.name, statistics.state, statistics.threads) == ("games", "running", 3)
        assert hub.servers() == [server]
        hub.hotline()
        assert hub.statistics().hotlines == 1
    assert repr(hub) == "<Hub games closed, 0 clients>"
    assert hub.statistics().hotlines == 0
    assert hub.servers() == []
    with Hub(setting()) as unnamed:
        assert re.fullmatch("[0-9a-f]{8}", unnamed.name)


def test_hub_exec_sync_before_the_start_waits_for_it() -> None:
    """The hub may be about to run on another thread."""
    ran: Items[str] = Items()
    hub = Hub(HubSetting[Any, Any](dict))
    hub.exec_async(lambda _: ran.add("async"))
    waiting = in_thread(lambda: hub.exec_sync(lambda _: ran.add("sync"), TIMEOUT))
    with hub:
        waiting()
    assert ran.now() == ["async", "sync"]
    assert hub.state == "closed"


HUB = {
    "broadcast", "broadcast_with_filter", "byte_splicing", "clients", "clients_num", "clock",
    "close", "context", "context_iter_a_async_exec", "context_iter_a_sync_exec",
    "context_iter_s_async_exec", "each_client", "exec_async", "exec_sync", "health", "hotline",
    "join", "logger", "long_polling", "marshal", "name", "run", "serve", "servers", "setting",
    "silent_hotline", "socket_handles", "start", "start_once", "started", "state", "statistics",
    "unmarshal", "wait_add", "wait_done", "websocket_handler",
}  # fmt: skip
HOTLINE = {
    "answer", "close", "close_if_empty", "context", "context_iter_a_async_exec",
    "context_iter_a_sync_exec", "context_iter_s_async_exec", "each_client", "hangup",
    "hotline_id", "hub", "is_closed", "is_push_consumed", "logger", "members", "members_num",
    "name", "push", "push_count", "push_json", "push_splicing", "statistics",
    "wait_push_consumed",
}  # fmt: skip
SERVER = {"address", "close", "renew_ssl", "statistics", "url"}


def test_hub_and_its_hotlines_and_servers_have_no_other_public_names() -> None:
    """Parts of the library reach a hub by its core, and programs by these names."""
    with Hub(setting()) as hub:
        room, server = hub.hotline(), hub.serve()
        raw = hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.TCP)
        for thing, names in (
            (hub, HUB),
            (room, HOTLINE),
            (hub.silent_hotline(), HOTLINE),
            (server, SERVER | {"http_url"}),
            (raw, SERVER | {"protocol"}),
        ):
            assert {name for name in dir(thing) if not name.startswith("_")} == names
