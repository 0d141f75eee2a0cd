"""Messages to all clients of a hub, and ``hub.push``: one message for several rooms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    ContextNotClient,
    History,
    HotlineClosed,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    MemoryBackplane,
    WrongType,
)
from hubthread.testing import VirtualHub
from hubthread.testing.clock import FakeClock

AnyHub = VirtualHub[Any, Any]


def virtual(**fields: Any) -> AnyHub:
    return VirtualHub(HubSetting(dict, **fields))


def rooms_of(hub: AnyHub) -> list[Any]:
    """Return a plain room, two shared ones, and one with a clock."""
    shared = [HotlineOption(name, shared=True, history=History()) for name in ("one", "two")]
    ticking = HotlineFrameOption[Any](dict, hz=10, logic=lambda frame, obj: None)
    return [hub.hotline(), *map(hub.hotline, shared), ticking.run(hub.hotline())]


def test_push_reaches_each_member_of_any_room_once_in_the_order_of_its_room() -> None:
    with virtual() as hub:
        first, second, _, ticking = rooms = rooms_of(hub)
        only, both, clock, outside = (hub.connect() for _ in range(4))
        first.answer(only.ctx)
        for room in (first, second):
            room.answer(both.ctx)
        ticking.answer(clock.ctx)
        for room in rooms:
            room.push("before")
        assert hub.push(rooms, "to all") == [2, 2, 2, 2]
        for room in rooms:
            room.push("after")
        hub.advance(1.0)
        assert only.messages() == clock.messages() == ["before", "to all", "after"]
        texts = both.messages()
        assert sorted(map(str, texts)) == ["after", "after", "before", "before", "to all"]
        assert outside.messages() == []
        assert first.is_push_consumed(3)


@given(
    st.lists(st.frozensets(st.integers(0, 3)), min_size=1, max_size=6),
    st.lists(st.tuples(st.frozensets(st.integers(0, 3)), st.frozensets(st.integers(0, 5)))),
)
def test_push_to_any_rooms_without_some_reaches_the_union_of_the_others(
    memberships: list[frozenset[int]], pushes: list[tuple[frozenset[int], frozenset[int]]]
) -> None:
    with virtual() as hub:
        rooms, clients = rooms_of(hub), [hub.connect() for _ in memberships]
        for client, indices in zip(clients, memberships, strict=True):
            for each in indices:
                rooms[each].answer(client.ctx)
        for number, (to, without) in enumerate(pushes):
            exclude = [client.ctx for place, client in enumerate(clients) if place in without]
            hub.push([rooms[each] for each in to], str(number), exclude=exclude)
        hub.advance(1.0)
        for place, (client, indices) in enumerate(zip(clients, memberships, strict=True)):
            wanted = [
                str(number)
                for number, (to, without) in enumerate(pushes)
                if to & indices and place not in without
            ]
            # Between rooms no order is promised.
            assert sorted(map(str, client.messages())) == sorted(wanted)


def test_push_to_shared_rooms_reaches_the_members_in_other_hubs() -> None:
    clock, backplane = FakeClock(), MemoryBackplane()
    setting = HubSetting[Any, Any](dict, backplane=backplane)
    with VirtualHub(setting, clock) as one, VirtualHub(setting, clock) as two:
        here, there = rooms_of(one)[1:3], rooms_of(two)[1:3]
        client = two.connect()
        for room in there:
            room.answer(client.ctx)
        one.push(here, "once")
        assert client.messages() == ["once"]


def test_push_that_one_room_cannot_take_reaches_none() -> None:
    with virtual() as hub:
        first, second, *_ = rooms_of(hub)
        client = hub.connect()
        first.answer(client.ctx)
        second.close()
        with pytest.raises(HotlineClosed):
            hub.push([first, second], "text")
        with pytest.raises(WrongType, match="rooms: expected rooms, got 'lobby'"):
            hub.push([first, "lobby"], "text")  # type: ignore[list-item]
        with pytest.raises(WrongType, match="expected a message of str"):
            hub.push([first], 7)  # type: ignore[arg-type]
        with pytest.raises(ContextNotClient):
            hub.push([first], "text", exclude=["ann"])  # type: ignore[list-item]
        assert (hub.push([], "text"), hub.push([hub.silent_hotline()], "text")) == ([], [0])
        assert (client.messages(), first.push_count) == ([], 0)
