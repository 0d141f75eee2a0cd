"""Servers that are hostile, or newer than the client: tests/static/hostile.test.mjs for Python."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import JsonHeader, MatcherMap
from hubthread.client import Room
from hubthread.errors import WrongValue
from tests.client.world import World, quiet
from tests.support.examples import examples

FIELDS = (
    "id", "reply", "n", "data", "text", "bytes", "epoch", "at", "count", "recovered",
    "members", "present", "came", "went", "v", "full", "set", "del", "add", "mine", "tick",
    "time", "hz", "acks", "refused", "error", "now", "lost", "token_ttl", "session",
    "resumed", "why", "type",
)  # fmt: skip
KINDS = (
    "hub:join", "hub:members", "hub:state", "hub:gap", "hub:input", "hub:time", "hub:token",
    "hub:hello", "hub:new", "said",
)  # fmt: skip
EVENTS = ("join", "gap", "members", "refused", "rejected", "state", "*")

plain = (
    st.none()
    | st.booleans()
    | st.integers(-1, 3)
    | st.sampled_from([2**53, 2**70, 10**400, -(10**400)])
    | st.floats()
    | st.sampled_from(["", "r", "k", "\ud800", "\x1b[2J"])
)
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3)
    ),
    max_leaves=6,
)
messages = st.builds(
    lambda fields, reply, kind, room: {**fields, **reply, "type": kind, "room": room},
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5),
    st.sampled_from([{}, {}, {"reply": 1}, {"reply": 2}]),
    st.sampled_from(KINDS) | anything,
    st.sampled_from(["r", "r", "s"]) | anything,
)


def look_at(world: World, room: Room) -> None:
    """Read everything that a program may read."""
    link = world.link
    assert link.now() is not None
    assert repr((link.rtt, link.id, link, room.members, room.present, room.position))
    assert repr((room.state, room.tick_at(), room.pending))


@settings(max_examples=examples(150))
@given(st.lists(messages, min_size=1, max_size=6))
def test_any_messages_leave_the_link_open_and_the_room_usable(sent: list[Any]) -> None:
    handlers = MatcherMap[Any, Any](JsonHeader(id_field="id", error_field="error"))
    handlers.add("said", lambda link, room, message: message)
    with World(matcher=handlers, logger=quiet()).opened() as world:
        room = world.link.room("r")
        for name in EVENTS:
            room.on(name, lambda *values: look_at(world, room))
        world.clock.settle()
        for message in sent:
            world.server.receive(json.dumps(message))
            world.clock.settle()
            room.input({})
            look_at(world, room)
        assert (world.link.state, world.link.reason) == ("open", "")
        world.server.receive({"type": "hi"})
        world.clock.settle()
        while world.link.receive(1) != {"type": "hi"}:
            pass
        world.server.end()  # and what is said at the next connection is JSON
        world.clock.advance(3)
        world.accept()
        assert world.link.state == "open"
        world.server.messages()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_message_that_nests_too_deeply_is_ignored(opening: str) -> None:
    """The decoder of Python may crash at depths that its own guard still allows."""
    deep = opening * 100_000
    with World().opened() as world:
        heard: list[object] = []
        world.link.on("message", heard.append)
        world.server.receive(deep)
        world.server.receive({"type": "said"})
        world.clock.settle()
        assert heard == [deep, '{"type": "said"}']
        assert world.link.receive(1) == {"type": "said"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1001, "retry=0"), (1012, "retry=0"), (1006, ""), (1013, "retry=0"), (4000, "retry=0.001")],
)
def test_server_that_accepts_and_closes_at_once_is_asked_ever_less_often(
    code: int, reason: str
) -> None:
    with World() as world:
        world.link.connect()
        for _ in range(600):
            world.clock.settle()
            if world.live():
                world.accept()
                world.server.end(code, reason)
            world.clock.advance(0.1)
        assert len(world.servers) < 20


def test_flood_before_the_hello_is_cut_off() -> None:
    with World() as world:
        world.link.connect()
        world.clock.settle()
        world.server.open()
        world.server.receive("x" * (2**20 + 1))
        world.clock.settle()
        assert (world.link.state, world.link.reason) == ("ended", "the server sent no hub:hello")


def test_text_that_cannot_be_sent_is_refused_where_it_is_given() -> None:
    """Not when a message that waits goes out."""
    with World() as world:
        world.link.connect()
        with pytest.raises(WrongValue, match="not valid UTF-8"):
            world.link.raw.send("\ud800")
        with pytest.raises(WrongValue, match="lone surrogate"):
            world.link.send("say", {"text": "\ud800"})
