"""Presence in shared rooms, while hubs and servers fail."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from hubthread import RedisBackplane
from hubthread.backplane.interfaces import Message
from hubthread.backplane.redis import presence as presence_module
from hubthread.backplane.redis.backplane import RedisLink
from hubthread.history import Position
from tests.support.backplanes import Host
from tests.support.redis_server import ACL_RULES, Proxy, RedisServer
from tests.support.waiting import TIMEOUT, Items

pytestmark = pytest.mark.usefixtures("_beat_often")


class Picture:
    """A receiver that remembers who is in, and all changes: "+ann", "-ann", "3"."""

    has_presence = True

    def __init__(self) -> None:
        self.changes: Items[str] = Items()

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        assert not self.changes.now()

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        raise AssertionError("nobody pushes here")

    def refused(self, number: int) -> None:
        raise AssertionError("nobody owns the room here")

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        pass

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        raise AssertionError("nobody pushes here")

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        for key in came:
            self.changes.add(f"+{key}")
        for key in went:
            self.changes.add(f"-{key}")

    def counted(self, count: int) -> None:
        self.changes.add(f"{count}")

    def until(self, *users: str) -> None:
        """Wait until these are in."""
        self.changes.until(lambda changes: members_after(changes) == set(users))


def members_after(changes: Sequence[str]) -> set[str]:
    """Return who is in.  A user that comes is out before, and one that goes is in."""
    members: set[str] = set()
    for change in changes:
        user = change[1:]
        assert (user in members) is (change[0] == "-")
        members ^= {user}
    return members


class Node:
    """A hub's connection through a proxy of its own, and a room."""

    def __init__(self, server: RedisServer, prefix: str, user: str = "") -> None:
        self.proxy = Proxy(server.path)
        self.host = Host()
        self.seen = Picture()
        url = self.proxy.url.replace("://", f"://{user}")
        self.link: RedisLink = RedisBackplane(url, prefix=prefix).open("node")
        self.link.attach("room", None, self.seen)
        self.link.start(self.host)

    def came(self, *users: str) -> None:
        self.link.present("room", dict.fromkeys(users, "1"), ())

    def went(self, *users: str) -> None:
        self.link.present("room", {}, users)

    def crash(self) -> None:
        """Say nothing more to the server."""
        self.proxy.refuse(True)
        self.proxy.cut()

    def close(self) -> None:
        self.link.close(TIMEOUT)
        self.proxy.close()
        self.host.join()


@contextmanager
def nodes(
    server: RedisServer, count: int, prefix: str = "", user: str = ""
) -> Iterator[list[Node]]:
    prefix = prefix or secrets.token_hex(4)
    made = [Node(server, prefix, user) for _ in range(count)]
    try:
        yield made
    finally:
        for node in made:
            node.close()


def end_lease(server: RedisServer, node: Node) -> None:
    """Let the time pass after which a silent hub counts as dead."""
    with server.client() as client:
        client.ping()  # the server has taken what the hub has sent before
        client.zadd(node.link.presences.leases.decode(), {node.link.presences.hub: 0})


def test_hub_that_dies_takes_its_users_along_with_one_leave_each(server: RedisServer) -> None:
    with nodes(server, 3) as (one, two, three):
        one.came("ann", "bob")
        two.came("bob", "eve")
        three.link.count("room", 5)
        for node in (two, three):
            node.seen.changes.until(lambda changes: {"+ann", "+bob", "+eve", "5"} <= set(changes))
        one.crash()
        end_lease(server, one)
        for node in (two, three):
            node.seen.changes.until(lambda changes: "-ann" in changes)
        one.proxy.refuse(False)  # it was only paused
        for node in (two, three):
            node.seen.changes.until(lambda changes: changes.count("+ann") == 2)
            told = [change for change in node.seen.changes.now() if change != "5"]
            assert sorted(told) == ["+ann", "+ann", "+bob", "+eve", "-ann"]
        one.seen.changes.until(lambda changes: {"+eve", "5"} <= set(changes))


def test_rules_of_the_guide_are_all_that_presence_needs(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop", "on", ">secret", *ACL_RULES.split())
    with nodes(server, 2, "shop", "shop:secret@") as (one, two):
        one.came("ann")
        two.seen.until("ann")
        one.crash()
        end_lease(server, one)
        two.seen.until()


def test_hub_that_dies_with_the_server_takes_its_users_along(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "LEASE_SECONDS", 0.3)
    with nodes(server, 2) as (one, two):
        one.came("ann")
        two.came("bob")
        two.seen.until("ann", "bob")
        one.crash()
        server.restart()
        two.seen.until("bob")
        one.proxy.refuse(False)
        two.seen.until("ann", "bob")


@pytest.mark.parametrize("fault", ["restart", "flush", "forget"])
def test_server_that_begins_anew_makes_no_change(server: RedisServer, fault: str) -> None:
    with nodes(server, 2) as (one, two):
        one.came("ann")
        two.came("bob")
        for node in (one, two):
            node.seen.until("ann", "bob")
        if fault == "restart":
            server.restart()
        else:
            with server.client() as client:
                client.flushall() if fault == "flush" else client.script_flush()
        one.came("eve")
        two.came("dan")
        for node in (one, two):
            node.seen.until("ann", "bob", "eve", "dan")
            assert sorted(node.seen.changes.now()) == ["+ann", "+bob", "+dan", "+eve"]


def test_many_users_and_odd_names_come_as_they_are(server: RedisServer) -> None:
    users = [f"{number} {'x' * 40}" for number in range(2000)]
    odd = ["", ":", "a:b", "ä\ud800", "c", "\0"]
    with nodes(server, 2) as (one, two):
        one.came("ann")
        two.seen.until("ann")
        one.came(*users, *odd)
        two.seen.until("ann", *users, *odd)
        one.link.detach("room")
        two.seen.until()


def test_pictures_agree_after_random_changes_and_faults(server: RedisServer) -> None:
    chance = random.Random(7)
    with nodes(server, 3) as all_nodes:
        inside: list[set[str]] = [set(), set(), set()]
        faults: list[Callable[[Node], object]] = [
            lambda node: node.proxy.cut(),
            lambda node: node.proxy.swallow(),
            lambda node: server.restart(),
        ]
        for step in range(120):
            number = chance.randrange(3)
            node, members = all_nodes[number], inside[number]
            user = chance.choice("abcdef")
            if user in members:
                members.remove(user)
                node.went(user)
            else:
                members.add(user)
                node.came(user)
            if step % 12 == 5:
                chance.choice(faults)(node)
            elif step % 12 == 11:
                for each in all_nodes:
                    each.proxy.cut()
        expected = set[str]().union(*inside)
        for number, node in enumerate(all_nodes):
            inside[number].add(f"end {number}")
            node.came(f"end {number}")
        for node in all_nodes:
            node.seen.until(*expected, "end 0", "end 1", "end 2")
