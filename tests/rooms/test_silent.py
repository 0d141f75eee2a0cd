"""The silent hotline: every call that a hotline takes, accepted, and nothing done."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import Hotline, Hub, HubSetting, SilentHotline
from tests.support import TIMEOUT, fence, serving

# Without what is for the library alone.
NAMES = sorted({name for name in dir(Hotline) if not name.startswith("_")})

CALLS: dict[str, Callable[[Any], Any]] = {
    "answer": lambda room: room.answer(object()),
    "hangup": lambda room: room.hangup(None),
    "push": lambda room: room.push({"no": "message"}, key=object()),
    "push_json": lambda room: room.push_json(object()),
    "push_splicing": lambda room: room.push_splicing(b"prefix", object()),
    "is_push_consumed": lambda room: room.is_push_consumed(10**9),
    "wait_push_consumed": lambda room: room.wait_push_consumed(10**9),
    "each_client": lambda room: room.each_client(None).results,
    "context_iter_a_async_exec": lambda room: room.context_iter_a_async_exec(None).errors,
    "context_iter_a_sync_exec": lambda room: room.context_iter_a_sync_exec(None).gone,
    "context_iter_s_async_exec": lambda room: room.context_iter_s_async_exec(None).wait().gone,
    "statistics": lambda room: room.statistics().members,
    "close": lambda room: room.close(),
    "close_if_empty": lambda room: room.close_if_empty(),
}
ATTRIBUTES = {
    "context", "hotline_id", "hub", "is_closed", "logger", "members", "members_num", "name",
    "push_count",
}  # fmt: skip


def test_these_are_all_the_names_that_a_hotline_has() -> None:
    """And the silent one answers to each by itself: none reaches for a room behind it."""
    assert set(NAMES) == CALLS.keys() | ATTRIBUTES
    inherited = {name for name in NAMES if getattr(Hotline, name) is getattr(SilentHotline, name)}
    # Of no room, or made of each_client.
    assert inherited == {"context", "hotline_id", "hub", "logger", "name"} | {
        name for name in NAMES if name.startswith("context_iter_")
    }
    assert all(
        inspect.signature(getattr(Hotline, name)).parameters
        == inspect.signature(getattr(SilentHotline, name)).parameters
        for name in CALLS
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("closed", [False, True])
def test_every_call_is_accepted_and_does_nothing(name: str, closed: bool) -> None:
    """Whatever it is given, on any thread, the hub's too, and after the end of either."""
    with Hub(HubSetting[Any, Any](dict)) as hub:
        room = hub.silent_hotline()
        if closed:
            room.close()
        here = CALLS[name](room)
        assert hub.exec_sync(lambda _: CALLS[name](room)) == here
        assert not any((room.members, room.members_num, room.push_count, room.name in room))
        assert hub.statistics().hotlines == 0
    assert CALLS[name](room) == here
    assert here in (None, 0, True, [], {})


def test_nothing_of_it_reaches_a_client() -> None:
    """It stands in for a room, as a type too, and the client hears only what is meant for it."""
    with serving() as served:
        peer, client = served.pair()
        room: Hotline[Any, Any] = served.hub.silent_hotline()
        room.answer(client)
        assert client not in room
        assert room.push("unheard") == 0
        assert room.wait_push_consumed(0, TIMEOUT)
        fence(served.hub)
        client.write("heard")
        assert peer.messages(1) == ["heard"]
        assert client.statistics().hotlines == 0


def test_it_closes_like_any_hotline() -> None:
    """Its context ends, with the hub's at the latest, and its number is its own."""
    with Hub(HubSetting[Any, Any](dict)) as hub:
        rooms = [hub.silent_hotline() for _ in range(3)]
        assert len({room.hotline_id for room in [*rooms, hub.hotline()]}) == 4
        assert rooms[0].close_if_empty()
        assert rooms[0].is_closed
        assert rooms[0].context.cancelled
        assert repr(rooms[0]).endswith("closed>")
        assert not rooms[1].is_closed
        assert not rooms[1].context.cancelled
        assert rooms[1].statistics().pushes == 0
        assert rooms[1].logger is hub.logger
        assert repr(rooms[1]).endswith("open>")
    assert rooms[2].context.cancelled
