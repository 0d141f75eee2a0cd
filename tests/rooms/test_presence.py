"""Presence of shared rooms (G12), through the public API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hubthread import (
    FrameControl,
    History,
    HotlineFrameOption,
    HotlineOption,
    MemoryBackplane,
    Presence,
    PresenceChange,
    PresenceState,
    SettingError,
    UsageError,
)
from hubthread.testing.clock import FakeClock
from tests.support.presence import CALM, Page, age_of, option, virtual


def test_join_tells_who_is_in_and_then_each_change() -> None:
    with virtual() as hub:
        room = hub.hotline(option(info=age_of))
        ann = Page(hub, "ann")
        assert (ann.version, ann.members) == (0, {})
        hub.advance(0.1)
        bob = Page(hub, "bob")
        assert (bob.version, bob.members) == (1, {"ann": {"age": 4}})
        hub.advance(0.1)
        ann.look()
        bob.look()
        both = {"ann": {"age": 4}, "bob": {"age": 4}}
        assert ann.members == bob.members == both
        assert room.presence() == PresenceState(2, both, 2)

        ann.client.drop()
        hub.advance(3.0)
        assert room.presence().count == 2  # ann lingers, and then the diff waits
        hub.advance(0.2)
        bob.look()
        assert bob.diffs[-1] == ({}, ["ann"])
        assert room.presence() == PresenceState(3, {"bob": {"age": 4}}, 1)


def test_burst_is_one_diff_and_what_cancels_out_is_none() -> None:
    with virtual() as hub:
        room = hub.hotline(option(linger=0.01))
        watcher = Page(hub, "watcher")
        hub.advance(CALM)
        others = [Page(hub, f"user{number}") for number in range(20)]
        hub.advance(CALM)
        passing = Page(hub, "passing")
        passing.client.drop()
        hub.advance(CALM)
        watcher.look()

        names = [f"user{number}" for number in range(20)]
        assert [sorted(came) for came, _ in watcher.diffs] == [["watcher"], sorted(names)]
        assert (len(others), room.presence().version) == (20, 2)


def test_reload_and_second_connection_of_a_user_make_no_noise() -> None:
    with virtual() as hub:
        room = hub.hotline(option())
        ann = Page(hub, "ann")
        hub.advance(CALM)
        for _ in range(3):
            ann.client.drop()
            hub.advance(2.9)
            ann = Page(hub, "ann")
        second = Page(hub, "ann")
        second.client.drop()
        hub.advance(CALM)
        assert room.presence() == PresenceState(1, {"ann": None}, 1)
        ann.client.drop()
        hub.advance(CALM)
        assert room.presence() == PresenceState(2, {}, 0)


def test_linger_counts_from_the_last_leave() -> None:
    with virtual() as hub:
        room = hub.hotline(option())
        ann = Page(hub, "ann")
        hub.advance(CALM)
        ann.client.drop()
        hub.advance(2.0)
        ann = Page(hub, "ann")
        ann.client.drop()
        hub.advance(2.0)
        assert room.presence().count == 1
        hub.advance(1.2)
        assert room.presence().count == 0


def test_client_that_is_let_out_leaves_at_once() -> None:
    with virtual() as hub:
        room = hub.hotline(option())
        ann = Page(hub, "ann")
        hub.advance(CALM)
        room.hangup(ann.client.ctx)
        hub.advance(0.1)
        assert room.presence() == PresenceState(2, {}, 0)


def test_client_without_a_name_is_a_user_of_its_own() -> None:
    with virtual() as hub:
        room = hub.hotline(option())
        pages = [Page(hub, ""), Page(hub, "")]
        hub.advance(CALM)
        assert room.presence().count == len(pages)


def test_own_function_names_users_and_clients_without_the_subprotocol_are_users_too() -> None:
    with virtual() as hub:
        room = hub.hotline(option(user=lambda ctx, meta: f"number {ctx.connection_id}"))
        plain = hub.connect()
        room.answer(plain.ctx)
        hub.advance(CALM)
        room.push("hello")
        assert room.presence().members == {f"number {plain.ctx.connection_id}": None}
        assert plain.messages() == ["hello"]  # and nothing of the hub's own


def test_hook_hears_each_change_in_order() -> None:
    heard: list[tuple[str, PresenceChange]] = []
    with virtual() as hub:

        def on_change(room: Any, change: PresenceChange) -> None:
            heard.append((room.name, change))
            raise RuntimeError("logged")

        hub.hotline(option(info=age_of, on_change=on_change))
        ann = Page(hub, "ann")
        hub.advance(CALM)
        ann.client.drop()
        hub.advance(CALM)
        assert heard == [
            ("room", PresenceChange(1, {"ann": {"age": 4}}, (), 1)),
            ("room", PresenceChange(2, {}, ("ann",), 0)),
        ]
        assert [str(error) for error in hub.errors] == ["logged", "logged"]


@pytest.mark.parametrize(
    ("fields", "logged"),
    [
        ({"user": lambda ctx, meta: 7}, "user: expected a function that returns a string"),
        ({"user": lambda ctx, meta: 1 // 0}, "by zero"),
        ({"info": lambda ctx, meta: 1 // 0}, "by zero"),
        ({"info": lambda ctx, meta: object()}, "object"),
    ],
)
def test_function_that_fails_is_logged_and_the_client_is_in(
    fields: dict[str, Callable[[Any, Any], Any]], logged: str
) -> None:
    with virtual() as hub:
        room = hub.hotline(option(**fields))
        Page(hub, "ann")
        hub.advance(CALM)
        assert list(room.presence().members.values()) == [None]
        assert len(hub.errors) == 1
        assert logged in str(hub.errors[0])


def test_count_mode_tells_numbers_in_all_hubs() -> None:
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock) as one, virtual(backplane, clock) as two:
        here, there = one.hotline(option(mode="count")), two.hotline(option(mode="count"))
        pages = [Page(one, f"user{number}") for number in range(4)]
        other = Page(two, "other")
        one.advance(CALM)
        late = Page(one, "user0")
        pages[1].client.drop()
        one.advance(CALM)
        other.look()
        assert (late.present, late.members) == (5, {})
        assert other.present == here.presence().count == there.presence().count == 4
        assert here.presence().members == {}


def test_rooms_of_all_hubs_are_one_and_the_end_of_one_is_told() -> None:
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock) as one:
        here = one.hotline(option())
        ann = Page(one, "ann")
        with virtual(backplane, clock) as two:
            there = two.hotline(option())
            Page(two, "ann")
            Page(two, "bob")
            one.advance(CALM)
            assert here.presence().members.keys() == {"ann", "bob"}
            assert there.presence().members.keys() == {"ann", "bob"}
        ann.look()
        assert here.presence().members.keys() == ann.members.keys() == {"ann"}


def test_room_with_a_clock_and_a_history_tells_who_is_in() -> None:
    with virtual() as hub:
        made = HotlineOption("room", shared=True, history=History(), presence=Presence())
        room: FrameControl[Any] = HotlineFrameOption[Any](
            dict, hz=10, logic=lambda frame, obj: frame.push("tick")
        ).run(hub.hotline(made))
        ann, bob = Page(hub, "ann"), Page(hub, "bob")
        hub.advance(CALM)
        ann.look()
        bob.client.drop()
        hub.advance(CALM)
        ann.look()
        assert ann.members == room.presence().members == {"ann": None}


def test_bad_options_and_calls_are_refused() -> None:
    with pytest.raises(SettingError, match="presence: expected shared=True"):
        HotlineOption("room", presence=Presence())
    with pytest.raises(SettingError, match="presence: expected a Presence"):
        HotlineOption("room", shared=True, presence=True)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="mode: expected one of"):
        Presence(mode="both")  # type: ignore[arg-type]
    for name in ("diffs", "linger"):
        below: dict[str, Any] = {name: -1}
        with pytest.raises(SettingError, match=f"{name}: expected a number above 0"):
            Presence(**below)
    with virtual() as hub:
        for room in (hub.hotline(), hub.hotline(HotlineOption("plain", shared=True))):
            with pytest.raises(UsageError, match="does not tell who is in"):
                room.presence()
