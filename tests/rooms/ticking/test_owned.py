"""Rooms whose clock runs in one hub at a time, in virtual time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import (
    BackplaneDown,
    CallFailed,
    CallTimeout,
    FrameControl,
    History,
    HotlineOption,
    HubSetting,
    NodeGone,
    NotOwner,
    OwnedOption,
    OwnedRoom,
    Presence,
    PresenceChange,
    SettingError,
    StateSync,
    UsageError,
)
from hubthread.backplane.letters import encode_letter, lease_box
from hubthread.testing import VirtualCluster, VirtualHub
from tests.support.examples import examples

HZ = 10
Cluster = VirtualCluster[dict[str, Any], str]
Room = OwnedRoom[list[int]]


class Game:
    """An owned room in each hub, and what its callbacks have done anywhere."""

    def __init__(self, saves: bool = True, hz: int = HZ, **fields: Any) -> None:
        self.hz = hz
        self.ticks: list[tuple[float, str, int]] = []
        self.numbers: list[tuple[float, str, int]] = []
        self.notes: list[str] = []
        self.rooms: list[Room] = []
        option: dict[str, Any] = {
            "hz": hz,
            "calls": {"add": self.add, "fail": self.fail, "fine": lambda frame, obj, payload: 1},
            "room": HotlineOption(shared=True, history=History(size=1000)),
            "on_start": self.note("start"),
            "on_close": self.note("close"),
            "on_orphan": self.note("orphan"),
        }
        if saves:
            option |= {"save": lambda obj: bytes(str(obj[0]), "ascii")}
            option |= {"load": lambda saved: [int(saved)]}
        option |= {"logic": self.logic}
        self.option = OwnedOption(self.new_obj, **(option | fields))

    def new_obj(self) -> list[int]:
        self.notes.append("new")
        return [0]

    def logic(self, frame: FrameControl[list[int]], obj: list[int]) -> None:
        assert isinstance(frame, OwnedRoom)
        obj[0] += 1
        self.ticks.append((frame.hub.clock.now(), frame.hub.name, frame.token))
        self.numbers.append((frame.hub.clock.now(), frame.hub.name, obj[0]))
        frame.push(f"{frame.token} {obj[0]}")

    def note(self, what: str) -> Callable[[FrameControl[list[int]], list[int]], None]:
        def hook(frame: FrameControl[list[int]], obj: list[int]) -> None:
            self.notes.append(f"{what} {frame.hub.name[-1]}")

        return hook

    def add(self, frame: FrameControl[list[int]], obj: list[int], payload: int) -> int:
        obj[0] += payload
        return obj[0]

    def fail(self, frame: FrameControl[list[int]], obj: list[int], payload: object) -> None:
        raise LookupError("nothing there")

    def owner(self) -> int:
        """Return the number of the hub that owns the room; 0 if none does."""
        (found,) = [number for number, room in enumerate(self.rooms, 1) if room.is_owner] or [0]
        return found

    def check(self) -> None:
        """One hub ticks at a time, and its token never goes down."""
        tokens = [token for _, _, token in self.ticks]
        assert tokens == sorted(tokens)
        assert len({(name, token) for _, name, token in self.ticks}) == len(set(tokens))
        times = [time for time, _, _ in self.ticks]
        assert times == sorted(times)
        for before, after in itertools.pairwise(times):
            assert after - before > 0.5 / self.hz


@contextlib.contextmanager
def game(nodes: int = 2, **fields: Any) -> Iterator[tuple[Cluster, Game]]:
    """Run a game that all hubs would own."""
    made = Game(**fields)
    with VirtualCluster(HubSetting[Any, Any](dict), nodes) as cluster:
        made.rooms = [hub.own("arena/3", made.option) for hub in cluster.hubs]
        cluster.settle()
        yield cluster, made
    made.check()


def test_own_first_hub_ticks_and_members_of_all_hubs_get_its_pushes() -> None:
    with game() as (cluster, played):
        members = [hub.connect() for hub in cluster.hubs]
        for room, member in zip(played.rooms, members, strict=True):
            room.answer(member.ctx)
        cluster.advance(1.0)
        one, two = played.rooms
        assert (one.is_owner, two.is_owner, two.paused, two.token) == (True, False, True, 0)
        assert one.token > 0
        texts = [f"{one.token} {number}" for number in range(1, 11)]
        assert [member.messages() for member in members] == [texts, texts]
        assert played.notes == ["new", "start 1"]
        two.push("from a handler")
        assert members[0].messages() == members[1].messages() == ["from a handler"]
        assert cluster.errors == []


def test_own_other_hubs_refuse_what_needs_the_state() -> None:
    with game() as (_, played):
        one, two = played.rooms
        for refused in (
            lambda: two.exec_async(lambda frame, obj: None),
            lambda: two.exec_sync(lambda frame, obj: None),
            lambda: two.operation_timeout(1.0, lambda frame, obj: None),
            two.step,
        ):
            with pytest.raises(NotOwner, match=r"does not own room 'arena/3': use hub.call"):
                refused()
        assert one.exec_sync(lambda frame, obj: obj[0]) == 0
        with pytest.raises(UsageError, match=r"OwnedOption.calls"):
            one.inputs(int)


def test_call_runs_in_the_owner_from_any_hub() -> None:
    with game() as (cluster, played):
        for hub, room in zip(cluster.hubs, played.rooms, strict=True):
            assert hub.call(room, "add", 10) > 9
            with pytest.raises(CallFailed, match="LookupError: nothing there"):
                hub.call(room, "fail")
            with pytest.raises(CallFailed, match=r"no function 'missing' in OwnedOption.calls"):
                hub.call(room, "missing")
            room.post("add", 100)
            room.post("fail")
        cluster.settle()
        assert played.rooms[0].exec_sync(lambda frame, obj: obj[0]) == 220
        assert len(cluster.errors) == 6
        del cluster.hubs[0].errors[:]


def test_call_of_a_room_that_no_hub_owns_is_refused_at_once() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        plain = hub.hotline(HotlineOption("arena/3", shared=True))
        with pytest.raises(NodeGone, match="no hub owns room 'arena/3' at the moment"):
            hub.call(plain, "add", 1)


def test_owner_learns_who_is_in_all_hubs() -> None:
    notes: list[str] = []

    def changed(room: Room, change: PresenceChange) -> None:
        if room.is_owner:
            users = [*change.came, *(f"-{user}" for user in change.went)]
            room.exec_async(lambda frame, obj: notes.append(f"{frame.hub.name[-1]} {users}"))

    def on_start(frame: FrameControl[list[int]], obj: list[int]) -> None:
        notes.append(f"start {frame.hub.name[-1]} {sorted(frame.presence().members)}")

    presence = Presence(user=lambda ctx, meta: ctx.handshake.path[1:], on_change=changed)
    option = HotlineOption(shared=True, presence=presence)
    with game(room=option, on_start=on_start) as (cluster, played):
        for name, hub, room in zip(("/ann", "/bob"), cluster.hubs, played.rooms, strict=True):
            room.answer(hub.connect(name).ctx)
            cluster.advance(1.0)
        cluster.hubs[0].close()
        cluster.settle()
        assert notes == [
            *("start 1 []", "1 ['ann']", "1 ['bob']"),
            *("start 2 ['ann', 'bob']", "2 ['-ann']"),
        ]


def test_close_of_the_hub_hands_the_room_over_at_once() -> None:
    with game() as (cluster, played):
        cluster.advance(1.0)
        began = cluster.clock.now()
        cluster.hubs[0].close()
        cluster.settle()
        assert cluster.clock.now() - began < 1.0
        assert played.owner() == 2
        cluster.advance(1.0)
        assert played.notes == ["new", "start 1", "close 1", "start 2"]
        assert played.rooms[1].exec_sync(lambda frame, obj: obj[0]) == 20
        assert played.rooms[1].token > played.rooms[0].token
        assert cluster.errors == []


@pytest.mark.parametrize("how", ["close", "drain"])
def test_last_pushes_of_an_owner_that_leaves_come_before_those_of_the_next(how: str) -> None:
    with game(on_close=lambda frame, obj: frame.push("bye")) as (cluster, played):
        one, two = cluster.hubs
        member = two.connect()
        played.rooms[1].answer(member.ctx)
        cluster.advance(0.5)
        one.close() if how == "close" else one.drain(timeout=0.1)
        cluster.advance(0.5)
        texts = [str(text).split()[-1] for text in member.messages()]
        assert texts[:6] == ["1", "2", "3", "4", "5", "bye"]
        assert texts[6] == "6"


def test_drain_hands_the_room_over_at_its_begin() -> None:
    with game() as (cluster, played):
        one = cluster.hubs[0]
        played.rooms[0].answer(one.connect().ctx)
        cluster.advance(1.0)
        began = cluster.clock.now()
        one.drain(timeout=0.1)
        assert cluster.clock.now() - began < 0.2
        assert played.owner() == 2
        cluster.advance(1.0)
        assert played.notes == ["new", "start 1", "close 1", "start 2"]
        with pytest.raises(NotOwner):
            played.rooms[0].exec_async(lambda frame, obj: None)
        assert [room.is_closed for room in played.rooms] == [False, False]
    assert played.notes == ["new", "start 1", "close 1", "start 2", "close 2"]


def test_close_of_the_room_in_its_owner_closes_it_everywhere() -> None:
    with game() as (cluster, played):
        member = cluster.hubs[1].connect()
        played.rooms[1].answer(member.ctx)
        played.rooms[0].close()
        cluster.settle()
        assert [room.is_closed for room in played.rooms] == [True, True]
        assert played.notes == ["new", "start 1", "close 1"]
        again = [hub.own("arena/3", played.option) for hub in reversed(cluster.hubs)]
        cluster.advance(1.0)
        assert [room.is_owner for room in again] == [True, False]
        assert again[0].token > played.rooms[0].token
        assert again[0].exec_sync(lambda frame, obj: obj[0]) == 10  # nothing was saved


def test_close_of_the_room_in_another_hub_leaves_the_owner_as_it_is() -> None:
    with game() as (cluster, played):
        played.rooms[1].close()
        cluster.advance(1.0)
        assert played.owner() == 1
        assert len(played.ticks) == 10
        assert played.notes == ["new", "start 1"]
        cluster.hubs[1].own("arena/3", played.option)


def test_cut_owner_stops_before_another_hub_goes_on_with_what_was_saved() -> None:
    with game() as (cluster, played):
        cluster.advance(5.0)
        one, two = cluster.hubs
        cluster.cut(one)
        cluster.advance(20.0)
        last = max(time for time, name, _ in played.ticks if name == one.name)
        first = min(time for time, name, _ in played.ticks if name == two.name)
        assert 0.9 < first - last < 1.5
        assert played.owner() == 2
        begun = next(number for time, name, number in played.numbers if name == two.name)
        ended = max(number for time, name, number in played.numbers if name == one.name)
        assert 4 * HZ < ended - begun < 7 * HZ  # what was not saved
        assert played.notes == ["new", "start 1", "start 2"]
        cluster.heal(one)
        cluster.advance(1.0)
        assert played.notes == ["new", "start 1", "start 2", "orphan 1"]
        assert cluster.errors == []


def test_owner_goes_on_if_no_hub_has_had_the_room_meanwhile() -> None:
    with game(1) as (cluster, played):
        cluster.advance(1.0)
        cluster.cut(cluster.hubs[0])
        cluster.advance(30.0)
        ticks = len(played.ticks)
        assert 45 < ticks < 55
        assert played.rooms[0].paused
        cluster.heal(cluster.hubs[0])
        cluster.advance(1.0)
        assert len(played.ticks) > ticks + 5
        assert len({token for _, _, token in played.ticks}) == 1
        assert played.notes == ["new", "start 1"]


def test_pushes_of_a_hub_that_has_lost_the_room_reach_no_one() -> None:
    """Its callbacks run on, as in a process that was stopped and does not know it yet."""
    with game() as (cluster, played):
        members = [hub.connect() for hub in cluster.hubs]
        for room, member in zip(played.rooms, members, strict=True):
            room.answer(member.ctx)
        cluster.advance(1.0)
        stale, token = played.rooms[0], played.rooms[0].token
        cluster.cut(cluster.hubs[0])
        stale._loop.post(lambda: stale.push("in time") and None)
        cluster.advance(8.0)
        assert played.owner() == 2
        stale._loop.post(lambda: stale.push("too late") and None)
        cluster.heal(cluster.hubs[0])
        cluster.advance(1.0)
        got = [member.messages() for member in members]
        assert got[0][-10:] == got[1][-10:]
        assert not {"in time", "too late"} & {*got[0], *got[1]}
        tokens = [int(text.split()[0]) for text in got[1]]
        assert tokens == sorted(tokens)
        assert token in tokens
        assert not stale.is_owner
        assert stale.wait_push_consumed(stale.push_count, 1.0)


def test_tick_of_a_former_owner_is_fenced_though_its_hub_owns_the_room_again() -> None:
    thieves: list[Any] = []
    answers: list[Any] = []

    def logic(frame: FrameControl[list[int]], obj: list[int]) -> None:
        assert isinstance(frame, OwnedRoom)
        if thieves and not answers:
            token = frame.token
            for seconds in (6.0, 0.0):  # another hub has had the room meanwhile
                thieves[0].lease("arena/3", token + 1, seconds, answers.append)
            for _ in range(2):
                frame._lease.ask()
                answers.append(frame.is_owner)
            assert frame.token == token
            frame.push("of the former owner")
        frame.push("tick")

    with game(1, saves=False, logic=logic) as (cluster, played):
        member = cluster.hubs[0].connect()
        played.rooms[0].answer(member.ctx)
        cluster.advance(0.05)
        thieves.append(cluster._server.open("thief"))
        cluster.advance(1.0)
        assert [answer.held for answer in answers[:2]] == [True, True]
        assert answers[2:] == [False, True]
        assert set(member.messages()) == {"tick"}
        assert played.notes == ["new", "start 1", "orphan 1", "new", "start 1"]


def test_failed_server_has_one_owner_all_the_time() -> None:
    with game(3) as (cluster, played):
        cluster.advance(3.0)
        cluster.fail_over()
        cluster.advance(10.0)
        assert played.owner() == 1
        assert len(played.ticks) >= 125
        assert played.notes == ["new", "start 1"]


def test_failed_server_that_forgets_the_owner_gives_the_room_to_no_hub_too_early() -> None:
    with game() as (cluster, played):
        one, two = cluster.hubs
        cluster.advance(5.0)
        cluster.cut(one)  # it ticks on until its lease ends
        cluster.fail_over()
        cluster.advance(20.0)
        last = max(time for time, name, _ in played.ticks if name == one.name)
        first = min(time for time, name, _ in played.ticks if name == two.name)
        assert 5.0 < last < first
        assert played.owner() == 2


def test_owner_of_before_a_failed_server_goes_on_with_a_higher_token() -> None:
    with game(2) as (cluster, played):
        one, two = cluster.hubs
        cluster.advance(3.0)
        cluster.cut(one)
        cluster.advance(10.0)
        assert played.owner() == 2
        cluster.cut(two)
        cluster.fail_over()  # it knows neither owner
        cluster.heal(one)
        cluster.advance(10.0)
        assert played.owner() == 1
        assert played.rooms[0].token > played.rooms[1].token
        cluster.heal(two)
        cluster.advance(1.0)
        assert played.notes == ["new", "start 1", "start 2", "orphan 2"]


KINDS = ("cut", "heal", "drop", "fail over", "wait", "wait", "call", "own")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["cut", "heal", "drop", "fail over", "wait", "wait", "call", "own", "end"]
        ),
        st.integers(0, 2),
        st.sampled_from([0.1, 1.0, 3.0, 7.0]),
    ),
    max_size=15,
)


@settings(max_examples=examples(25))
@given(steps=STEPS)
def test_own_one_hub_ticks_and_pushes_under_any_faults(
    steps: list[tuple[str, int, float]],
) -> None:
    with game(3, hz=3) as (cluster, played):
        members = [hub.connect() for hub in cluster.hubs]
        for room, member in zip(played.rooms, members, strict=True):
            room.answer(member.ctx)
        got: list[list[list[str]]] = [[], [], []]  # of each member, from each server

        def collect() -> None:
            for member, of_servers in zip(members, got, strict=True):
                of_servers.append([str(text) for text in member.messages()])

        for step, which, seconds in steps:
            hub, room = cluster.hubs[which], played.rooms[which]
            if step == "cut":
                cluster.cut(hub)
            elif step == "heal":
                cluster.heal(hub)
            elif step == "drop":
                cluster.drop(hub, 3)
            elif step == "fail over":
                collect()
                cluster.fail_over()
            elif step == "call":
                with contextlib.suppress(NodeGone, BackplaneDown, CallTimeout):
                    hub.call(room, "fine")
            elif step == "own":
                room.close()
                cluster.settle()
                for number, each in enumerate(played.rooms):
                    if each.is_closed:
                        again = cluster.hubs[number].own("arena/3", played.option)
                        played.rooms[number] = again
                        again.answer(members[number].ctx)
            cluster.advance(seconds)
        for hub in cluster.hubs:
            cluster.heal(hub)
        cluster.advance(20.0)
        ticks = len(played.ticks)
        cluster.advance(1.0)
        assert len(played.ticks) > ticks
        collect()
        for of_servers in got:
            for texts in of_servers:  # a server knows only the owners that it has had
                tokens = [int(text.split()[0]) for text in texts]
                assert tokens == sorted(tokens)
            texts = [text for texts in of_servers for text in texts]
            assert len(texts) == len(set(texts)) or "own" in {step for step, _, _ in steps}
        assert cluster.errors == []


def test_pushes_of_a_former_owner_that_waited_have_no_place_at_another_server() -> None:
    """The server that knew its successor is gone, and the successor comes back later."""
    with game(2, hz=3) as (cluster, played):
        one, two = cluster.hubs
        member = two.connect()
        played.rooms[1].answer(member.ctx)
        cluster.cut(one)
        cluster.advance(7.0)
        cluster.cut(two)
        cluster.fail_over()
        cluster.heal(one)
        cluster.heal(two)
        cluster.advance(20.0)
        tokens = [int(str(text).split()[0]) for text in member.messages()]
        assert played.rooms[1].token in tokens
        assert tokens == sorted(tokens)


def test_news_of_an_earlier_room_closes_no_later_one() -> None:
    with game() as (cluster, played):
        cluster.advance(7.0)
        earlier = encode_letter({"over": played.rooms[0].token - 1}, b"")
        link = cluster.hubs[0]._core.sharing.link()
        link.tell(lease_box("arena/3"), earlier, lambda reached: None)
        cluster.settle()
        assert [room.is_closed for room in played.rooms] == [False, False]


def test_own_again_returns_the_room_and_refuses_what_is_wrong() -> None:
    with game() as (cluster, played):
        one = cluster.hubs[0]
        assert one.own("arena/3", OwnedOption(list)) is played.rooms[0]
        assert one.room("arena/3") is played.rooms[0]
        one.hotline(HotlineOption("plain", shared=True))
        with pytest.raises(UsageError, match="the hub has a room 'plain' already"):
            one.own("plain", OwnedOption(list))
        with pytest.raises(SettingError, match="name: expected 1 to 200 printable characters"):
            one.own("", played.option)
        with pytest.raises(SettingError, match="option: expected an OwnedOption"):
            one.own("other", HotlineOption())  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"for hub.own\(name, option\)"):
            played.option.run(one.hotline())
        assert [repr(room) for room in played.rooms] == [
            "<OwnedRoom 1 'arena/3' owned here, 10 Hz, 0 members>",
            "<OwnedRoom 1 'arena/3' elsewhere, 10 Hz, 0 members>",
        ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"on_join": lambda frame, obj, ctx: None}, "on_join: expected None in a room whose"),
        ({"pause_when_empty": 0}, "pause_when_empty: expected None"),
        ({"sync": StateSync()}, "sync: expected None in a room that hubs hand over"),
        ({"record": "file"}, "record: expected None"),
        ({"save": lambda obj: b""}, "save: expected save and load together"),
        ({"load": lambda saved: []}, "save: expected save and load together"),
        ({"calls": {1: print}}, "calls: expected names that are strings"),
        ({"calls": {"a": lambda frame: 1}}, r"calls\['a'\]: "),
        ({"calls": [print]}, "calls: expected a mapping"),
        ({"room": "arena"}, "room: expected a HotlineOption or None"),
        ({"room": HotlineOption(close_when_empty=1.0)}, "room: expected a HotlineOption without"),
        ({"on_orphan": lambda: None}, "on_orphan: "),
    ],
)
def test_option_that_cannot_be_owned_is_refused(fields: dict[str, Any], wrong: str) -> None:
    with pytest.raises(SettingError, match=wrong):
        OwnedOption(list, **fields)


@pytest.mark.parametrize("what", ["new_obj", "load", "on_start"])
def test_own_function_that_raises_closes_the_room_and_keeps_what_was_saved(what: str) -> None:
    def fail(*arguments: Any) -> Any:
        if what == "on_start":
            arguments[1][0] = 99
        raise LookupError("nothing there")

    with game(saves=what != "new_obj") as (cluster, played):
        one, two = cluster.hubs
        played.rooms[1].close()
        cluster.settle()
        fails: dict[str, Any] = {what: fail}
        broken = two.own("arena/3", replace(played.option, **fails))
        cluster.advance(2.0)
        one.close()
        cluster.settle()
        assert broken.is_closed
        assert [str(error) for error in two.errors] == ["nothing there"]
        del two.errors[:]
        again = two.own("arena/3", played.option)
        assert again.exec_sync(lambda frame, obj: obj[0]) == (0 if what == "new_obj" else 20)


def test_save_that_fails_is_logged_and_the_room_goes_on() -> None:
    saved: list[Any] = [lambda: 1 / 0, lambda: "text", lambda: bytes((4 << 20) + 1), lambda: b"7"]

    def save(obj: list[int]) -> bytes:
        found: bytes = (saved.pop(0) if len(saved) > 1 else saved[0])()
        return found

    with game(save=save) as (cluster, played):
        cluster.advance(8.0)
        one = cluster.hubs[0]
        texts = [str(error)[:40] for error in one.errors]
        assert texts == [
            "division by zero",
            "save: expected bytes, got 'text'",
            "save: expected at most 4194304 bytes, go",
        ]
        del one.errors[:]
        one.close()
        assert played.rooms[1].exec_sync(lambda frame, obj: obj[0]) == 7
