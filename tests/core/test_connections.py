"""The servers and the connections of a hub, from the handshake to the end."""

from __future__ import annotations

from hubthread.core.connections import CROWD, Connections, Servers
from tests.support import TIMEOUT, in_thread


def nothing() -> None:
    """Do nothing."""


class Cut:
    """A connection that counts how often it is cut, and a server that is closed."""

    def __init__(self) -> None:
        self.cuts = 0

    def shutdown(self) -> None:
        self.cuts += 1

    def _close(self, timeout: float) -> None:
        self.cuts += 1


def test_servers_are_listed_oldest_first_until_removed() -> None:
    servers, one, two = Servers(), Cut(), Cut()
    servers.add(one)
    servers.add(two)
    assert servers.all() == [one, two]
    servers.remove(one)
    servers.remove(one)
    assert servers.all() == [two]


def test_connections_cut_handshakes_leaves_open_ones() -> None:
    """Connections that begin later are cut at once, and none is opened any more."""
    connections = Connections(nothing)
    opened, shaking, late = Cut(), Cut(), Cut()
    connections.begin(opened)
    assert connections.open(opened)
    connections.begin(shaking)
    connections.cut_handshakes()
    connections.begin(late)
    assert (opened.cuts, shaking.cuts, late.cuts) == (0, 1, 1)
    assert not connections.open(shaking)
    connections.cut_all()
    assert opened.cuts == 1


def test_connections_wait_empty_ends_with_the_last_one() -> None:
    connections = Connections(nothing)
    assert connections.wait_empty(0)
    opened, shaking = Cut(), Cut()
    connections.begin(shaking)
    connections.open(opened)
    assert not connections.is_empty()
    assert not connections.wait_empty(0.001)
    waiting = in_thread(lambda: connections.wait_empty(TIMEOUT))
    connections.end(shaking)
    assert not connections.is_empty()
    connections.end(opened)
    connections.end(opened)
    assert waiting()


def test_connections_answered_is_cut_while_closing_and_not_before() -> None:
    connections, one, two = Connections(nothing), Cut(), Cut()
    for each in (one, two):
        connections.begin(each)
        assert connections.open(each)
    connections.answered(one)
    assert one.cuts == 0
    connections.cut_handshakes()
    assert (one.cuts, two.cuts) == (1, 0)  # two is still being sent its response
    connections.answered(two)
    assert two.cuts == 1
    assert not connections.is_empty()
    for each in (one, two):
        connections.end(each)
    assert connections.is_empty()


def test_connections_crowd_is_told_once() -> None:
    told: list[int] = []
    connections = Connections(lambda: told.append(len(told)))
    crowd = [Cut() for _ in range(CROWD + 2)]
    for each in crowd[:CROWD]:
        connections.open(each)
    assert told == []
    connections.open(crowd[CROWD])
    connections.end(crowd[CROWD])
    connections.open(crowd[CROWD + 1])
    assert told == [0]
