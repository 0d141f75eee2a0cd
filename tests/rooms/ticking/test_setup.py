"""How a room with a clock is made, and what is refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hubthread import (
    DeadlockError,
    FrameControl,
    HotlineClosed,
    HotlineFrameOption,
    Hub,
    HubClosed,
    HubSetting,
    SettingError,
    UsageError,
)
from hubthread.rooms.ticking.loop import TickLoop
from tests.rooms.ticking.hand_clock import Notes, new_hub, still
from tests.support import TIMEOUT, Gate, in_thread, serving, together


def _logic(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("hz", {"hz": -1}),
        ("hz", {"hz": float("nan")}),
        ("hz", {"hz": float("inf")}),
        ("hz", {"hz": True}),
        ("hz", {"hz": False}),
        ("hz", {"hz": "20"}),
        ("hz", {"hz": None}),
        ("hz", {"hz": 10_001}),
        ("hz", {"hz": 10**400}),
        ("hz_basic", {"hz_basic": -0.1}),
        ("hz_basic", {"hz_basic": float("nan")}),
        ("hz_basic", {"hz_basic": float("inf")}),
        ("hz_basic", {"hz_basic": True}),
        ("hz_basic", {"hz_basic": 0.00001}),
        ("hz_basic", {"hz_basic": 10**400}),
        ("hz_basic", {"hz": 20, "hz_basic": 0.06}),
        ("new_obj", {"new_obj": None}),
        ("new_obj", {"new_obj": []}),
        ("logic", {"logic": "logic"}),
        ("logic", {"hz": 20, "logic": None}),
        ("logic", {"hz_basic": 1, "logic": None}),
        ("on_start", {"on_start": 1}),
        ("on_close", {"on_close": 1}),
        ("on_overrun", {"on_overrun": 1}),
        ("overrun", {"overrun": "catch up"}),
        ("overrun", {"overrun": None}),
        ("catch_up", {"catch_up": 0}),
        ("catch_up", {"catch_up": 1.5}),
        ("catch_up", {"catch_up": True}),
        ("catch_up", {"catch_up": 10**400}),
        ("control_size", {"control_size": 0}),
        ("control_size", {"control_size": -1}),
        ("max_overruns", {"max_overruns": 0}),
        ("max_overruns", {"max_overruns": float("inf")}),
        ("close_on_error", {"close_on_error": 1}),
    ],
)
def test_each_wrong_setting_is_named(field: str, fields: dict[str, Any]) -> None:
    """When the option is made, with what is allowed."""
    with pytest.raises(SettingError, match=f"^{field}: .+") as raised:
        HotlineFrameOption[Any](**{"new_obj": list, "logic": _logic, **fields})
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("fields", "hz", "dt"),
    [
        ({}, 0, 0),
        ({"hz": 0, "hz_basic": 0.0}, 0, 0),
        ({"hz": 49}, 49, 1 / 49),
        ({"hz": 0.1}, 0.1, 10),
        ({"hz_basic": 0.25}, 4, 0.25),
        ({"hz": 20, "hz_basic": 0.05}, 20, 0.05),
        ({"hz": 10_000}, 10_000, 0.0001),
        ({"hz": 2**-999}, 2**-999, 2**999),
    ],
)
def test_a_rate_is_said_either_way(fields: dict[str, Any], hz: float, dt: float) -> None:
    """Ticks a second, or seconds between ticks; both, if they agree; zero is none."""
    hub, _, _ = new_hub()
    with hub:
        frame = HotlineFrameOption[Any](list, _logic, **fields).run(hub.hotline())
        assert frame.hz == hz
        assert frame.exec_sync(lambda frame, _: frame.tick.dt) == dt
        if hz:
            assert frame.latency_time(1.0) == pytest.approx(1 / hz)
            assert frame.latency_time(0) == 0
        else:
            with pytest.raises(UsageError, match="no ticks"):
                frame.latency_time(1.0)


def test_at_ten_hertz_a_second_is_a_tenth() -> None:
    """The specification's example."""
    hub, _, _ = new_hub()
    with hub:
        frame = HotlineFrameOption[Any](list, _logic, hz=10).run(hub.hotline())
        assert frame.latency_time(1.0) == 0.1


def test_it_is_the_hotline_that_was_given() -> None:
    """One state, whoever holds it; the hub hands out the one with a clock from then on."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        hotline.push("1")
        frame = HotlineFrameOption[Any](list).run(hotline)
        assert isinstance(frame, FrameControl)
        assert (frame.hotline_id, frame.hub, frame.context) == (1, s.hub, hotline.context)
        assert client in frame
        assert frame.push("2") == 2
        assert hotline.push("3") == 3
        assert peer.messages(3) == ["1", "2", "3"]
        assert s.hub.exec_sync(lambda hub: hub.hotlines()) == [frame]
        assert s.hub.exec_sync(lambda hub: hub.hotline(hotline.hotline_id)) is frame
        assert frame.each_client(lambda number, _ctx, _meta: number).results == {
            client.connection_id: client.connection_id
        }
        hotline.close()
        assert frame.join(TIMEOUT)
        assert frame.is_closed
        assert s.hub.exec_sync(lambda hub: hub.hotlines()) == []
        assert client.statistics().hotlines == 0


def test_one_option_runs_many_rooms_each_with_its_object() -> None:
    """Made on the thread that owns it."""
    hub, _, _ = new_hub()
    with hub:
        idents: list[int] = []
        option = HotlineFrameOption[list[int]](lambda: [threading.get_ident()])
        frames = [option.run(hub.hotline()) for _ in range(3)]
        idents = [frame.exec_sync(lambda _, obj: obj[0]) for frame in frames]
        assert idents == [frame.exec_sync(lambda *_: threading.get_ident()) for frame in frames]
        assert len(set(idents)) == 3
        objects = [frame.exec_sync(lambda _, obj: obj) for frame in frames]
        assert len({id(each) for each in objects}) == 3


@pytest.mark.parametrize("second", ["the same option", "another", "of the frame itself"])
def test_a_room_runs_one_option_once(second: str) -> None:
    """A second one is refused, makes no object, and does the first no harm."""
    hub, _, _ = new_hub()
    with hub:
        hotline = hub.hotline()
        option = HotlineFrameOption[Any](list)
        frame = option.run(hotline)
        made = Notes()
        another = HotlineFrameOption[Any](made.noting("made"))
        with pytest.raises(UsageError, match="has a clock already"):
            (option if second == "the same option" else another).run(
                frame if second == "of the frame itself" else hotline
            )
        assert made.now() == []
        assert frame.exec_sync(lambda _, obj: obj) == []
        assert hub.exec_sync(lambda hub: hub.hotlines()) == [frame]


@pytest.mark.usefixtures("hasty_threads")
def test_of_several_at_once_one_wins() -> None:
    """The others are refused, and their threads end."""
    hub, _, _ = new_hub()
    with hub:
        for _ in range(20):
            hotline = hub.hotline()
            frames: list[FrameControl[Any]] = []
            refused: list[UsageError] = []

            def run(
                _: int,
                hotline: Any = hotline,
                frames: list[FrameControl[Any]] = frames,
                refused: list[UsageError] = refused,
            ) -> None:
                try:
                    frames.append(HotlineFrameOption[Any](list).run(hotline))
                except UsageError as error:
                    refused.append(error)

            together(3, run)
            (frame,) = frames
            assert len(refused) == 2
            assert frame.exec_sync(lambda _, obj: obj) == []
            assert hub.exec_sync(lambda hub: hub.hotline(frame.hotline_id)) is frame  # noqa: B023
            frame.close()
            assert frame.join(TIMEOUT)
        assert hub.statistics().hotlines == 0


@pytest.mark.parametrize("wrong", [None, "room", object(), HotlineFrameOption(list)])
def test_only_hotlines_are_given_a_clock(wrong: Any) -> None:
    """Anything else is refused, with what it was."""
    with pytest.raises(UsageError, match=r"a clock is for what hub\.hotline\(\) makes, not for"):
        HotlineFrameOption[Any](list).run(wrong)


def test_a_silent_and_a_closed_hotline_are_refused() -> None:
    """The one has no room, the other has ended; so has one whose hub is closed."""
    hub, _, _ = new_hub()
    with hub:
        with pytest.raises(UsageError, match="SilentHotline"):
            HotlineFrameOption[Any](list).run(hub.silent_hotline())
        hotline, left = hub.hotline(), hub.hotline()
        hotline.close()
        with pytest.raises(HotlineClosed):
            HotlineFrameOption[Any](list).run(hotline)
    with pytest.raises(HotlineClosed):
        HotlineFrameOption[Any](list).run(left)
    assert hub.statistics().hotlines == 0


def test_where_new_obj_raises_the_hotline_stays_what_it_was() -> None:
    """Its error comes out of run; the hub still serves the room, and a clock may come later."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)

        def fail() -> Any:
            hotline.push("from new_obj")
            raise LookupError("no such level")

        threads = s.hub.statistics().threads
        for _ in range(3):
            with pytest.raises(LookupError, match="no such level"):
                HotlineFrameOption[Any](fail).run(hotline)
        hotline.push("after")
        assert peer.messages(4) == ["from new_obj"] * 3 + ["after"]
        assert s.hub.exec_sync(lambda hub: hub.hotlines()) == [hotline]
        for thread in threading.enumerate():
            if "-frame-" in thread.name:
                thread.join(TIMEOUT)
        assert s.hub.statistics().threads == threads
        frame = HotlineFrameOption[Any](list).run(hotline)
        frame.push("with a clock")
        assert peer.message() == "with a clock"
        assert s.logs.warnings() == []


@pytest.mark.parametrize("how", ["hotline", "hub"])
def test_a_room_that_is_closed_while_new_obj_works(how: str) -> None:
    """Run raises; nothing of the room is left, and no callback is called."""
    hub, _, logs = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        hotline = hub.hotline()
        option = HotlineFrameOption[Any](
            gate, on_start=notes.noting("start"), on_close=notes.noting("close")
        )
        running = in_thread(lambda: option.run(hotline))
        gate.reached()
        closing = in_thread(hotline.close if how == "hotline" else hub.close)
        look_again = threading.Event()
        while not hotline.is_closed:  # its context ends with the hub's, some steps before
            look_again.wait(0.001)
        gate.open()
        with pytest.raises(HotlineClosed):
            running()
        closing()
        assert hub.statistics().hotlines == 0
    assert (notes.now(), logs.warnings()) == ([], [])


def test_new_obj_may_not_wait_for_who_waits_for_it() -> None:
    """The hub that runs the option waits for the object: a clear error, out of run too."""
    hub, _, _ = new_hub()
    with hub:
        hotline = hub.hotline()
        option = HotlineFrameOption[Any](lambda: hub.exec_sync(lambda _: 1))
        with pytest.raises(DeadlockError):
            hub.exec_sync(lambda _: option.run(hotline), TIMEOUT)
        assert option.run(hotline).exec_sync(lambda _, obj: obj) == 1


@pytest.mark.usefixtures("hasty_threads")
def test_a_room_that_ends_at_once_is_not_listed() -> None:
    """Although it may have come to its end before run has."""
    hub, _, _ = new_hub()
    with hub:
        for _ in range(50):
            frame = still(hub, on_start=lambda frame, _: frame.close())
            assert frame.join(TIMEOUT)
            assert hub.exec_sync(lambda hub: hub.hotlines()) == []


def test_nor_is_one_that_has_ended_before_run_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end took it off the list, and run does not put it back."""
    start = TickLoop.start

    def slow(self: TickLoop[Any, Any], frame: FrameControl[Any]) -> None:
        start(self, frame)
        assert self.agenda.wait_over(TIMEOUT)

    monkeypatch.setattr(TickLoop, "start", slow)
    hub, _, _ = new_hub()
    with hub:
        assert still(hub, on_start=lambda frame, _: frame.close()).is_closed
        assert hub.exec_sync(lambda hub: hub.hotlines()) == []


def test_a_room_of_a_hub_that_is_not_started() -> None:
    """It ticks: the hub's thread has no part in it."""
    hub, clock, _ = new_hub()
    notes = Notes()
    frame = HotlineFrameOption[Any](list, notes.ticking, hz=1).run(hub.hotline())
    clock.rest()
    clock.go(1)
    frame.push("nobody is in")
    assert frame.wait_push_consumed(1, TIMEOUT)
    hub.close()
    assert frame.join(0)
    assert notes.now() == [1]
    with pytest.raises(HubClosed):
        hub.hotline()


def test_without_a_thread_there_is_no_clock() -> None:
    """What the system says is raised, and the hotline stays what it was."""
    hub = Hub(HubSetting[Any, Any](dict))

    class NoThread:
        def now(self) -> float:
            return 0.0

        def drive(self, step: Any, what: str) -> Any:
            raise RuntimeError("can't start new thread")

    with hub:
        clock, hub._core.clock = hub._core.clock, NoThread()
        hotline = hub.hotline()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            HotlineFrameOption[Any](list).run(hotline)
        hub._core.clock = clock
        assert HotlineFrameOption[Any](list).run(hotline).exec_sync(lambda _, obj: obj) == []
