"""The backplane in Redis while connections break and the server is stopped, killed and flushed."""

from __future__ import annotations

import itertools
import math
import random
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from hubthread import (
    BackplaneDown,
    BackplaneState,
    History,
    HotlineOption,
    Hub,
    HubSetting,
    OwnedOption,
    Position,
    QueueFull,
    RedisBackplane,
    SettingError,
    WrongValue,
)
from hubthread.backplane.interfaces import Message
from hubthread.backplane.redis import backplane as module
from hubthread.backplane.redis import keeper
from hubthread.backplane.redis.backplane import RedisLink
from hubthread.concurrency.calls import wait_for
from hubthread.protocol.frames import Frame
from tests.support.backplanes import Host, Recorder, assert_one_order
from tests.support.hubs import serving
from tests.support.redis_server import ACL_RULES, Proxy, RedisServer, redis_server
from tests.support.waiting import TIMEOUT, Items, Task, tries


class Node:
    """A hub's connection through a proxy of its own, and a room."""

    def __init__(self, server: RedisServer, prefix: str, keep: History | None) -> None:
        self.proxy = Proxy(server.path)
        self.host = Host()
        self.seen = Recorder()
        backplane = RedisBackplane(self.proxy.url, prefix=prefix, hold=TIMEOUT)
        self.link: RedisLink = backplane.open("node")
        self.link.attach("room", keep, self.seen)
        self.link.start(self.host)

    def push(self, text: str) -> int:
        return self.link.publish("room", Message(Frame(text, 1)))

    def settle(self) -> None:
        """Wait until all pushes have their place."""
        wait_for(self.link._settled, lambda: not self.link._waiting, TIMEOUT)

    def heard(self, *texts: str) -> None:
        """Wait until these have arrived."""
        self.seen.events.until(
            lambda events: set(texts) <= {text for _, text, _ in events[-5000:]}
        )

    def up(self) -> None:
        """Wait until all is well."""
        self.host.states.until(lambda states: states[-1:] == [BackplaneState.UP])

    def close(self) -> None:
        self.link.close(TIMEOUT)
        self.proxy.close()
        self.host.join()


@contextmanager
def nodes(
    server: RedisServer, count: int = 1, keep: History | None = None
) -> Iterator[list[Node]]:
    prefix = secrets.token_hex(4)
    made = [Node(server, prefix, keep) for _ in range(count)]
    try:
        yield made
    finally:
        for node in made:
            node.close()


def stopped(server: RedisServer) -> None:
    server.signal(signal.SIGSTOP)
    server.signal(signal.SIGCONT)


def command(*words: str) -> Callable[[RedisServer], None]:
    def run(server: RedisServer) -> None:
        with server.client() as client:
            client.execute_command(*words)

    return run


FAULTS: list[Callable[[RedisServer], None]] = [
    RedisServer.restart,
    stopped,
    command("FLUSHALL"),
    command("SCRIPT", "FLUSH"),
    command("CLIENT", "KILL", "TYPE", "pubsub"),
    command("CLIENT", "KILL", "TYPE", "normal"),
]


@pytest.mark.usefixtures("_beat_often")
@pytest.mark.parametrize("size", [40, 100_000])
def test_every_hub_sees_one_order_and_is_told_each_hole_under_faults(
    server: RedisServer, size: int
) -> None:
    """Three hubs push all the time.  After each fault every hub hears something new."""
    chance = random.Random(size)
    with nodes(server, 3, History(size=size)) as all_nodes:
        done = threading.Event()

        def push_all(node: Node, name: str) -> None:
            number = 0
            while not done.is_set():
                number += 1
                node.push(f"{name} {number}")
                if number % 10 == 0:
                    node.settle()

        names = dict(zip("abc", all_nodes, strict=True))
        pushers = [Task(partial(push_all, node, name)) for name, node in names.items()]
        faults: list[Any] = [*FAULTS, "cut", "swallow", "cut"]
        chance.shuffle(faults)
        for fault in faults:
            if isinstance(fault, str):
                node = chance.choice(all_nodes)
                if fault == "swallow":
                    node.proxy.swallow()
                node.push(f"at {fault} {secrets.token_hex(4)}")
                node.proxy.cut()
            else:
                fault(server)
            for node in all_nodes:
                node.seen.events.wait(len(node.seen.events.now()) + 1)
        done.set()
        for pusher in pushers:
            pusher.result()
        for name, node in names.items():
            node.push(f"end {name}")
        for node in all_nodes:
            node.heard(*(f"end {name}" for name in names))
        assert_one_order(node.seen for node in all_nodes)


def test_answers_that_are_lost_place_nothing_twice(server: RedisServer) -> None:
    with nodes(server, 2, History()) as (one, two):
        one.up()
        two.up()
        one.proxy.swallow_after(b"first")
        one.push("first")
        two.seen.events.until(lambda events: len(events) == 2)  # the server has placed it
        one.proxy.cut()
        one.push("2")
        two.push("3")
        for node in (one, two):
            node.seen.events.until(
                lambda events: sum(text is not None for _, text, _ in events) == 3
            )
        assert_one_order([one.seen, two.seen])
        assert [text for text in one.seen.texts() if text != "3"] == ["first", "2"]
        assert one.seen.gaps() == two.seen.gaps() == 0


def test_restart_of_the_server_begins_another_epoch_and_tells_one_gap(server: RedisServer) -> None:
    with nodes(server, 2, History()) as (one, two):
        one.up()
        two.up()
        one.push("1")
        two.heard("1")
        server.restart()
        one.push("2")
        events = two.seen.events.until(lambda events: "2" in [text for _, text, _ in events])
        assert [text for _, text, _ in events] == [None, "1", None, "2"]
        before, after = events[1][0], events[3][0]
        assert before.epoch != after.epoch
        assert after.offset == 1
        found = two.link.history("room", 10, TIMEOUT)
        assert found is not None
        assert found[0] == Position(after.epoch, 0)


@pytest.mark.parametrize("old_goes_on", [False, True])
def test_replica_that_takes_over_without_the_last_pushes_uses_no_place_twice(
    old_goes_on: bool,
) -> None:
    """The replica has lost acknowledged pushes.  The old server may go on for some of the hubs."""
    # An address of its own: on 127.0.0.1 another test may get the port before Redis opens it.
    host = "127.0.0.16"
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    options = "--bind", host, "--port", f"{port}", "--repl-diskless-sync-delay", "0"
    with (
        redis_server(*options) as old,
        old.replica() as new,
        nodes(old, 2, History()) as (one, two),
        new.client() as client,
    ):
        for node in (one, two):
            node.up()
        one.push("kept")
        for node in (one, two):
            node.heard("kept")
        client.replicaof("NO", "ONE")
        one.push("lost")
        for node in (one, two):
            node.heard("lost")
        if old_goes_on:
            one.proxy.lead_to(new.path)
            one.push("new")
            two.push("old")
            one.heard("new")
            two.heard("old")
        for node in (one, two):
            node.proxy.lead_to(new.path)
        one.push("end one")
        two.push("end two")
        for node in (one, two):
            node.heard("end one", "end two")
        assert_one_order([one.seen, two.seen])
        places = {place for place, text, _ in two.seen.events.now() if text is not None}
        assert len(places) == len(two.seen.texts())
        assert two.seen.gaps() >= 1


def test_pushes_wait_while_the_server_is_away_and_are_refused_later(server: RedisServer) -> None:
    with nodes(server, 1, History()) as (node,):
        node.up()
        node.proxy.refuse(True)
        node.proxy.cut()
        node.host.states.until(lambda states: states[-1] is BackplaneState.DOWN)
        node.push("1")
        node.push("2")
        figures = node.link.statistics()
        assert (figures.state, figures.waiting, figures.waiting_bytes) == ("down", 2, 14)
        assert figures.lost_connections >= 2
        node.link._hold = 0.0
        with pytest.raises(BackplaneDown, match="'room': Redis has been away for"):
            node.push("3")
        node.proxy.refuse(False)
        states = node.host.states.until(lambda states: states[-1] is BackplaneState.UP)
        node.seen.events.wait(3)
        assert node.seen.texts() == ["1", "2"]
        node.settle()
        figures = node.link.statistics()
        assert (figures.state, figures.waiting, figures.waiting_bytes) == ("up", 0, 0)
        assert states == [
            BackplaneState.UP,
            BackplaneState.DOWN,
            BackplaneState.RESYNC,
            BackplaneState.UP,
        ]


@pytest.mark.usefixtures("_beat_often")
@pytest.mark.parametrize("hold", [TIMEOUT, 0])
def test_local_pushes_are_shown_while_the_server_is_away(
    server: RedisServer, hold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.1)
    prefix = secrets.token_hex(4)
    states: Items[BackplaneState] = Items()
    elsewhere = Node(server, prefix, History())
    with serving(
        backplane=RedisBackplane(server.url, prefix=prefix, hold=hold, local=True),
        on_backplane=lambda hub, state: states.add(state),
    ) as here:
        peer, client = here.pair()
        room = here.hub.hotline(HotlineOption("room", shared=True, history=History()))
        room.answer(client)
        elsewhere.seen.events.wait(1)
        room.push("0")
        elsewhere.heard("0")
        assert peer.message() == "0"
        server.stop()
        states.until(lambda told: told[-1:] == [BackplaneState.DOWN])
        room.push("1")
        assert room.wait_push_consumed(room.push("2"), TIMEOUT)
        assert peer.messages(2) == ["1", "2"]
        server.start()
        states.until(lambda told: told[-1] is BackplaneState.UP)  # it does not fail once more
        room.push("3")
        assert peer.message() == "3"
        elsewhere.heard("3")
        assert elsewhere.seen.texts() == ["0", *(["1", "2"] if hold else []), "3"]
        figures = here.hub.statistics().backplane
        assert figures is not None
        assert figures.local == (0 if hold else 2)
        if not hold:
            here.logs.wait("2 pushes have reached the members of this hub only")
    elsewhere.close()


@pytest.mark.usefixtures("_beat_often")
def test_connection_that_has_fallen_silent_is_dropped_by_its_own_beat(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of the subscriber vanish, while its connection looks well."""
    with nodes(server, 2) as (one, two):
        for node in (one, two):
            node.up()
        one.proxy.swallow(messages_only=True)
        monkeypatch.setattr(keeper, "LATE", 2.5)
        told = [BackplaneState.DOWN, BackplaneState.RESYNC]  # there is another connection
        one.host.states.until(lambda states: states[1:3] == told)
        monkeypatch.setattr(keeper, "LATE", 1e6)
        one.proxy.cut()
        two.push("1")
        one.heard("1")
        assert one.seen.gaps() == 0


def raising_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that does its work, and then raises when it is called first."""
    calls: Iterator[int] = itertools.count()

    def call(*arguments: Any) -> Any:
        result = function(*arguments)
        if not next(calls):
            raise ValueError("a bug")
        return result

    return call


@pytest.mark.usefixtures("_beat_often")
def test_exception_that_nobody_expects_is_logged_and_ends_no_part(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nodes(server, 2) as (node, other):
        for each in (node, other):
            each.up()
        bugs: Items[tuple[str, str]] = Items()
        monkeypatch.setattr(node.host, "log_bug", lambda error, part: bugs.add((part, f"{error}")))
        letters: Items[bytes] = Items()
        node.link.listen("box", raising_once(letters.add))
        monkeypatch.setattr(node.link.presences, "next_at", raising_once(lambda: math.inf))
        room = node.link._rooms["room"]
        monkeypatch.setattr(room, "next_batch", raising_once(room.next_batch))
        node.push("one")
        sent: Items[int | None] = Items()
        for number, _ in enumerate(tries(), 1):  # until a letter has come after the first
            other.link.tell("box", b"letter", sent.add)
            if sent.wait(number) and len(letters.now()) > 1:
                break
        parts = "keeper", "publisher", "subscriber"
        assert sorted(bugs.wait(3)) == [(part, "a bug") for part in parts]
        other.push("two")
        for each in (node, other):
            each.heard("one", "two")
        node.settle()
        assert node.seen.gaps() == 0
        assert_one_order([node.seen, other.seen])


def test_batch_that_is_answered_twice_is_released_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception comes between the answer and the next step, so the batch is sent again."""
    with nodes(server) as (node,):
        node.up()
        bugs: Items[str] = Items()
        monkeypatch.setattr(node.host, "log_bug", lambda error, part: bugs.add(part))
        answered, fail = node.link.answered, raising_once(lambda: None)

        def answer(batch: Any) -> None:
            answered(batch)
            fail()

        monkeypatch.setattr(node.link, "answered", answer)
        node.push("one")
        assert bugs.wait(1) == ["publisher"]
        node.push("two")
        node.heard("one", "two")
        node.settle()
        figures = node.link.statistics()
        assert (figures.waiting, figures.waiting_bytes) == (0, 0)


def test_waiting_messages_and_the_size_of_one_are_bounded(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2000)
    monkeypatch.setattr(module, "MOST_MESSAGE", 1000)
    link = RedisBackplane(server.url).open("node")  # it is never started, so nothing leaves
    link.attach("room", None, Recorder())
    message = Message(Frame("x" * 900, 1))
    assert link.publish("room", message) == 1
    with pytest.raises(QueueFull, match="'room': 2000 bytes of messages wait for Redis"):
        link.publish("room", message)
    with pytest.raises(WrongValue, match="at most 1000 bytes"):
        link.publish("room", Message(Frame("x" * 1000, 1)))
    link.close(1.0)


def test_large_messages_reach_other_hubs(server: RedisServer) -> None:
    with nodes(server, 2) as (one, two):
        one.up()
        two.up()
        one.push("x" * 300_000)
        two.push("small")
        for node in (one, two):
            node.seen.events.wait(3)
            assert sorted(map(len, node.seen.texts())) == [5, 300_000]
        assert_one_order([one.seen, two.seen])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://x", "url: expected a URL with redis://"),
        ("redis+sentinel://host:26379", "no name of a service"),
        ("redis+sentinel://host:x/name", "expected a URL of Redis"),
        ("redis+sentinel://host/name?colour=red", "'colour'"),
        ("redis://:secret@host/0?colour=red", "url: expected a URL of Redis: .*'colour'"),
        ("rediss://host?ssl_cert_reqs=some", "Invalid SSL Certificate Requirements"),
        ("redis://[::1", "expected a URL of Redis: Invalid IPv6 URL"),
    ],
)
def test_bad_settings_are_refused(server: RedisServer, url: str, told: str) -> None:
    with pytest.raises(SettingError, match=told) as error:
        RedisBackplane(url)
    assert "secret" not in str(error.value)
    with pytest.raises(SettingError, match="prefix: expected printable"):
        RedisBackplane(server.url, prefix="a b")
    for hold in (-1, False, None):
        with pytest.raises(SettingError, match="hold"):
            RedisBackplane(server.url, hold=hold)  # type: ignore[arg-type]
    assert RedisBackplane(server.url, hold=0).hold == 0
    for local in (None, 1, "yes"):
        with pytest.raises(SettingError, match="local: expected True or False"):
            RedisBackplane(server.url, local=local)  # type: ignore[arg-type]


def test_recipe_of_the_page_is_all_that_a_hub_needs(server: RedisServer) -> None:
    command("ACL", "SETUSER", "shop", "on", ">secret", *ACL_RULES.split())(server)
    url = f"unix://shop:secret@{server.path}"
    states: Items[BackplaneState] = Items()
    setting = HubSetting[object, str](
        dict,
        backplane=RedisBackplane(url, prefix="shop"),
        on_backplane=lambda hub, state: states.add(state),
    )
    with Hub(setting) as hub:
        room = hub.hotline(HotlineOption("room", shared=True, history=History(max_bytes=1000)))
        states.until(lambda told: BackplaneState.UP in told)
        for _ in range(40):
            room.push("x" * 100)
        assert room.wait_push_consumed(40, TIMEOUT)
        link = hub._core.sharing.link()
        found = link.history("room", 1, TIMEOUT)
        assert found is not None
        assert len(found[1]) == 1
        link.keep("key", b"record", TIMEOUT)
        assert any(link.take("key", TIMEOUT) is not None for _ in tries())
        option = OwnedOption[Any](
            dict,
            on_start=lambda frame, obj: frame.push("begun"),
            calls={"twice": lambda frame, obj, payload: 2 * payload},
        )
        owned = hub.own("owned", option)
        assert hub.call(owned, "twice", 21, timeout=TIMEOUT) == 42
        assert owned.wait_push_consumed(1, TIMEOUT)
