"""The state of a room at a link: ``StateSync`` on one side, ``room.state`` on the other."""

from __future__ import annotations

from typing import Any

from hubthread import (
    History,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    StateSync,
)
from hubthread.client import Link
from hubthread.testing import VirtualHub
from tests.rooms.test_state_sync import Player, Table
from tests.support import Notes


def logic(frame: Any, table: Table) -> None:
    for player in table.players.values():
        player.x += 1
        player.hand.append(player.x)


def come(frame: Any, table: Table, ctx: Any) -> None:
    table.players[ctx.connection_id] = Player()


def test_link_has_the_state_of_its_room_and_hears_of_changes() -> None:
    """The room is shared, too: the state is this hub's alone, and no part of the history."""
    option = HotlineFrameOption(Table, logic, hz=10, on_join=come, sync=StateSync())
    allow = HubSetting[Any, Any](dict, may_join=lambda ctx, meta, name: True)
    with VirtualHub(allow) as hub, hub.link() as link:
        shared = hub.room("table", HotlineOption("table", shared=True, history=History()))
        option.run(shared)
        connect(link)
        room, heard = link.room("table"), Notes()
        assert room.state is None
        room.on("state", heard)
        hub.advance(0.35)
        (mine,) = room.state["players"].values()  # type: ignore[index]
        assert mine["x"] >= 3
        assert mine["hand"] == list(range(1, mine["x"] + 1))
        assert heard.now()[-1] == room.state
        before = mine["x"]
        hub.advance(0.1)
        (now,) = room.state["players"].values()  # type: ignore[index]
        assert now["x"] > before == mine["x"]  # a state that was read stays as it is
        assert shared.push_count == 0
        link.retry_now()
        hub.advance(1.0)
        (again,) = room.state["players"].values()  # type: ignore[index]
        assert again["x"] > mine["hand"][-1]


def connect(link: Link) -> None:
    link.connect()
    link.wait_open()
