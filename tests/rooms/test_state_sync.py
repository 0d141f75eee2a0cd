"""The state of a room as its members have it: joins, patches, members that lag or leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    Overflow,
    Private,
    Sessions,
    SettingError,
    StateSync,
    UsageError,
    WrongThread,
)
from hubthread.testing import VirtualHub
from tests.rooms.pages import Page, Step, change_soon, steps, walk
from tests.rooms.ticking.rooms import AnyVirtualHub
from tests.support import Logs


@dataclass
class Player:
    x: int = 0
    hand: Annotated[list[int], Private] = field(default_factory=list)


@dataclass
class Table:
    players: dict[int, Player] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


def open_table(
    hub: AnyVirtualHub, logic: Callable[..., Any] = lambda frame, table: None, **options: Any
) -> FrameControl[Table]:
    setup: dict[str, Any] = {"hz": 10, "sync": StateSync()} | options
    return HotlineFrameOption(Table, logic, **setup).run(hub.hotline(HotlineOption("table")))


def as_seen(table: Table, owner: int | None) -> Any:
    players: dict[str, Any] = {str(key): {"x": each.x} for key, each in table.players.items()}
    if owner in table.players:
        players[str(owner)]["hand"] = table.players[owner].hand
    return {"players": players, "log": table.log}


def copy_of(frame: FrameControl[Table], owner: int | None = None) -> Any:
    return frame.exec_sync(lambda _, table: json.loads(json.dumps(as_seen(table, owner))))


@pytest.fixture
def hub() -> Any:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub


def test_member_gets_the_whole_state_and_then_a_patch_for_each_change(hub: AnyVirtualHub) -> None:
    frame = open_table(hub)
    change_soon(frame, lambda table: table.log.append("before"))
    page = Page(hub)
    frame.answer(page.client.ctx)
    hub.advance(0.2)
    assert page.read() == {"players": {}, "log": ["before"]}
    change_soon(frame, lambda table: table.players.update({page.id: Player(3, [7])}))
    hub.advance(0.1)
    (public, own) = map(json.loads, page.client.messages())
    assert public["set"] == {"players": {str(page.id): {"x": 3}}}
    assert own["mine"] == {"set": {"players": {str(page.id): {"hand": [7]}}}}
    assert public["n"] == own["n"] == page.n + 1
    assert public["tick"] == 3
    hub.advance(1)
    assert page.client.messages() == []  # nothing changes, nothing comes


def test_on_join_changes_are_in_the_first_state(hub: AnyVirtualHub) -> None:
    def come(frame: FrameControl[Table], table: Table, ctx: Any) -> None:
        table.players[ctx.connection_id] = Player(hand=[1, 2])

    def go(frame: FrameControl[Table], table: Table, ctx: Any) -> None:
        del table.players[ctx.connection_id]

    frame = open_table(hub, on_join=come, on_leave=go)
    one, two = Page(hub), Page(hub)
    frame.answer(one.client.ctx)
    frame.answer(two.client.ctx)
    hub.settle()
    assert one.read() == copy_of(frame, one.id)
    assert two.read()["players"][str(two.id)] == {"x": 0, "hand": [1, 2]}
    assert "hand" not in two.state["players"][str(one.id)]
    one.client.drop()
    hub.advance(0.1)
    assert list(two.read()["players"]) == [str(two.id)]


def test_rate_of_patches_is_lower_than_that_of_ticks(hub: AnyVirtualHub) -> None:
    def logic(frame: FrameControl[Table], table: Table) -> None:
        table.log[:] = [str(frame.tick.index)]

    frame = open_table(hub, logic, hz=20, sync=StateSync(hz=5))
    page = Page(hub)
    frame.answer(page.client.ctx)
    hub.advance(1.01)
    ticks = [json.loads(text).get("tick") for text in page.client.messages()]
    assert ticks[-5:] == [1, 5, 9, 13, 17]
    assert len(ticks) == 6  # the first one came at the join


def test_room_without_ticks_sends_when_it_is_told_to(hub: AnyVirtualHub) -> None:
    frame = HotlineFrameOption(Table, sync=StateSync()).run(hub.hotline(HotlineOption("table")))
    page = Page(hub)
    frame.answer(page.client.ctx)
    hub.settle()
    page.read()
    change_soon(frame, lambda table: table.log.append("one"))
    hub.settle()
    assert page.client.messages() == []
    frame.exec_sync(lambda frame, _: frame.sync_now())
    assert page.read()["log"] == ["one"]
    with pytest.raises(WrongThread):
        frame.sync_now()


def test_sync_now_in_a_room_that_does_not_sync_is_refused(hub: AnyVirtualHub) -> None:
    frame = open_table(hub, sync=None)
    with pytest.raises(UsageError, match="StateSync"):
        frame.exec_sync(lambda frame, _: frame.sync_now())


def test_member_that_lags_gets_one_whole_state_instead_of_patches() -> None:
    setting = HubSetting[Any, Any](dict, overflow=Overflow.CLOSE)
    with VirtualHub(setting) as hub:

        def logic(frame: FrameControl[Table], table: Table) -> None:
            table.log[:] = [f"{frame.tick.index} {'x' * 200}"]

        frame = open_table(hub, logic)
        slow, quick = Page(hub), Page(hub)
        for page in (slow, quick):
            frame.answer(page.client.ctx)
        hub.advance(0.5)
        slow.read()
        slow.client.stall()
        hub.advance(5)
        waiting = slow.client.ctx.ws_conn.outbox.waiting()[0]
        assert waiting <= 2
        slow.client.resume()
        hub.advance(1)
        frame.pause()
        hub.settle()
        before = slow.whole
        assert slow.read() == quick.read() == copy_of(frame)
        assert slow.whole == before + 1


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda table: table.players.update({1: "Ada"}), "players.1: "),
        (lambda table: table.log.append("half a character: \ud800"), "the state: "),
    ],
)
def test_value_that_cannot_be_sent_is_logged_and_the_room_goes_on(
    spoil: Callable[[Any], object], place: str
) -> None:
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        frame = open_table(hub)
        page = Page(hub)
        frame.answer(page.client.ctx)
        hub.advance(0.1)
        page.read()
        change_soon(frame, spoil)
        hub.advance(0.5)
        assert page.client.messages() == []
        logs.wait(f"the state cannot be sent, at {place}")
        change_soon(frame, lambda table: table.log.clear())
        change_soon(frame, lambda table: table.players.update({1: Player(5)}))
        hub.advance(0.1)
        assert page.read() == copy_of(frame, page.id)


@dataclass
class Flat:
    x: int


@dataclass
class Field:
    players: dict[int, Flat] = field(default_factory=dict)


class Stranger:
    """No player."""

    __slots__ = ()


def drop_x(table: Table) -> None:
    del table.players[2].x


def take_stranger(table: Table) -> None:
    table.players[2] = Stranger()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("spoil", "flat"), [(take_stranger, True), (take_stranger, False), (drop_x, True)]
)
def test_record_that_is_spoilt_later_costs_no_tick(
    hub: AnyVirtualHub, spoil: Callable[[Any], object], flat: bool
) -> None:
    make: Any = Field if flat else Table
    frame = HotlineFrameOption[Any](
        make, lambda frame, table: None, hz=10, sync=StateSync(type=make)
    ).run(hub.hotline(HotlineOption("table")))
    page = Page(hub)
    frame.answer(page.client.ctx)
    player: Any = Flat if flat else Player
    change_soon(frame, lambda table: table.players.update({1: player(1), 2: player(2)}))
    hub.advance(0.1)
    page.read()
    change_soon(frame, spoil)
    hub.advance(0.3)
    assert hub.errors != []
    hub.errors.clear()
    assert page.client.messages() == []
    change_soon(frame, lambda table: table.players.update({2: player(3)}))
    hub.advance(0.1)
    assert page.read()["players"]["2"]["x"] == 3


def test_option_refuses_a_state_without_a_type() -> None:
    with pytest.raises(SettingError, match="type of the state"):
        HotlineFrameOption(partial(Table), sync=StateSync())
    HotlineFrameOption(partial(Table), sync=StateSync(type=Table))
    HotlineFrameOption(dict, sync=StateSync())
    with pytest.raises(SettingError, match="hz"):
        StateSync(hz=0)


def mutate(table: Table, what: str, key: int, number: int) -> None:
    if what == "say":
        table.log.append(str(len(table.log)))
    elif what == "come":
        table.players.setdefault(key, Player())
    elif what == "go":
        table.players.pop(key, None)
    elif key in table.players:
        table.players[key].x += 1
        if what == "deal":
            table.players[key].hand.append(table.players[key].x)


@given(steps("move", "deal", "come", "go", "say"))
def test_members_have_the_state_whatever_happens(steps: list[Step]) -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        walk(hub, open_table(hub), steps, mutate, copy_of)


@given(
    st.lists(
        st.tuples(st.sampled_from(["drop", "back", "deal", "say", "tick"]), st.integers(0, 1)),
        max_size=25,
    )
)
def test_member_that_comes_back_to_its_session_goes_on(steps: list[tuple[str, int]]) -> None:
    with VirtualHub(HubSetting[Any, Any](dict, sessions=Sessions(grace=60))) as hub:
        frame = open_table(hub)
        pages = [Page(hub, session=True) for _ in range(2)]
        for page in pages:
            frame.answer(page.client.ctx)
            change_soon(frame, partial(come_in, page.id))
        for what, which in steps:
            page = pages[which]
            if what == "drop":
                page.client.drop()
            elif what == "back":
                come_back(hub, page)
            elif what == "deal":
                change_soon(frame, partial(deal, page.id))
            elif what == "say":
                change_soon(frame, lambda table: table.log.append("x"))
            else:
                hub.advance(0.1)
        for page in pages:
            come_back(hub, page)
        hub.advance(0.2)
        for page in pages:
            assert page.read() == copy_of(frame, page.id)


def come_in(owner: int, table: Table) -> None:
    table.players[owner] = Player()


def deal(owner: int, table: Table) -> None:
    table.players[owner].hand.append(table.players[owner].x)
    table.players[owner].x += 1


def come_back(hub: AnyVirtualHub, page: Page) -> None:
    """Resume the session of a page that is away."""
    page.read()
    if page.client.closed:
        page.client = hub.connect(resume=page.client)
        assert page.client.resumed
