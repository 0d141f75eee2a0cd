"""The silent hotline: it accepts every call of a hotline, and does nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import Hotline, Hub, HubSetting, SilentHotline
from tests.support import TIMEOUT, fence, serving

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
    "presence": lambda room: room.presence().count,
    "close_if_empty": lambda room: room.close_if_empty(),
}
ATTRIBUTES = {
    "context", "data", "hotline_id", "hub", "is_closed", "logger", "members", "members_num",
    "name", "push_count",
}  # fmt: skip


def test_silent_hotline_names_are_those_of_a_hotline() -> None:
    """A new method of ``Hotline`` needs a call in this file, and keeps its parameters."""
    assert set(NAMES) == CALLS.keys() | ATTRIBUTES
    for name in CALLS:
        theirs, ours = getattr(Hotline, name), getattr(SilentHotline, name)
        assert inspect.signature(theirs).parameters == inspect.signature(ours).parameters


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("closed", [False, True])
def test_silent_hotline_any_call_is_accepted_and_does_nothing(name: str, closed: bool) -> None:
    """The arguments, the thread and the state of the room and the hub do not matter."""
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


def test_silent_hotline_answered_client_is_not_a_member() -> None:
    """It is a ``Hotline`` by type, and the client gets only what is written to it."""
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


def test_silent_hotline_closed_shows_it_and_cancels_its_context() -> None:
    """The context ends with the hub's at the latest; the number is unique."""
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
