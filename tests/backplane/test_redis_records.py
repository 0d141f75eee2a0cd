"""Records in Redis: which changes wait for the server, and in which order they go out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hubthread.backplane.interfaces import BackplaneState
from hubthread.backplane.redis import records as module
from hubthread.backplane.redis.publisher import Publisher
from hubthread.backplane.redis.records import Records
from hubthread.backplane.redis.wire import ReplyError
from tests.backplane.test_redis import Node, nodes
from tests.support.redis_server import RedisServer
from tests.support.waiting import TIMEOUT, tries

NOSCRIPT = ReplyError("NOSCRIPT No matching script.")


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    now[0] = 0.0
    return Records("p")


now = [0.0]


def taken(records: Records, *replies: Any) -> list[tuple[str, bytes | None]]:
    """Take what is to be sent now, and let the server answer."""
    found = records.take()
    if replies:
        records.answered([*itertools.islice(itertools.cycle(replies), len(found))], 2.5)
    return [(change.key, change.record) for change in found]


def test_take_returns_the_latest_change_of_each_record(records: Records) -> None:
    for key, record in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4")):
        records.change(key, record, 60.0)
    assert taken(records, b"OK") == [("b", b"2"), ("a", b"3"), ("c", b"4")]
    records.change("b", b"5", 60.0)
    records.change("b", None, 60.0)
    assert not records.is_settled
    assert taken(records, 1) == [("b", None)]
    assert (taken(records), records.is_settled) == ([], True)


def test_take_returns_few_changes_and_few_bytes_at_once(records: Records) -> None:
    for number in range(100):
        records.change(f"{number}", b"", 60.0)
    assert [len(taken(records, b"OK")) for _ in range(3)] == [64, 36, 0]
    for number in range(3):
        records.change(f"{number}", b"x" * 40_000, 60.0)
    assert [len(taken(records, b"OK")) for _ in range(3)] == [2, 1, 0]


def test_change_without_an_answer_is_taken_again_before_later_ones(records: Records) -> None:
    records.change("a", b"1", 60.0)
    records.change("b", b"2", 60.0)
    assert taken(records) == [("a", b"1"), ("b", b"2")]  # and the connection is lost
    records.change("a", None, 60.0)
    records.change("c", b"3", 60.0)
    assert taken(records, 1) == [("a", None), ("b", b"2"), ("c", b"3")]


def test_change_that_is_refused_is_taken_again_after_a_pause(records: Records) -> None:
    records.change("a", None, 60.0)
    records.change("b", b"1", 60.0)
    assert taken(records, ReplyError("OOM")) == [("a", None), ("b", b"1")]
    records.change("b", b"2", 60.0)
    assert (taken(records), records.is_settled) == ([], True)  # so no hub waits for it to close
    now[0] = 2.5
    assert taken(records, 1) == [("a", None), ("b", b"2")]


def test_change_whose_script_is_missing_is_taken_again_at_once(records: Records) -> None:
    records.change("a", b"1", 60.0)
    records.take()
    assert records.answered([NOSCRIPT], 2.5) is NOSCRIPT
    assert taken(records, b"OK") == [("a", b"1")]


def test_drop_waits_as_long_as_the_record_would_last(records: Records) -> None:
    for key in "ab":
        records.change(key, b"1", 60.0)
    taken(records, b"OK")
    records.change("a", None, 60.0)
    now[0] = 30.0
    records.change("b", None, 60.0)
    now[0] = 61.0
    assert taken(records, 1) == [("b", None)]
    assert records.is_settled


def test_drop_of_a_record_that_the_server_has_never_got_takes_no_room(records: Records) -> None:
    for number in range(1000):
        records.change(f"{number}", b"1", 60.0)
        records.change(f"{number}", None, 60.0)
    assert taken(records) == []
    records.change("taken from another hub", None, 60.0)
    records.change("taken from another hub", None, 60.0)
    assert taken(records) == [("taken from another hub", None)]


def lose(node: Node) -> None:
    """Cut a node from the server, until ``refuse(False)``."""
    node.proxy.refuse(True)
    node.proxy.cut()
    node.host.states.until(lambda states: states[-1] is BackplaneState.DOWN)


def kept(node: Node, key: str, record: bytes) -> None:
    """Keep a record until the server has it."""
    node.link.keep(key, record, 60.0)
    assert any(node.link.take(key, TIMEOUT) == (node.link.node, record) for _ in tries())


def test_changes_while_the_server_is_away_are_made_when_it_is_back(server: RedisServer) -> None:
    with nodes(server, 2) as (one, two):
        one.up()
        kept(one, "dropped", b"1")
        kept(one, "kept", b"1")
        lose(one)
        one.link.drop("dropped", 60.0)
        one.link.keep("kept", b"2", 60.0)
        one.link.keep("kept", b"3", 60.0)
        one.link.keep("new", b"1", 60.0)
        one.link.keep("last", b"1", 60.0)
        one.proxy.refuse(False)
        assert any(two.link.take("last", TIMEOUT) for _ in tries())
        assert two.link.take("dropped", TIMEOUT) is None
        assert two.link.take("kept", TIMEOUT) == (one.link.node, b"3")
        assert two.link.take("new", TIMEOUT) == (one.link.node, b"1")


def test_changes_whose_answers_are_lost_are_made_in_the_end(server: RedisServer) -> None:
    """The state of the connection does not change, so the hub is not told to keep all anew."""
    with nodes(server, 2) as (one, two):
        one.up()
        kept(one, "a", b"1")
        one.proxy.swallow_after(b":r:b\r\n")
        one.link.keep("b", b"1", 60.0)
        assert any(two.link.take("b", TIMEOUT) for _ in tries())  # the server has it
        one.link.drop("a", 60.0)
        one.link.keep("c", b"1", 60.0)
        one.proxy.cut()
        assert any(two.link.take("c", TIMEOUT) for _ in tries())
        assert two.link.take("a", TIMEOUT) is None
        assert two.link.take("b", TIMEOUT) == (two.link.node, b"1")  # not one's again


def test_scripts_that_the_server_has_forgotten_are_loaded_again(server: RedisServer) -> None:
    with nodes(server) as (one,):
        one.up()
        kept(one, "a", b"1")
        with server.client() as client:
            client.script_flush()
        kept(one, "a", b"2")


def test_close_waits_for_the_last_changes(server: RedisServer) -> None:
    with nodes(server, 2) as (one, two):
        for node in (one, two):
            node.up()
        for number in range(500):
            one.link.keep(f"{number}", b"1", 60.0)
        one.link.close(TIMEOUT)
        found = [two.link.take(f"{number}", TIMEOUT) for number in range(500)]
        assert found == [(one.link.node, b"1")] * 500


class Quiet:
    """A link and a connection that note what a publisher sends."""

    def __init__(self) -> None:
        self.sent = b""
        self.records = [b"record"]

    def take_letters(self) -> list[Any]:
        return []

    def take_records(self) -> list[bytes]:
        return self.records

    def answer_records(self, replies: list[Any]) -> None:
        self.records = []

    def send(self, data: bytes) -> None:
        self.sent += data

    def read(self) -> int:
        return 1


def test_publisher_sends_only_the_latest_beat_and_records_last() -> None:
    link: Any = Quiet()
    publisher = Publisher(link)
    for beat in (b"beat 1 ", b"beat 2 ", b"beat 3 "):  # as while there is no server
        publisher.send_beat(beat)
    publisher._wire = link
    assert publisher._round()
    assert not publisher._round()
    assert link.sent == b"beat 3 record"
