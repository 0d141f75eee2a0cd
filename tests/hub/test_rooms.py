"""Rooms by name: found or made, by one of several callers at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubClosed,
    HubSetting,
    SettingError,
    UsageError,
)
from hubthread.testing import VirtualHub

SETTING: HubSetting[dict[str, str], str] = HubSetting(dict)


def test_room_is_made_once_and_then_found() -> None:
    with VirtualHub(SETTING) as hub:
        room = hub.room("table/7", HotlineOption("ignored", max_members=2))
        assert (room.name, room.statistics().name) == ("table/7", "table/7")
        assert hub.room("table/7", HotlineOption(max_members=9)) is room
        assert hub.rooms() == [room]
        hub.hotline(HotlineOption("table/8"))  # its name leads nowhere
        assert hub.room("table/8") is not room
        assert [each.name for each in hub.rooms()] == ["table/7", "table/8"]


def test_room_option_may_come_from_a_function_of_its_name() -> None:
    with VirtualHub(SETTING) as hub:
        room = hub.room("big", lambda name: HotlineOption(max_members=len(name)))
        for _ in range(3):
            room.answer(hub.connect().ctx)
        with pytest.raises(Exception, match="3 members"):
            room.answer(hub.connect().ctx)


def test_room_that_was_closed_is_made_anew() -> None:
    with VirtualHub(SETTING) as hub:
        room = hub.room("table", HotlineOption(close_when_empty=5.0))
        hub.advance(4.0)
        assert hub.room("table") is room
        hub.advance(1.0)
        assert room.is_closed
        assert hub.rooms() == []
        again = hub.room("table")
        assert again is not room
        room.close()  # the old one takes nothing away from the new one
        assert hub.room("table") is again


def test_room_with_a_clock_is_found_by_its_name() -> None:
    with VirtualHub(SETTING) as hub:
        game: FrameControl[Any] = HotlineFrameOption(dict).run(hub.room("game"))
        assert hub.room("game") is game
        game.close()
        hub.settle()
        assert hub.rooms() == []


def test_room_asked_for_by_many_threads_is_one() -> None:
    start = threading.Barrier(8)
    found: list[list[Any]] = []
    with Hub(SETTING) as hub:

        def ask() -> None:
            start.wait()
            found.append([hub.room(f"room {number}") for number in range(100)])

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(rooms == found[0] for rooms in found)
        assert len(hub.rooms()) == hub.statistics().hotlines == 100


def test_shared_room_has_its_name_for_itself() -> None:
    with VirtualHub(SETTING) as hub:
        room = hub.hotline(HotlineOption("table", shared=True))
        assert hub.room("table") is room
        with pytest.raises(UsageError, match=r"has a room 'table' already: hub.room\('table'\)"):
            hub.hotline(HotlineOption("table", shared=True))


@pytest.mark.parametrize("name", ["", "a\tb", "x" * 201, 7, None])
def test_room_name_that_does_not_fit_is_refused(name: Any) -> None:
    with VirtualHub(SETTING) as hub:
        with pytest.raises(SettingError, match="expected 1 to 200 printable characters"):
            hub.room(name)
        assert hub.statistics().hotlines == 0


def test_room_bad_option_makes_nothing() -> None:
    async def later(name: str) -> HotlineOption:
        return HotlineOption(name)

    with VirtualHub(SETTING) as hub:
        for bad in (
            7,
            later,
            lambda name: None,
            lambda _: later(""),
        ):
            with pytest.raises(UsageError):
                hub.room("table", bad)  # type: ignore[arg-type]
        assert hub.rooms() == []
    with pytest.raises(HubClosed):
        hub.room("table")
