"""Messages and calls between hubs by way of Redis, and the hubs that know each other."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    BackplaneDown,
    CallFailed,
    CallTimeout,
    Hub,
    HubSetting,
    NodeGone,
    RedisBackplane,
    WrongType,
)
from hubthread.backplane.redis import backplane as module
from hubthread.backplane.redis import keeper
from hubthread.backplane.redis.beats import Beats
from hubthread.publisher import Publisher
from tests.support.peers import RawPeer, connect
from tests.support.redis_server import Proxy, RedisServer
from tests.support.waiting import Items, tries


@pytest.fixture(autouse=True)
def beats(monkeypatch: pytest.MonkeyPatch) -> Items[tuple[Beats, bytes]]:
    """The beats that have been taken, with who has taken them; they come often."""
    monkeypatch.setattr(module, "BEAT", 0.2)
    monkeypatch.setattr(keeper, "LATE", 1e6)  # a busy machine may be silent for a while
    taken: Items[tuple[Beats, bytes]] = Items()
    take = Beats.take

    def record(self: Beats, data: bytes) -> str | None:
        try:
            return take(self, data)
        finally:
            taken.add((self, data))

    monkeypatch.setattr(Beats, "take", record)
    return taken


def hub_of(url: str, prefix: str, name: str) -> Hub[Any, Any]:
    def twice(hub: Hub[Any, Any], number: int) -> list[Any]:
        return [hub.name, 2 * number]

    def fail(hub: Hub[Any, Any], payload: object) -> None:
        raise LookupError("nothing there")

    setting = HubSetting[Any, Any](
        dict,
        hub_name=name,
        user=lambda ctx, meta: ctx.handshake.path[1:],
        on_connection_start=lambda ctx, meta: ctx.write("in"),
        backplane=RedisBackplane(url, prefix=prefix, hold=0.5),
        calls={"twice": twice, "fail": fail},
    )
    return Hub(setting)


@contextlib.contextmanager
def client(hub: Hub[Any, Any], path: str) -> Iterator[RawPeer]:
    with hub.serve() as server, contextlib.closing(RawPeer(connect(server), path)) as peer:
        assert peer.message() == "in"
        yield peer


def knows(hub: Hub[Any, Any], beats: Items[Any], *names: str) -> None:
    """Wait until the hub knows these hubs, and no others."""
    beats.until(lambda _: {node.name for node in hub.cluster()} == set(names))


def test_users_and_hubs_are_reached_from_other_processes(
    server: RedisServer, beats: Items[Any]
) -> None:
    prefix = secrets.token_hex(4)
    with (
        hub_of(server.url, prefix, "one") as one,
        hub_of(server.url, prefix, "two") as two,
        Publisher(server.url, prefix=prefix) as publisher,
    ):
        for hub in (one, two):
            knows(hub, beats, "one", "two")
        (there,) = [node for node in one.cluster() if node.name == "two"]
        assert one.call(there, "twice", 21, timeout=20) == ["two", 42]
        with pytest.raises(CallFailed, match="LookupError: nothing there"):
            one.call(there, "fail", timeout=20)
        with pytest.raises(NodeGone):
            one.call("elsewhere", "twice", 1, timeout=20)
        assert publisher.tell("ann", "nobody") == 0
        with client(two, "/ann") as ann, client(one, "/ann") as also:
            # The server has both subscriptions a moment later.
            assert any(publisher.tell("ann", "-") == 2 for _ in tries())
            (address,) = [each.address for each in two.clients()]
            assert publisher.tell_json("ann", {"from": "a script"}) == 2
            one.tell("ann", b"from one")
            one.tell(address, "to this one")
            one.tell(there, "to all there")
            expected = ['{"from":"a script"}', b"from one"]
            heard = [_next(also), _next(also)]
            assert heard == expected
            assert [_next(ann) for _ in range(4)] == [*expected, "to this one", "to all there"]
        two.close()
        knows(one, beats, "one")
        with pytest.raises(NodeGone):
            one.call(there, "twice", 1, timeout=20)


def _next(peer: RawPeer) -> Any:
    """Return the next message after those that only wait for the subscriptions."""
    while (message := peer.message()) == "-":
        pass
    return message


def test_messages_are_refused_while_redis_is_away(server: RedisServer) -> None:
    proxy = Proxy(server.path)
    states: Items[str] = Items()
    with contextlib.closing(proxy), hub_of(proxy.url, secrets.token_hex(4), "one") as one:
        own = one._core.sharing.node
        assert any(_called(one, own) for _ in tries())
        proxy.refuse(True)
        proxy.cut()
        link: Any = one._core.sharing.link()
        failed = link.failed

        def fail(part: str, reason: str) -> None:
            failed(part, reason)
            states.add(link.state.value)

        link.failed = fail
        states.until(lambda told: "down" in told)
        with pytest.raises((BackplaneDown, CallTimeout)):  # it waits as long as it may
            one.call(own, "twice", 1, timeout=0.2)
        link._hold = 1e-9
        for refused in (lambda: one.tell("ann", "x"), lambda: one.call(own, "twice", 1)):
            with pytest.raises(BackplaneDown, match="has been away"):
                refused()
        proxy.refuse(False)
        with pytest.raises(WrongType):
            one.tell("ann", None)  # type: ignore[arg-type]


def _called(hub: Hub[Any, Any], node: str) -> bool:
    """Return True if the hub hears its own box."""
    try:
        return bool(hub.call(node, "twice", 1, timeout=20) == ["one", 2])
    except NodeGone:
        return False


def test_publisher_tell_without_a_server_raises(server: RedisServer) -> None:
    with Publisher("redis://127.0.0.1:1", timeout=1) as publisher, pytest.raises(BackplaneDown):
        publisher.tell("ann", "x")
    with Publisher(server.url) as publisher, pytest.raises(WrongType):
        publisher.tell("ann", 7)  # type: ignore[arg-type]
