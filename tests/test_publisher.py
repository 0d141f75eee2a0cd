"""Pushes from programs that have no hub."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from hubthread import (
    BackplaneDown,
    History,
    HotlineOption,
    Hub,
    HubSetting,
    Position,
    PublishUnknown,
    RedisBackplane,
    SettingError,
    WrongType,
)
from hubthread.backplane.redis import wire
from hubthread.backplane.redis.scripts import keys_of
from hubthread.publisher import Publisher
from tests.pages import execute, program
from tests.support.redis_server import Proxy, RedisServer, patient_connections, redis_server
from tests.support.waiting import TIMEOUT


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    patient_connections(monkeypatch)


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(4)


def test_pushes_of_a_program_and_of_a_hub_are_one_order(server: RedisServer, prefix: str) -> None:
    option = HotlineOption("room", shared=True, history=History(size=1000))
    setting = HubSetting[object, str](dict, backplane=RedisBackplane(server.url, prefix=prefix))
    with Hub(setting) as hub, Publisher(server.url, prefix=prefix, timeout=TIMEOUT) as publisher:
        room = hub.hotline(option)
        room.push("1")
        assert room.wait_push_consumed(1, TIMEOUT)
        places = [publisher.push("room", f"{number}") for number in range(2, 302)]
        places.append(publisher.push_json("room", {"a": 1}))
        room.push(b"last")
        assert room.wait_push_consumed(2, TIMEOUT)
        epoch = places[0].epoch
        assert places == [Position(epoch, offset) for offset in range(2, 303)]
        link = hub._core.sharing.link()
        found = link.history("room", 1000, TIMEOUT)
        assert found is not None  # the program trims nothing: the hub has said what the room keeps
        assert found[0] == Position(epoch, 0)
        expected = [*(f"{number}" for number in range(1, 302)), '{"a":1}', b"last"]
        assert [message.frame.payload for message in found[1]] == expected


def test_room_that_no_hub_has_keeps_some_pushes(server: RedisServer, prefix: str) -> None:
    publisher = Publisher(server.url, prefix=prefix, timeout=TIMEOUT)
    assert publisher.push("room", "1").offset == 1
    publisher.close()
    publisher.close()
    assert publisher.push("room", "2").offset == 2  # over a new connection
    publisher.close()


def test_program_of_the_page_pushes(server: RedisServer) -> None:
    names: dict[str, Any] = {}
    code = program("publisher").replace("redis://localhost", server.url)
    execute(code, "the page", names)
    assert names["publisher"].push("table 7", "again").offset == 2
    names["publisher"].close()


def test_answer_that_was_lost_places_nothing_twice(server: RedisServer, prefix: str) -> None:
    proxy = Proxy(server.path)
    with Publisher(proxy.url, prefix=prefix, timeout=TIMEOUT) as publisher:
        assert publisher.push("room", "1").offset == 1
        proxy.cut()
        assert publisher.push("room", "2").offset == 2
        proxy.lose_next()
        assert publisher.push("room", "3").offset == 3
        assert publisher.push("room", "4").offset == 4
        proxy.swallow()
        proxy.refuse(True)  # it tries once more
        publisher._timeout = 0.05
        with pytest.raises(PublishUnknown, match=r"'room': .*; no answer has come"):
            publisher.push("room", "5")
        publisher._timeout = TIMEOUT
        with server.client() as client:  # the push may still be on its way
            until = monotonic() + TIMEOUT
            while client.hget(keys_of(prefix, "room").meta, "s") != b"5":
                assert monotonic() < until
        proxy.refuse(False)
        assert publisher.push("room", "6").offset == 6
        proxy.refuse(True)
        publisher.close()
        with pytest.raises(BackplaneDown, match=r"'room': .*; nothing was sent"):
            publisher.push("room", "7")
    proxy.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_makes_a_connection_of_its_own(server: RedisServer, prefix: str) -> None:
    with Publisher(server.url, prefix=prefix, timeout=TIMEOUT) as publisher:
        publisher.push("room", "1")
        child = os.fork()
        if child == 0:
            os._exit(0 if publisher.push("room", "2").offset == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert publisher.push("room", "3").offset == 3


def test_server_that_cannot_be_used_is_named(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(url: str) -> str:
        with Publisher(url, prefix=prefix) as publisher, pytest.raises(BackplaneDown) as error:
            publisher.push("room", "1")
        return str(error.value)

    assert "too long" in told(f"redis://{'a' * 64}")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "blind", "on", ">x", "~*", "&*", "+@all", "-info")
    assert "INFO: NOPERM" in told(f"unix://blind:x@{server.path}")
    assert "password" in told(f"unix://blind:y@{server.path}")
    monkeypatch.setattr(wire, "OLDEST", (1000, 0))
    assert "is too old, expected 1000.0 or later" in told(server.url)
    with server.client() as client:
        assert not list(client.scan_iter(f"{prefix}*"))


def test_bad_arguments_are_refused(server: RedisServer) -> None:
    with pytest.raises(SettingError, match="url"):
        Publisher("http://x")
    publisher = Publisher(server.url)
    with pytest.raises(SettingError, match="name: expected 1 to 200"):
        publisher.push("", "x")
    with pytest.raises(WrongType, match="data: expected text or bytes"):
        publisher.push("room", 3)  # type: ignore[arg-type]
