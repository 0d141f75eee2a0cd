"""The log of a shared room against that of a plain one: members must see no difference."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import History, HotlineOption, HubSetting, QueueFull
from hubthread.testing import VirtualHub
from tests.support.examples import examples

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 2)),
        st.tuples(st.just("come"), st.integers(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 2)),
        st.tuples(st.just("replay"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["flush", "count"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=examples(50))
@given(steps=STEPS)
def test_members_of_a_shared_room_get_what_those_of_a_plain_one_get(
    steps: list[tuple[str, int]],
) -> None:
    """Joins and leaves stand between pushes that are placed together."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        plain = hub.hotline()
        shared = hub.hotline(HotlineOption("room", shared=True, history=History()))
        members = [(hub.connect(), hub.connect()) for _ in range(3)]
        for number, (step, which) in enumerate(steps):
            for room, client in zip((plain, shared), members[which], strict=True):
                if step == "push":
                    others = None if which == 0 else client.ctx
                    room.push(str(number), exclude=others)
                elif step == "come" or (step == "replay" and room is plain):
                    room.answer(client.ctx)
                elif step == "replay" and client.ctx not in room:
                    # Nothing is replayed to it: a position is taken, in the midst of pushes.
                    room.answer(client.ctx, since=None)
                elif step == "leave":
                    room.hangup(client.ctx)
            if step == "flush":
                hub.settle()
            assert plain.push_count == shared.push_count
            assert plain.statistics().pushes == shared.statistics().pushes
        for ours, theirs in members:
            assert ours.messages() == theirs.messages()
        last = plain.push_count
        assert plain.is_push_consumed(last) == shared.is_push_consumed(last)


def test_pushes_that_have_not_arrived_count_as_waiting_and_are_bounded() -> None:
    with VirtualHub(HubSetting[Any, Any](dict, chan_queue_size=3)) as hub:
        room = hub.hotline(HotlineOption("room", shared=True))
        client = hub.connect()
        room.answer(client.ctx)
        for text in "abc":
            room.push(text)
        assert room.statistics().waiting == 3
        with pytest.raises(QueueFull):
            room.push("d")
        assert client.messages() == [*"abc"]
        room.push("d")
        assert client.messages() == ["d"]
