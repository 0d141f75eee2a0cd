"""The public methods of a hub."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    Hub,
    HubSetting,
    MatcherMap,
    PayloadError,
    UsageError,
    WrongThread,
)
from tests.support import (
    AnyHub,
    Logs,
    serving,
)


def setting(**fields: Any) -> HubSetting[Any, Any]:
    return HubSetting(meta_gen=dict, **fields)


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


HUB = {
    "broadcast", "broadcast_json", "broadcast_with_filter", "byte_splicing", "call", "client",
    "clients", "clients_num", "clock", "close", "cluster", "context", "context_iter_a_async_exec",
    "context_iter_a_sync_exec", "context_iter_s_async_exec", "drain", "each_client",
    "exec_async", "exec_sync", "health", "hotline", "join", "logger", "long_polling", "marshal",
    "metrics", "metrics_app", "monitor", "name", "own", "push", "room", "rooms", "run", "serve",
    "servers", "setting", "silent_hotline",
    "socket_handles", "start", "start_once", "started", "state", "statistics", "tell",
    "unmarshal",
    "user", "users",
    "wait_add", "wait_done", "websocket_handler",
}  # fmt: skip
HOTLINE = {
    "answer", "close", "close_if_empty", "context", "context_iter_a_async_exec",
    "context_iter_a_sync_exec", "context_iter_s_async_exec", "data", "each_client", "hangup",
    "hotline_id", "hub", "is_closed", "is_push_consumed", "logger", "members", "members_num",
    "name", "presence", "push", "push_count", "push_json", "push_splicing", "statistics",
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
