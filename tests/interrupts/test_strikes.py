"""An exception strikes inside a call: Ctrl-C, or a signal handler that raises.

Each public call is struck at its n-th line, for every n.  After each strike the call has happened
or it has not, and everything else goes on.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hubthread import History, HotlineOption, HubSetting, Presence
from hubthread.testing import VirtualHub
from tests.interrupts.interrupting import (
    CALLS,
    MOST,
    at_each,
    house,
    signal_at,
    strike,
)

pytestmark = [
    pytest.mark.interrupts,
    # A strike inside a callback of the collector or of a weak reference reaches no caller.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A socket that was made just before the strike.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize("name", CALLS)
def test_call_struck_anywhere_leaves_everything_else_alive(name: str) -> None:
    with house() as h:

        def call() -> object:
            return CALLS[name].call(h)

        struck = at_each(call, strike)
        for number in range(MOST):
            with h.aiming(name):
                if not struck(number):
                    break
            for ctx in (h.client, h.other):  # a join or a leave was struck: both are out
                h.room.answer(ctx)
            h.check()
        else:
            pytest.fail(f"{name} has no end")


@pytest.mark.parametrize("place", ["_append", "_flush_soon", "schedule", "post", "ring"])
def test_signal_handler_that_raises_leaves_room_and_hub_alive(place: str) -> None:
    with house() as h:
        h.at_rest()
        with signal_at(place), pytest.raises(KeyboardInterrupt):
            h.room.push("interrupted")
        h.check()


def test_shared_push_struck_anywhere_reaches_members_and_the_history_once_at_most() -> None:
    texts = itertools.count()
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        option = HotlineOption("room", shared=True, history=History(size=MOST, recovery=MOST))
        room, client, late = hub.hotline(option), hub.connect(), hub.connect()
        room.answer(client.ctx)
        struck = at_each(lambda: room.push(str(next(texts))), strike)
        for number in range(MOST):
            if not struck(number):
                break
        room.push("last")
        room.answer(late.ctx, replay=MOST)
        seen = client.messages()
        assert len(seen) == len(set(seen))
        assert seen[-1] == "last"
        assert late.messages() == seen


@pytest.mark.parametrize("name", ["answer", "hangup"])
def test_presence_is_right_after_a_join_or_a_leave_was_struck_anywhere(
    name: str,
) -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        room = hub.hotline(HotlineOption("room", shared=True, presence=Presence()))
        client = hub.connect().ctx
        struck = at_each(lambda: getattr(room, name)(client), strike)
        for number in range(MOST):
            if name == "hangup":
                room.answer(client)
            if not struck(number):
                break
            for step, count in ((room.hangup, 0), (room.answer, 1), (room.hangup, 0)):
                step(client)
                hub.advance(10.0)
                assert room.presence().count == count
