"""The state of a room without a clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    SharedState,
    UsageError,
    WrongType,
)
from hubthread.testing import VirtualHub
from tests.rooms.pages import Page
from tests.rooms.test_state_sync import Player, Table, as_seen
from tests.rooms.ticking.rooms import AnyVirtualHub


@pytest.fixture
def hub() -> Iterator[AnyVirtualHub]:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub


def copy_of(state: SharedState[Table], owner: int) -> Any:
    return state.exec_sync(lambda table: json.loads(json.dumps(as_seen(table, owner))))


def test_members_have_the_state_and_each_change_of_it(hub: AnyVirtualHub) -> None:
    room = hub.hotline(HotlineOption("table"))
    early = Page(hub)
    room.answer(early.client.ctx)
    state = SharedState(room, Table(log=["begun"]))
    hub.settle()
    assert early.read() == {"players": {}, "log": ["begun"]}
    late = Page(hub)
    room.answer(late.client.ctx)
    state.exec_async(lambda table: table.players.update({late.id: Player(1, [7])}))
    state.exec_async(lambda table: table.log.append("late"))
    hub.settle()
    assert len(early.client.inbox) == 1  # both changes
    for page in (early, late):
        assert page.read() == copy_of(state, page.id)
    assert late.state["players"][str(late.id)] == {"x": 1, "hand": [7]}
    state.exec_async(lambda table: table.players[late.id].hand.append(8))
    room.hangup(early.client.ctx)
    state.exec_async(lambda table: table.log.append("gone"))
    assert late.read() == copy_of(state, late.id)
    assert early.client.inbox == []


def test_room_with_hooks_changes_the_state_before_a_member_has_it(hub: AnyVirtualHub) -> None:
    def come(room: Any, ctx: Any) -> None:
        boards[0].exec_sync(
            lambda table: table.players.update({ctx.connection_id: Player(5, [1])})
        )

    room = hub.hotline(HotlineOption("table", on_join=come))
    boards = [SharedState(room, Table())]
    page = Page(hub)
    room.answer(page.client.ctx)
    assert page.read() == copy_of(boards[0], page.id)
    assert page.whole == 1


def test_change_that_raises_is_logged_or_raised(hub: AnyVirtualHub) -> None:
    room = hub.hotline(HotlineOption("table"))
    state, page = SharedState(room, Table()), Page(hub)
    room.answer(page.client.ctx)

    def fail(table: Table) -> None:
        table.log.append("half")
        raise ValueError("the other half")

    state.exec_async(fail)
    assert page.read()["log"] == ["half"]
    assert [type(error) for error in hub.errors] == [ValueError]
    hub.errors.clear()
    with pytest.raises(ValueError, match="other half"):
        state.exec_sync(fail)
    assert page.read()["log"] == ["half", "half"]


def test_rooms_that_cannot_have_a_state_are_refused(hub: AnyVirtualHub) -> None:
    room = hub.hotline(HotlineOption("table"))
    SharedState(room, Table())
    ticking = HotlineFrameOption[Any](dict).run(hub.hotline())
    shared = hub.room("shared", HotlineOption("shared", shared=True))
    for refused in (room, ticking, shared):
        with pytest.raises(UsageError):
            SharedState(refused, Table())
    with pytest.raises(UsageError):
        HotlineFrameOption[Any](dict).run(room)
    with pytest.raises(WrongType):
        SharedState("table", Table())  # type: ignore[arg-type]
