"""Shared rooms: one order in all hubs, history and recovery (G11), through the public API."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from websockets.sync.client import connect

from hubthread import (
    Backplane,
    History,
    Hotline,
    HotlineClosed,
    HotlineOption,
    Hub,
    HubSetting,
    MemoryBackplane,
    Overflow,
    Position,
    SettingError,
    Upgrader,
    UsageError,
    WebsocketPeriod,
)
from hubthread.backplane.interfaces import Message, Receiver
from hubthread.backplane.memory import MemoryLink
from hubthread.core.sequencer import Sequencer
from hubthread.core.shared_log import SharedLog
from hubthread.protocol.frames import Frame
from hubthread.testing import VirtualHub
from hubthread.testing.clock import FakeClock
from tests.support.waiting import Task, in_thread, tries

SHARED = HotlineOption("room", shared=True, history=History(size=8, ttl=60.0))


@contextmanager
def virtual(
    backplane: Backplane | None = None,
    clock: FakeClock | None = None,
) -> Iterator[VirtualHub[dict[str, str], str]]:
    setting = HubSetting[dict[str, str], str](dict, backplane=backplane)
    with VirtualHub(setting, clock) as hub:
        yield hub


def push_numbers(room: Hotline[dict[str, str], str], first: int, last: int) -> None:
    for number in range(first, last + 1):
        room.push(str(number))


def test_answer_with_a_position_gives_what_was_missed_then_goes_on_live() -> None:
    with virtual() as hub:
        room, client = hub.hotline(SHARED), hub.connect()
        start = room.answer(client.ctx, since=None)
        assert (start.recovered, start.count, start.position.offset) == (False, 0, 0)
        push_numbers(room, 1, 2)
        assert client.messages() == ["1", "2"]
        client.drop()
        push_numbers(room, 3, 5)

        back = hub.connect()
        found = room.answer(back.ctx, since=Position(start.position.epoch, 2), first="hello")
        push_numbers(room, 6, 6)

        assert (found.recovered, found.count, found.position.offset) == (True, 3, 5)
        assert back.messages() == ["hello", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    "since",
    [
        Position("other", 3),  # of another room, or from before a restart
        Position("", 0),
        None,  # replaced by an offset that is not reached yet
    ],
)
def test_answer_with_an_unknown_position_recovers_nothing(since: Position | None) -> None:
    with virtual() as hub:
        room, client = hub.hotline(SHARED), hub.connect()
        push_numbers(room, 1, 3)
        epoch = room.answer(hub.connect().ctx, since=None).position.epoch
        found = room.answer(client.ctx, since=since or Position(epoch, 4))
        push_numbers(room, 4, 4)

        assert (found.recovered, found.count) == (False, 0)
        assert found.position == Position(epoch, 3)
        assert client.messages() == ["4"]


def test_answer_to_a_member_changes_nothing_and_says_so() -> None:
    with virtual() as hub:
        room, client = hub.hotline(SHARED), hub.connect()
        start = room.answer(client.ctx, since=None).position
        push_numbers(room, 1, 2)
        again = room.answer(client.ctx, since=start)
        assert (again.recovered, again.count, again.position.offset) == (False, 0, 2)
        assert client.messages() == ["1", "2"]


def test_answer_after_trimming_or_beyond_the_limits_recovers_nothing() -> None:
    bounded = History(size=8, recovery=4, recovery_bytes=200)
    with virtual() as hub:
        room = hub.hotline(HotlineOption("room", shared=True, history=bounded))
        push_numbers(room, 1, 10)  # the history holds 8
        epoch = room.answer(hub.connect().ctx, since=None).position.epoch

        def recovered(offset: int) -> bool:
            return room.answer(hub.connect().ctx, since=Position(epoch, offset)).recovered

        assert [recovered(offset) for offset in (1, 2, 5, 6, 10)] == [
            False,  # trimmed
            *(False, False),  # more than 4
            *(True, True),
        ]
        room.push("x" * 300)
        assert not recovered(10)  # more than 200 bytes


def test_answer_with_replay_gives_a_newcomer_the_latest_pushes() -> None:
    with virtual() as hub:
        room = hub.hotline(SHARED)
        push_numbers(room, 1, 10)
        two, all_kept = hub.connect(), hub.connect()
        found = room.answer(two.ctx, replay=2)
        assert (found.recovered, found.count, found.position.offset) == (False, 2, 10)
        assert room.answer(all_kept.ctx, replay=100).count == 8
        assert two.messages() == ["9", "10"]
        assert all_kept.messages() == [str(number) for number in range(3, 11)]


def test_history_is_forgotten_after_its_ttl() -> None:
    with virtual() as hub:
        room = hub.hotline(SHARED)
        push_numbers(room, 1, 2)
        hub.advance(61.0)
        epoch = room.answer(hub.connect().ctx, since=None).position.epoch
        assert not room.answer(hub.connect().ctx, since=Position(epoch, 1)).recovered
        assert room.answer(hub.connect().ctx, since=Position(epoch, 2)).recovered


def test_history_outlives_a_room_that_is_closed_and_made_again() -> None:
    with virtual() as hub:
        room = hub.hotline(SHARED)
        push_numbers(room, 1, 3)
        start = room.answer(hub.connect().ctx, since=None).position
        room.close()
        again, client = hub.hotline(SHARED), hub.connect()
        found = again.answer(client.ctx, since=Position(start.epoch, 1))
        push_numbers(again, 4, 4)
        assert (found.recovered, found.count) == (True, 2)
        assert client.messages() == ["2", "3", "4"]


class CountingLink(MemoryLink):
    """Counts the reads of the history."""

    reads = 0

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        self.reads += 1
        return super().history(room, count, timeout)


class CountingBackplane(MemoryBackplane):
    link: CountingLink

    def open(self, node: str, now: Callable[[], float] = monotonic) -> MemoryLink:
        self.link = CountingLink(self, node, now)
        return self.link


def test_hub_that_has_the_room_later_reads_once_what_its_clients_need() -> None:
    backplane = CountingBackplane()
    with virtual(backplane) as old, virtual(backplane) as new:
        room = old.hotline(SHARED)
        start = room.answer(old.connect().ctx, since=None).position
        push_numbers(room, 1, 9)  # one more than the room keeps
        assert room.answer(old.connect().ctx, since=None).position.offset == 9  # all are placed
        late = new.hotline(SHARED)
        push_numbers(room, 10, 10)
        assert late.answer(new.connect().ctx, since=None).count == 0
        assert backplane.link.reads == 0

        for _ in range(3):
            newcomer, back = new.connect(), new.connect()
            assert late.answer(newcomer.ctx, replay=3).count == 3
            assert newcomer.messages() == ["8", "9", "10"]
            found = late.answer(back.ctx, since=Position(start.epoch, 4))
            assert (found.recovered, found.count) == (True, 6)
            assert back.messages() == ["5", "6", "7", "8", "9", "10"]
            assert late.answer(new.connect().ctx, replay=100).count == 8
            assert not late.answer(new.connect().ctx, since=Position(start.epoch, 1)).recovered
        assert backplane.link.reads == 1


class SilentLink(MemoryLink):
    """Brings nothing by itself."""

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """Leave the room to the test."""


def test_client_that_has_seen_more_than_its_new_hub_waits_for_it() -> None:
    log: SharedLog[Any] = SharedLog(lambda work: work(), 10, "room")
    link = SilentLink(MemoryBackplane(), "node", monotonic)
    sequencer = Sequencer(link, log, "room", History(), monotonic)
    sequencer.attached(Position("e", 5))
    seen = Position("e", 6)
    waiting = Task(lambda: sequencer.prepare(seen, 0, may_wait=True))
    assert any(sequencer._changed is not None for _ in tries())  # it waits
    sequencer.arrived(seen, [Message(Frame("x", 1))], None)
    waiting.result()
    assert sequencer.position == seen


def test_push_without_some_leaves_them_out_of_its_replay_too() -> None:
    with virtual() as hub:
        room, ann, bob = hub.hotline(SHARED), hub.connect(), hub.connect()
        start = room.answer(ann.ctx, since=None).position
        room.answer(bob.ctx)
        room.push("1", exclude=ann.ctx)
        room.push("2")
        room.hangup(ann.ctx)
        found = room.answer(ann.ctx, since=start)
        assert (found.recovered, found.count) == (True, 1)
        assert (ann.messages(), bob.messages()) == (["2", "2"], ["1", "2"])


def test_numbers_are_those_of_the_hubs_own_pushes() -> None:
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock=clock) as one, virtual(backplane, clock=clock) as two:
        here, there = one.hotline(SHARED), two.hotline(SHARED)
        client = one.connect()
        here.answer(client.ctx)
        client.stall()
        one.settle()
        assert [here.push("a"), there.push("b"), here.push("c"), there.push("d")] == [1, 1, 2, 2]
        one.settle()
        assert not here.is_push_consumed(1)
        client.resume()
        assert client.messages() == ["a", "b", "c", "d"]
        assert here.is_push_consumed(2)
        assert not here.is_push_consumed(3)


def test_closed_room_and_hub_refuse_and_other_hubs_go_on() -> None:
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock=clock) as one:
        here, client = one.hotline(SHARED), one.connect()
        here.answer(client.ctx)
        with virtual(backplane, clock=clock) as two:
            there, other = two.hotline(SHARED), two.hotline(HotlineOption("x", shared=True))
            there.push("1")
            other.close()
            with pytest.raises(HotlineClosed):
                other.push("2")
        with pytest.raises(HotlineClosed):
            there.push("3")
        here.push("4")
        assert client.messages() == ["1", "4"]


def test_bad_options_and_calls_are_refused() -> None:
    with pytest.raises(SettingError, match="history: expected shared=True"):
        HotlineOption("room", history=History())
    for name in ("", "x" * 201, "a\nb"):
        with (
            virtual() as hub,
            pytest.raises(SettingError, match="name: expected 1 to 200 printable characters"),
        ):
            hub.hotline(HotlineOption(name, shared=True))
    with pytest.raises(SettingError, match="size: expected an integer of at least 1"):
        History(size=0)
    with virtual() as hub:
        client = hub.connect()
        for room in (hub.hotline(), hub.hotline(HotlineOption("plain", shared=True))):
            with pytest.raises(UsageError, match=r"keeps no history: make the room with"):
                room.answer(client.ctx, since=Position("e", 1))
            with pytest.raises(UsageError, match=r"keeps no history: make the room with"):
                room.answer(client.ctx, replay=1)
        with pytest.raises(SettingError, match="replay: expected an integer of at least 1"):
            hub.hotline(SHARED).answer(client.ctx, replay=0)
        assert room.members == []
    latest = HubSetting[dict[str, str], str](dict, overflow=Overflow.LATEST)
    with VirtualHub(latest) as hub, pytest.raises(SettingError, match=r"Overflow\.LATEST"):
        hub.hotline(SHARED)


class Repeating:
    """A receiver to which everything comes twice, as after an interrupt."""

    def __init__(self, receiver: Receiver) -> None:
        self.attached, self.lost = receiver.attached, receiver.lost
        self.counted, self.refused = receiver.counted, receiver.refused
        self.shown = receiver.shown
        self.has_presence = receiver.has_presence
        self._receiver = receiver

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        for _ in range(2):
            self._receiver.arrived(first, messages, number)

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        for _ in range(2):
            self._receiver.present(came, went)


class RepeatingLink(MemoryLink):
    """The connection of a hub with such receivers."""

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        super().attach(room, keep, Repeating(receiver))


class RepeatingBackplane(MemoryBackplane):
    """A backplane that hands everything over twice."""

    def open(self, node: str, now: Callable[[], float] = monotonic) -> MemoryLink:
        return RepeatingLink(self, node, now)


def test_push_that_arrives_twice_reaches_members_once() -> None:
    with virtual(RepeatingBackplane()) as hub:
        room, client = hub.hotline(SHARED), hub.connect()
        start = room.answer(client.ctx, since=None).position
        push_numbers(room, 1, 3)
        back = hub.connect()
        assert room.answer(back.ctx, since=start).count == 3
        assert client.messages() == back.messages() == ["1", "2", "3"]


class LateLink(MemoryLink):
    """The connection of a hub whose room is attached, and whose pushes are placed, only later."""

    waiting: list[Callable[[], object]]
    given = 0
    receiver: Receiver

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        self.receiver = receiver
        self.waiting = [lambda: super(LateLink, self).attach(room, keep, receiver)]

    def publish(self, room: str, message: Message) -> int:
        self.given += 1
        self.waiting.append(lambda: super(LateLink, self).publish(room, message))
        return self.given

    def detach(self, room: str) -> None:
        self.waiting.append(lambda: super(LateLink, self).detach(room))

    def place(self) -> None:
        """Do what was asked for so far."""
        waiting, self.waiting = self.waiting, []
        for step in waiting:
            step()
        for room in list(self._backplane._rooms.values()):
            room.settle()


class LateBackplane(MemoryBackplane):
    """A backplane that is some way off."""

    def open(self, node: str, now: Callable[[], float] = monotonic) -> MemoryLink:
        self.link = LateLink(self, node, now)
        return self.link


@pytest.mark.parametrize("history", [None, History(size=8)])
def test_member_gets_what_was_pushed_between_answer_and_hangup_wherever_it_is_placed(
    history: History | None,
) -> None:
    backplane = LateBackplane()
    with virtual(backplane) as hub:
        room = hub.hotline(HotlineOption("room", shared=True, history=history))
        ann, bob = hub.connect(), hub.connect()
        room.push("1")
        room.answer(ann.ctx)
        room.push("2")
        room.hangup(ann.ctx)
        room.push("3")
        room.answer(ann.ctx)
        room.answer(bob.ctx)
        assert (room.members, ann.messages()) == ([ann.ctx, bob.ctx], [])
        backplane.link.place()
        hub.settle()
        room.push("4")
        room.close()
        assert room.members == []
        backplane.link.place()

        assert (ann.messages(), bob.messages()) == (["2", "4"], ["4"])
        assert room.is_push_consumed(4)


def test_answer_waits_for_the_position_of_the_room() -> None:
    backplane = LateBackplane()
    with Hub(HubSetting[object, str](dict, backplane=backplane)) as hub, hub.serve() as server:
        room = hub.hotline(SHARED)
        room.push("1")
        with connect(server.url) as peer:
            peer.ping().wait()
            (client,) = hub.exec_sync(lambda dhub: dhub.clients())
            answer = in_thread(lambda: room.answer(client, since=None))
            backplane.link.place()
            assert answer().position.offset == 1
            room.push("2")
            backplane.link.place()
            assert peer.recv() == "2"


def test_lost_pushes_are_told_and_the_room_goes_on() -> None:
    gaps: list[object] = []
    backplane = LateBackplane()
    option = HotlineOption(
        "room",
        shared=True,
        history=History(size=8),
        on_gap=lambda room, position: gaps.append((room.name, position)),
    )
    with virtual(backplane) as hub:
        room, client = hub.hotline(option), hub.connect()
        room.push("1")
        backplane.link.place()
        room.answer(client.ctx)
        room.push("2")
        room.hangup(client.ctx)
        behind = Position("later", 7)
        backplane.link.receiver.lost(behind, "epoch", 2)
        hub.settle()

        assert gaps == [("room", behind)]
        assert room.answer(hub.connect().ctx, since=behind).recovered
        assert room.is_push_consumed(2)
        assert room.wait_push_consumed(2, 1.0)
        assert client.ctx.hotlines == ()


def test_lost_epoch_is_told_in_its_place_and_positions_go_on_from_there() -> None:
    period = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("hubthread.1",)))
    backplane = LateBackplane()
    setting = HubSetting[Any, str](dict, backplane=backplane, websocket_period=period)
    with VirtualHub(setting) as hub:
        room, plain = hub.hotline(SHARED), hub.connect()
        knows = hub.connect(headers={"Sec-WebSocket-Protocol": "hubthread.1"})
        backplane.link.place()
        for client in (plain, knows):
            start = room.answer(client.ctx, since=None).position
        room.push("before")
        backplane.link.place()
        receiver = backplane.link.receiver
        receiver.lost(Position("new", 70), "epoch")
        receiver.arrived(Position("new", 71), [Message(Frame("after", 1))], None)
        hub.settle()
        assert plain.messages() == ["before", "after"]
        assert [json.loads(text) for text in knows.messages()] == [
            {"room": "room", "n": 1, "text": "before"},
            {"type": "hub:gap", "room": "room", "epoch": "new", "at": 70, "why": "epoch"},
            {"room": "room", "n": 71, "text": "after"},
        ]
        back = hub.connect()
        assert not room.answer(back.ctx, since=Position(start.epoch, 1)).recovered
        room.hangup(back.ctx)
        found = room.answer(back.ctx, since=Position("new", 70))
        assert (found.recovered, found.count, found.position) == (True, 1, Position("new", 71))
