"""Shared rooms: one order in all hubs, history and recovery (G11), through the public API."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from hubthread import (
    Backplane,
    History,
    Hotline,
    HotlineClosed,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
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
from hubthread.testing import VirtualClient, VirtualHub
from hubthread.testing.clock import FakeClock
from tests.support.waiting import in_thread

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
        self.counted = receiver.counted
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


class Fan:
    """A player of the model: it comes back with its position, and knows what it has seen."""

    def __init__(self) -> None:
        self.client: VirtualClient | None = None
        self.position: Position | None = None
        self.due: list[str] = []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 1)),
        st.tuples(st.just("come"), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([1, 59, 61])),
        st.tuples(st.just("remake"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_member_that_comes_back_gets_exactly_what_it_missed_or_is_told(
    steps: list[tuple[str, int]],
) -> None:
    """Two hubs, four fans, a history of 8 pushes and 60 seconds, and a plain list as the model."""
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock=clock) as one, virtual(backplane, clock=clock) as two:
        hubs = [one, two]
        rooms = [hub.hotline(SHARED) for hub in hubs]
        fans = [Fan() for _ in range(4)]
        pushed: list[str] = []
        last_push = 0.0
        forgotten = 0  # the number of the last push that was forgotten before the next one came
        for step, which in steps:
            if step == "push":
                if clock.now() - last_push > 60:
                    forgotten = len(pushed)
                pushed.append(f"push {len(pushed) + 1}")
                last_push = clock.now()
                rooms[which].push(pushed[-1])
                for fan in fans:
                    if fan.client is not None:
                        fan.due.append(pushed[-1])
            elif step == "come" and fans[which].client is None:
                fan, hub, room = fans[which], hubs[which % 2], rooms[which % 2]
                fan.client, fan.due = hub.connect(), []
                found = room.answer(fan.client.ctx, since=fan.position)
                assert found.position.offset == len(pushed)
                if fan.position is not None:
                    missed = pushed[fan.position.offset :]
                    young = clock.now() - last_push <= 60 and forgotten <= fan.position.offset
                    kept = len(missed) <= 8 and (young or not missed)
                    assert found.recovered == kept
                    fan.due = missed if kept else []
                    assert found.count == len(fan.due)
                fan.position = found.position
            elif step in ("drop", "leave") and fans[which].client is not None:
                fan = fans[which]
                assert fan.client is not None
                if step == "drop":
                    hubs[which % 2].settle()
                    assert fan.client.messages() == fan.due
                    fan.client.drop()
                else:
                    rooms[which % 2].hangup(fan.client.ctx)
                    assert fan.client.messages() == fan.due
                assert fan.position is not None
                fan.position = Position(fan.position.epoch, len(pushed))
                fan.client = None
            elif step == "wait":
                one.advance(float(which))
            elif step == "remake" and not any(
                fan.client for number, fan in enumerate(fans) if number % 2 == which
            ):
                rooms[which].close()
                hubs[which].settle()
                rooms[which] = hubs[which].hotline(SHARED)
        for fan in fans:
            if fan.client is not None:
                assert fan.client.messages() == fan.due


class Follower:
    """A real client that is cut again and again, and comes back with its position."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        self.url = url
        self.cuts = cuts
        """After how many messages each connection is cut; the last one stays."""
        self.seen: list[tuple[int, str]] = []
        self.lost = 0

    def follow(self, total: int) -> None:
        since: list[object] = []
        for cut in [*self.cuts, total]:
            with connect(self.url, subprotocols=[Subprotocol("hubthread.1")]) as peer:
                peer.send(json.dumps(since))
                answer = None
                pushes: list[int] = []
                while answer is None or len(pushes) < cut:
                    if answer and (pushes or [answer["offset"]])[-1] == total:
                        return
                    message = json.loads(peer.recv())
                    if "recovered" in message:
                        answer = message
                        self.lost += bool(since) and not answer["recovered"]
                    else:
                        pushes.append(message["n"])
                        self.seen.append((message["n"], message["data"]))
                since = [answer["epoch"], self.seen[-1][0] if self.seen else answer["offset"]]
                peer.socket.shutdown(socket.SHUT_RDWR)


def test_real_clients_that_are_cut_in_a_burst_miss_nothing() -> None:
    total, clients = 400, 12

    def on_message(ctx: IOContext, meta: object) -> bool:
        since = json.loads(ctx.payload)
        # The answer of the program comes first.  The room's lock is not needed for its figures:
        # they are those of the join, which the history has for later joins, too.
        with joining:
            found = room.answer(ctx, since=Position(*since) if since else None)
            place = found.position
        answers[ctx.connection_id] = found
        ctx.write_json(
            {"recovered": found.recovered, "offset": place.offset, "epoch": place.epoch}
        )
        return False

    joining = threading.Lock()
    answers: dict[int, object] = {}
    period = WebsocketPeriod[object](upgrader=Upgrader(subprotocols=("hubthread.1",)))
    setting = HubSetting[object, str](dict, on_receive_message=on_message, websocket_period=period)
    with Hub(setting) as hub, hub.serve() as server:
        # A slow machine lets a client miss nearly all before it is back.
        history = History(size=total, recovery=total)
        room = hub.hotline(HotlineOption("room", shared=True, history=history))
        chance = random.Random(7)
        followers = [
            Follower(server.url, [chance.randint(0, 30) for _ in range(6)]) for _ in range(clients)
        ]
        threads = [threading.Thread(target=each.follow, args=(total,)) for each in followers]
        for thread in threads:
            thread.start()
        for number in range(1, total + 1):
            room.push_json(f"push {number}")
            room.wait_push_consumed(number, 5.0)
        for thread in threads:
            thread.join()
    for follower in followers:
        assert follower.lost == 0
        first = follower.seen[0][0] if follower.seen else total + 1
        assert follower.seen == [(n, f"push {n}") for n in range(first, total + 1)]


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
