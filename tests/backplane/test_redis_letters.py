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
    History,
    HotlineOption,
    Hub,
    HubSetting,
    NodeGone,
    Presence,
    RedisBackplane,
    WrongType,
)
from hubthread.backplane.redis import backplane as module
from hubthread.backplane.redis.beats import Beats
from hubthread.publisher import Publisher
from hubthread.statistics import BackplaneStatistics
from tests.support.peers import RawPeer, connect
from tests.support.redis_server import Proxy, RedisServer
from tests.support.waiting import TIMEOUT, Items, tries


@pytest.fixture(autouse=True)
def beats(monkeypatch: pytest.MonkeyPatch) -> Items[tuple[Beats, bytes]]:
    """The beats that have been taken, with who has taken them; they come often."""
    monkeypatch.setattr(module, "BEAT", 0.2)
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
        Publisher(server.url, prefix=prefix, timeout=TIMEOUT) as publisher,
    ):
        for hub in (one, two):
            knows(hub, beats, "one", "two")
        (there,) = [node for node in one.cluster() if node.name == "two"]
        assert one.call(there, "twice", 21, timeout=TIMEOUT) == ["two", 42]
        with pytest.raises(CallFailed, match="LookupError: nothing there"):
            one.call(there, "fail", timeout=TIMEOUT)
        with pytest.raises(NodeGone):
            one.call("elsewhere", "twice", 1, timeout=TIMEOUT)
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
            one.call(there, "twice", 1, timeout=TIMEOUT)


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
        return bool(hub.call(node, "twice", 1, timeout=TIMEOUT) == ["one", 2])
    except NodeGone:
        return False


def test_publisher_tell_without_a_server_raises(server: RedisServer) -> None:
    with Publisher("redis://127.0.0.1:1", timeout=1) as publisher, pytest.raises(BackplaneDown):
        publisher.tell("ann", "x")
    with Publisher(server.url) as publisher, pytest.raises(WrongType):
        publisher.tell("ann", 7)  # type: ignore[arg-type]


GARBAGE = [
    b"", b"\xff\xfe", b"1", b"1\n", b"1{}\n", b"1[]\n{}", b'1{"beat":"x"}\n[]', b'1{"beat":1}\n{}',
    b'1{"bye":[]}\n', b'1{"call":"twice"}\n1', b'1{"user":7,"key":[]}\nx', b'1{"reply":1}\n\xff',
    b"1" + b"[" * 100_000 + b"\n", b"2:1:1:e:o:1:x", b"1:x:1:e:o:1:x", b"1:1:1:\xff:o:1:x",
    b"1p:x", b"1p:\xff:1:h:[{},[]]", b"1p:e:1:h:7",
]  # fmt: skip


def test_messages_of_other_programs_stop_no_hub(server: RedisServer, beats: Items[Any]) -> None:
    """They are published to each channel, and added to the stream of a room."""
    prefix = secrets.token_hex(4)
    option = HotlineOption("room", shared=True, history=History(), presence=Presence())
    with (
        hub_of(server.url, prefix, "one") as one,
        hub_of(server.url, prefix, "two") as two,
        client(one, "/ann"),
        server.client() as redis,
    ):
        for hub in (one, two):
            knows(hub, beats, "one", "two")
        rooms = [hub.hotline(option) for hub in (one, two)]
        rooms[0].answer(next(iter(one.clients())))
        assert any(rooms[1].presence().members for _ in tries())
        push(rooms, "before")
        keys = f"{prefix}:{{room}}:"
        epoch, top = redis.hget(keys + "m", "e"), int(redis.hget(keys + "m", "s"))
        bodies = (b"x", b"\1\0\0\0\0\xff", b"\1\0\0\0\0\1\xff")
        own = [b"1:%d:1:%b:o:1:%b" % (top + 1, epoch, body) for body in bodies]
        presence = redis.hget(keys + "p", "e")
        for version, change in enumerate((b"[7,[]]", b"[{},{}]", b"[[],[]]", b"7", b"{"), 1):
            own.append(b"1p:%b:%d:h:%b" % (presence, version, change))
        channels = redis.pubsub_channels(f"{prefix}:*")
        assert len(channels) == 5  # of all hubs, of each hub, of the room, and of the user
        for channel in channels:
            for data in GARBAGE + own:
                redis.publish(channel, data)
        entries: list[dict[str, bytes]] = [{"d": body, "o": b"o:1"} for body in bodies]
        entries += [{"d": b"x", "o": b"\xff"}, {"x": b"y"}]
        for place, fields in enumerate(entries, top + 1):
            redis.xadd(keys + "s", fields, id=f"{place}-1")
        redis.hset(keys + "m", "s", top + len(entries))

        push(rooms, "after")
        for hub in (one, two):
            assert any(_told(hub).unknown > 0 and _told(hub).state == "up" for _ in tries())
        (there,) = [node for node in one.cluster() if node.name == "two"]
        assert one.call(there, "twice", 21, timeout=TIMEOUT) == ["two", 42]


def _told(hub: Hub[Any, Any]) -> BackplaneStatistics:
    told = hub.statistics().backplane
    assert told is not None
    return told


def push(rooms: list[Any], text: str) -> None:
    """Push in each room, and wait until the hub of the room has it."""
    for room in rooms:
        assert room.wait_push_consumed(room.push(text), TIMEOUT)
