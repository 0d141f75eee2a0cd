"""Hubs that share rooms in virtual time, while their server fails."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import (
    BackplaneDown,
    BackplaneState,
    History,
    Hotline,
    HotlineOption,
    HubSetting,
    NodeGone,
    Position,
    Presence,
    Upgrader,
    WebsocketPeriod,
    WrongValue,
)
from hubthread.testing import VirtualCluster
from tests.support.backplanes import Page, assert_one_order
from tests.support.examples import examples

PERIOD = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("hubthread.1",)))
ROOM = HotlineOption("room", shared=True, history=History(size=8))
Cluster = VirtualCluster[dict[str, Any], str]
Room = Hotline[dict[str, Any], str]


@contextlib.contextmanager
def cluster(
    nodes: int = 3, option: HotlineOption = ROOM, *, local: bool = False, **fields: Any
) -> Iterator[tuple[Cluster, list[Room], list[Page]]]:
    """Run hubs, each with the room and a page in it."""
    setting = HubSetting[Any, Any](
        dict, websocket_period=PERIOD, may_join=lambda ctx, meta, name: True, **fields
    )
    with VirtualCluster(setting, nodes, local=local) as hubs:
        rooms = [hub.hotline(option) for hub in hubs.hubs]
        pages = [Page() for _ in hubs.hubs]
        for page, hub in zip(pages, hubs.hubs, strict=True):
            page.join(hub, "room")
        yield hubs, rooms, pages
    assert hubs.errors == []


def texts(page: Page) -> list[str | None]:
    """Return what a page has got since it joined, with None for each gap."""
    return [text for _, text in page.order()][1:]


KINDS = ("push", "push", "push", "cut", "heal", "drop", "fail over", "leave", "come", "wait")
STEP = st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(1, 4))
STEPS = st.lists(STEP, max_size=60)


@settings(max_examples=examples(40))  # of 60 steps each
@given(steps=STEPS)
def test_cluster_members_see_one_order_and_are_told_each_hole_under_any_faults(
    steps: list[tuple[str, int, int]],
) -> None:
    with cluster() as (hubs, rooms, pages):
        pushed: list[str] = []
        losses = 0
        for step, which, count in steps:
            hub, page = hubs.hubs[which], pages[which]
            if step == "push":
                for _ in range(count):
                    with contextlib.suppress(BackplaneDown):
                        rooms[which].push(f"push {len(pushed)}")
                        pushed.append(f"push {len(pushed)}")
                if count % 2:
                    hubs.settle()
            elif step == "cut":
                hubs.cut(hub)
            elif step == "heal":
                hubs.heal(hub)
            elif step == "drop":
                hubs.drop(hub, count)
            elif step == "fail over":
                losses += 1
                hubs.fail_over()
            elif step == "leave":
                page.drop()
            elif step == "come" and page.client is None:
                page.join(hub, "room")
            elif step == "wait":
                hubs.advance(3.0 * count)
        for hub in hubs.hubs:
            hubs.heal(hub)
        hubs.advance(60.0)  # the check of all rooms, and the wait for an answer that was lost
        hubs.advance(60.0)
        for hub, page in zip(hubs.hubs, pages, strict=True):
            if page.client is None:
                page.join(hub, "room")
        for number, room in enumerate(rooms):
            room.push(f"end {number}")
        hubs.advance(60.0)
        assert_one_order(pages)
        assert len({page.order()[-1] for page in pages}) == 1
        for page in pages:
            told = texts(page)
            assert {f"end {number}" for number in range(3)} <= set(told)
            if None not in told:
                assert set(told) >= set(pushed)
        if not losses:
            # The server has placed each push that was accepted.
            assert {page.order()[-1][0].offset for page in pages} == {len(pushed) + 3}


def test_cluster_cut_hub_gets_what_it_missed_and_its_pushes_wait() -> None:
    states: list[BackplaneState] = []
    with cluster(2, on_backplane=lambda hub, state: states.append(state)) as (hubs, rooms, pages):
        one, _ = hubs.hubs
        hubs.settle()
        states.clear()
        hubs.cut(one)
        rooms[0].push("waits")
        rooms[1].push("missed")
        hubs.settle()
        assert (texts(pages[0]), texts(pages[1])) == ([], ["missed"])
        assert one.statistics().backplane.state == "down"  # type: ignore[union-attr]
        hubs.heal(one)
        assert texts(pages[0]) == texts(pages[1]) == ["missed", "waits"]
        assert states == [BackplaneState.DOWN, BackplaneState.RESYNC, BackplaneState.UP]
        hubs.cut(one)
        hubs.advance(10.0)
        with pytest.raises(BackplaneDown, match="'room': the server has been away for 10"):
            rooms[0].push("refused")


@settings(max_examples=examples(40))
@given(steps=st.lists(STEP, max_size=40))
def test_cluster_local_members_get_each_push_once_here_at_once_and_elsewhere_in_order(
    steps: list[tuple[str, int, int]],
) -> None:
    with cluster(local=True) as (hubs, rooms, pages):
        cut_at: list[float | None] = [None] * 3
        gone: list[Page] = []
        pushed = waiting = losses = 0
        for step, which, count in steps:
            hub, page, began = hubs.hubs[which], pages[which], cut_at[which]
            if step == "push":
                new = [f"push {pushed + number}" for number in range(count)]
                pushed += count
                for each in new:
                    rooms[which].push(each)
                if began is None or hubs.clock.now() < began + 10.0:
                    waiting += count
                hubs.settle()
                page.look()
                if began is not None and page.client is not None:
                    assert page.shown[-count:] == new
            elif step == "cut" and began is None:
                hubs.cut(hub)
                cut_at[which] = hubs.clock.now()
            elif step == "heal":
                hubs.heal(hub)
                cut_at[which] = None
            elif step == "drop":
                hubs.drop(hub, count)
            elif step == "fail over":
                losses += 1
                hubs.fail_over()
            elif step == "leave" and page.client is not None:
                page.drop()
                gone.append(page)
                pages[which] = Page()
            elif step == "come" and page.client is None:
                page.join(hub, "room")
            elif step == "wait":
                hubs.advance(3.0 * count)
        for hub in hubs.hubs:
            hubs.heal(hub)
        hubs.advance(120.0)
        for hub, page in zip(hubs.hubs, pages, strict=True):
            if page.client is None:
                page.join(hub, "room")
        for number, room in enumerate(rooms):
            room.push(f"end {number}")
        hubs.advance(60.0)
        places: dict[Position, str] = {}
        for page in [*gone, *pages]:
            order = page.order()
            got = [text for _, text in order if text is not None]
            assert len(set(got + page.shown)) == len(got) + len(page.shown)
            for (before, _), (place, text) in itertools.pairwise(order):
                if text is not None:
                    assert place.epoch == before.epoch
                    assert place.offset > before.offset
                    assert places.setdefault(place, text) == text
            last_gap = max(at for at, (_, text) in enumerate(order) if text is None)
            assert page in gone or last_gap or not page.shown
            offsets = [place.offset for place, _ in order[last_gap:]]
            assert page in gone or offsets == list(range(offsets[0], offsets[-1] + 1))
        assert all(page.order()[-3:] == pages[0].order()[-3:] for page in pages)
        if not losses:
            assert pages[0].order()[-1][0].offset == waiting + 3


def test_cluster_local_push_is_shown_here_without_a_number_and_placed_for_others() -> None:
    gaps: list[int] = []
    option = HotlineOption(
        "room",
        shared=True,
        history=History(),
        on_gap=lambda room, position: gaps.append(position.offset),
    )
    with cluster(2, option, local=True) as (hubs, rooms, (here, there)):
        one, (room, far) = hubs.hubs[0], rooms
        plain, slow, leaver = (one.connect() for _ in range(3))
        for client in (plain, slow, leaver):
            room.answer(client.ctx)
        hubs.settle()
        hubs.cut(one)
        slow.stall()
        first = room.push('{"x": 1}')
        assert not room.is_push_consumed(first)
        slow.resume()
        assert room.is_push_consumed(first)
        room.push("b", exclude=plain.ctx)
        room.hangup(leaver.ctx)
        late = one.connect()
        room.answer(late.ctx)
        other = one.hotline()
        other.answer(plain.ctx)
        one.push([room, other], "c")
        far.push("d")
        hubs.settle()
        assert (here.order()[1:], here.shown) == ([], ['{"x": 1}', "b", "c"])
        assert plain.messages() == ['{"x": 1}', "c"]
        assert slow.messages() == ['{"x": 1}', "b", "c"]
        assert leaver.messages() == ['{"x": 1}', "b"]
        assert late.messages() == ["c"]
        assert texts(there) == ["d"]
        assert gaps == []

        hubs.heal(one)
        last = room.push("e")
        hubs.settle()
        assert texts(there) == ["d", '{"x": 1}', "b", "c", "e"]
        assert [(place.offset, text) for place, text in here.order()[1:]] == [
            *((1, "d"), (4, None), (5, "e")),
        ]
        assert len(here.shown) == 3
        for client in (plain, slow, late):
            assert client.messages() == ["d", "e"]
        assert leaver.messages() == []
        assert gaps == [4]
        assert room.is_push_consumed(last)
        assert last == first + 3


def test_cluster_local_client_that_comes_back_is_told_and_recovers_with_numbers_later() -> None:
    with cluster(2, local=True) as (hubs, rooms, (here, there)):
        one = hubs.hubs[0]
        rooms[0].push("a")
        hubs.settle()
        assert texts(here) == ["a"]
        away = Page()
        here.look()
        away.position = here.position
        hubs.cut(one)
        rooms[0].push("b")
        here.drop()
        here.join(one, "room")  # it does not get "b", which has no place
        assert texts(here) == ["a", None]
        rooms[0].push("c")
        hubs.heal(one)
        assert (texts(here), here.shown) == (["a", None, None], ["b", "c"])
        assert texts(there) == ["a", "b", "c"]
        away.join(one, "room")
        assert [text for _, text in away.order()] == ["b", "c"]


def test_cluster_local_room_that_is_made_while_the_server_is_away_shows_and_numbers_later() -> (
    None
):
    with cluster(2, local=True) as (hubs, _, _):
        one, two = hubs.hubs
        far = two.hotline(HotlineOption("late", shared=True, history=History()))
        far.push("before")
        hubs.settle()
        hubs.cut(one)
        room = one.hotline(HotlineOption("late", shared=True, history=History()))
        here = Page()
        here.join(one, "late")
        room.push("a")
        here.look()
        assert here.shown == ["a"]
        hubs.heal(one)
        far.push("b")
        room.push("c")
        hubs.settle()
        assert [(place.offset, text) for place, text in here.order()[1:]] == [
            *((2, None), (3, "b"), (4, "c")),
        ]


def test_cluster_local_push_that_cannot_wait_is_counted_and_stays_in_its_hub() -> None:
    gaps: list[int] = []
    option = HotlineOption(
        "room",
        shared=True,
        history=History(),
        on_gap=lambda room, position: gaps.append(position.offset),
    )
    with cluster(2, option, local=True) as (hubs, rooms, (here, there)):
        one = hubs.hubs[0]
        hubs.cut(one)
        waits = rooms[0].push("waits")
        hubs.advance(10.0)
        assert rooms[0].push("stays") == waits
        here.look()
        assert rooms[0].is_push_consumed(waits)
        assert here.shown == ["waits", "stays"]
        assert one.statistics().backplane.local == 1  # type: ignore[union-attr]
        hubs.heal(one)
        assert (texts(here), texts(there), gaps) == ([None], ["waits"], [1])
        hubs.cut(one)
        hubs.advance(10.0)
        rooms[0].push("stays, too")
        hubs.heal(one)
        assert (texts(here), texts(there), gaps) == ([None, None], ["waits"], [1, 1])


def test_cluster_hub_that_missed_more_than_is_kept_is_told_one_gap() -> None:
    with cluster(2) as (hubs, rooms, pages):
        hubs.cut(hubs.hubs[0])
        for number in range(20):
            rooms[1].push(f"{number}")
            hubs.settle()
        hubs.heal(hubs.hubs[0])
        assert texts(pages[0]) == [None, *(f"{number}" for number in range(12, 20))]
        assert_one_order(pages)


@pytest.mark.parametrize("next_push", [True, False])
def test_cluster_dropped_push_is_fetched_without_a_gap(next_push: bool) -> None:
    with cluster(2) as (hubs, rooms, pages):
        hubs.drop(hubs.hubs[0])
        rooms[1].push("lost on its way")
        hubs.settle()
        assert texts(pages[0]) == []
        if next_push:
            rooms[1].push("next")
        hubs.advance(0.0 if next_push else 25.0)
        assert texts(pages[0]) == texts(pages[1]) == ["lost on its way", "next"][: 1 + next_push]


def test_cluster_dropped_answer_places_nothing_twice() -> None:
    with cluster(2) as (hubs, rooms, pages):
        hubs.drop(hubs.hubs[0], 2)  # the push itself, and the answer to it
        rooms[0].push("once")
        hubs.settle()
        assert (texts(pages[0]), texts(pages[1])) == ([], ["once"])
        rooms[0].push("behind it")
        hubs.advance(5.0)
        assert texts(pages[0]) == texts(pages[1]) == ["once", "behind it"]


def test_cluster_failover_begins_an_epoch_and_members_are_told() -> None:
    gaps: list[int] = []
    option = HotlineOption(
        "room", shared=True, history=History(), on_gap=lambda room, place: gaps.append(1)
    )
    with cluster(2, option) as (hubs, rooms, pages):
        hubs.cut(hubs.hubs[0])
        rooms[0].push("waits")
        rooms[1].push("lost for one hub")
        hubs.settle()
        before = pages[1].position
        pages[1].drop()
        hubs.fail_over()
        hubs.heal(hubs.hubs[0])
        assert texts(pages[0]) == [None, "waits"]
        pages[1].join(hubs.hubs[1], "room")  # its position is of the epoch that is lost
        assert texts(pages[1]) == ["lost for one hub", None]
        assert before is not None
        assert pages[1].position != before
        assert gaps == [1, 1]


def test_cluster_hub_that_is_cut_is_known_to_the_others_for_ten_seconds() -> None:
    def known() -> list[dict[str, float]]:
        return [{node.name: node.age for node in hub.cluster()} for hub in hubs.hubs]

    with VirtualCluster(HubSetting[Any, Any](dict), 2) as hubs:
        one, two = hubs.hubs
        hubs.cut(one)
        hubs.advance(9.0)
        assert known() == [{"hub-1": 0.0, "hub-2": 9.0}, {"hub-1": 9.0, "hub-2": 0.0}]
        hubs.advance(1.0)
        assert known() == [{"hub-1": 0.0}, {"hub-2": 0.0}]
        with pytest.raises(NodeGone):
            two.call(one.cluster()[0], "anything")
        hubs.heal(one)
        assert known() == [{"hub-1": 0.0, "hub-2": 0.0}] * 2


def test_cluster_cut_hub_is_told_nothing_and_tells_nothing() -> None:
    with VirtualCluster(HubSetting[Any, Any](dict), 2) as hubs:
        one, two = hubs.hubs
        ann, bob = one.connect(), two.connect()
        hubs.cut(one)
        one.tell(bob.ctx.address, "lost")
        two.tell(ann.ctx.address, "lost")
        with pytest.raises(BackplaneDown):
            one.call(bob.ctx.address.node, "add")
        with pytest.raises(NodeGone):
            two.call(ann.ctx.address.node, "add")
        hubs.heal(one)
        two.tell(ann.ctx.address, "here")
        assert (ann.messages(), bob.messages()) == (["here"], [])


def test_cluster_push_that_a_lost_server_had_placed_comes_once() -> None:
    with cluster(2) as (hubs, rooms, pages):
        hubs.drop(hubs.hubs[0], 2)  # the push itself, and the answer to it
        rooms[0].push("once")
        hubs.settle()
        hubs.fail_over()  # the push is sent again, to the new server
        assert [texts(page).count("once") for page in pages] == [1, 1]
        assert_one_order(pages)


def test_cluster_presence_of_a_dead_hub_ends_and_comes_back() -> None:
    option = HotlineOption("room", shared=True, presence=Presence(user=lambda ctx, meta: "ann"))
    with VirtualCluster(HubSetting[Any, Any](dict), 2) as hubs:
        one = hubs.hubs[0]
        here, there = (hub.hotline(option) for hub in hubs.hubs)
        here.answer(one.connect().ctx)
        hubs.advance(1.0)

        def seen() -> list[str]:
            return list(there.presence().members)

        assert seen() == ["ann"]
        hubs.cut(one)
        hubs.advance(9.9)
        assert seen() == ["ann"]
        hubs.advance(0.2)
        assert seen() == []
        hubs.heal(one)
        hubs.advance(1.0)
        assert seen() == ["ann"]


def test_cluster_refuses_a_hub_of_another() -> None:
    setting = HubSetting[Any, Any](dict, hub_name="shop")
    with VirtualCluster(setting, 1) as hubs, VirtualCluster(setting, 1) as others:
        assert repr(hubs) == "<VirtualCluster of 1 hubs>"
        assert hubs.hubs[0].name == "shop-1"
        with pytest.raises(WrongValue, match="expected a hub of this cluster"):
            hubs.cut(others.hubs[0])
