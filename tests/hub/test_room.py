"""Rooms (G4): one order for all, and for each exactly what was pushed while it was in."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hubthread.concurrency.mailbox import Mailbox
from hubthread.errors import HotlineClosed, HubClosed, QueueFull
from hubthread.hub.room import Room
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.run import Run
from tests.support import TIMEOUT, in_thread, together


def frame(number: int) -> Frame:
    return Frame(str(number), MessageType.TEXT)


class Peer:
    """A member that keeps what it is sent, and takes it at once, later, or never."""

    def __init__(self) -> None:
        self.written: list[str | None] = []
        """Payload of each write; ``None`` for one that is not the room's."""
        self.sends = 0
        self.consumed = 0
        self.lags = False
        self.vanished = False
        self.caught_up = threading.Condition()

    def send_run(self, run: Run) -> int:
        self.sends += 1
        if self.vanished:
            return 0
        self.written += [str(each.payload) for each in run.frames]
        if self.lags:
            return len(self.written)
        self.consumed = len(self.written)
        return 0

    def is_write_consumed(self, number: int) -> bool:
        return self.vanished or number <= self.consumed

    def wait_run_consumed(self, number: int, timeout: float | None) -> bool:
        with self.caught_up:
            return self.caught_up.wait_for(lambda: self.is_write_consumed(number), timeout)

    def consume(self, number: int) -> None:
        with self.caught_up:
            self.consumed = max(self.consumed, number)
            self.caught_up.notify_all()

    def got(self) -> list[int]:
        return [int(each) for each in self.written if each is not None]

    def waits_for(self, push: int) -> bool:
        """Whether this push is written to it, and not consumed."""
        number = self.written.index(str(push)) + 1 if str(push) in self.written else 0
        return not self.vanished and number > self.consumed


class AnyOrder(RuleBasedStateMachine):
    """A room and its members in one thread, against lists of what each is to get."""

    peers = Bundle[Peer]("peers")

    @initialize(bound=st.integers(3, 20))
    def begin(self, bound: int) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.room: Room[Peer] = Room(self.scheduled.append, bound, "room")
        self.bound = bound
        self.waiting = 0
        self.pushes = 0
        self.flushed = 0
        self.closed = False
        self.inside: list[Peer] = []
        self.expected: dict[Peer, list[int]] = {}

    @rule(target=peers, lags=st.booleans())
    def come(self, lags: bool) -> Peer:
        peer = Peer()
        peer.lags = lags
        self.expected[peer] = []
        return peer

    @rule(peer=peers)
    def join(self, peer: Peer) -> None:
        if self.closed:
            with pytest.raises(HotlineClosed):
                self.room.join(peer)
            return
        assert self.room.join(peer) == (peer not in self.inside)
        if peer not in self.inside:
            self.inside.append(peer)
            self.waiting += 1

    @rule(peer=peers)
    def leave(self, peer: Peer) -> None:
        assert self.room.leave(peer) == (peer in self.inside)
        if peer in self.inside:
            self.inside.remove(peer)
            self.waiting += 1

    @rule(count=st.integers(1, 4))
    def push(self, count: int) -> None:
        for _ in range(count):
            if self.closed:
                with pytest.raises(HotlineClosed):
                    self.room.push(frame(0))
            elif self.waiting >= self.bound:
                with pytest.raises(QueueFull, match="wait_push_consumed"):
                    self.room.push(frame(0))
            else:
                self.pushes += 1
                self.waiting += 1
                assert self.room.push(frame(self.pushes)) == self.pushes
                for peer in self.inside:
                    self.expected[peer].append(self.pushes)

    @rule()
    def flush(self) -> None:
        assert len(self.scheduled) == (self.waiting > 0)
        sends = {peer: peer.sends for peer in self.expected}
        missing = {peer: len(self.expected[peer]) - len(peer.got()) for peer in self.expected}
        changes = self.waiting - (self.pushes - self.flushed)
        while self.scheduled:
            self.scheduled.pop()()
        self.waiting = 0
        self.flushed = self.pushes
        for peer, before in sends.items():
            # Joined into one send between two changes of the membership.
            assert peer.sends - before <= changes + 1
            assert peer.sends == before or missing[peer] or peer.vanished

    @rule(peer=peers)
    def write(self, peer: Peer) -> None:
        """Something is written to the member by itself, and waits behind what waits."""
        peer.written.append(None)
        if peer.consumed == len(peer.written) - 1 and not peer.lags:
            peer.consumed += 1

    @rule(peer=peers, data=st.data())
    def catch_up(self, peer: Peer, data: st.DataObject) -> None:
        peer.consume(data.draw(st.integers(peer.consumed, len(peer.written))))

    @rule(peer=peers, lags=st.booleans())
    def change_pace(self, peer: Peer, lags: bool) -> None:
        peer.lags = lags or peer.consumed < len(peer.written)

    @rule(peer=peers)
    def vanish(self, peer: Peer) -> None:
        peer.vanished = True

    @rule(only_if_empty=st.booleans())
    def close(self, only_if_empty: bool) -> None:
        closes = not self.closed and not (only_if_empty and self.inside)
        assert self.room.close(only_if_empty=only_if_empty) == closes
        self.closed = self.closed or closes

    @invariant()
    def each_got_what_it_should(self) -> None:
        for peer, expected in self.expected.items():
            flushed = [push for push in expected if push <= self.flushed]
            got = peer.got()
            assert got == (flushed[: len(got)] if peer.vanished else flushed)

    @invariant()
    def what_the_room_says(self) -> None:
        assert self.room.members() == self.inside
        assert self.room.members_num() == len(self.inside)
        assert all((peer in self.room) == (peer in self.inside) for peer in self.expected)
        assert self.room.closed == self.closed
        lagging = [peer for peer in self.expected if any(map(peer.waits_for, peer.got()))]
        assert self.room.counts() == (self.pushes, self.waiting, len(lagging))

    @invariant()
    def consumed_is_exact(self) -> None:
        for push in range(1, self.pushes + 2):
            consumed = push <= self.flushed and not any(
                peer.waits_for(push) for peer in self.expected
            )
            assert self.room.is_consumed(push) == consumed
            assert self.room.wait_consumed(push, 0) == consumed


TestAnyOrder = AnyOrder.TestCase


class HubThread:
    """The one thread that flushes."""

    def __init__(self) -> None:
        self.mailbox: Mailbox[Callable[[], None]] = Mailbox(1000, "hub")
        self._ended = in_thread(self._run)

    def schedule(self, flush: Callable[[], None]) -> None:
        self.mailbox.post(flush, essential=True)

    def _run(self) -> None:
        while taken := self.mailbox.take():
            for flush in taken:
                flush()

    def end(self) -> None:
        self.mailbox.close()
        self._ended()


def test_pushes_joins_and_leaves_from_everywhere() -> None:
    """All members see one order; who comes and goes gets a whole piece of it."""
    hub = HubThread()
    room: Room[Peer] = Room(hub.schedule, 100_000, "room")
    witness = Peer()
    room.join(witness)
    stays: list[tuple[Peer, int, int, int, int]] = []

    def work(number: int) -> None:
        for count in range(40):
            peer = Peer()
            peer.lags = number % 2 == 0
            before = room.push(frame(number * 1000 + count))
            assert room.join(peer)
            first = room.push(frame(number * 1000 + 100 + count))
            last = room.push(frame(number * 1000 + 200 + count))
            assert room.leave(peer)
            after = room.push(frame(number * 1000 + 300 + count))
            peer.vanished = False
            stays.append((peer, before, first, last, after))

    together(5, work)
    hub.end()
    order = witness.got()
    assert len(order) == len(set(order)) == 5 * 40 * 4
    for number in range(5):
        mine = [value for value in order if value // 1000 == number]
        assert mine == [number * 1000 + step * 100 + c for c in range(40) for step in range(4)]
    for peer, before, first, last, after in stays:
        got = peer.got()
        start = order.index(got[0])
        assert got == order[start : start + len(got)]
        # The push of number n stands at place n - 1.
        assert before - 1 < start <= first - 1
        assert last - 1 <= start + len(got) - 1 < after - 1


def test_keeping_pace() -> None:
    """Who waits for a push goes on when the last member has taken it, and no sooner."""
    hub = HubThread()
    room: Room[Peer] = Room(hub.schedule, 10, "room")
    quick, slow = Peer(), Peer()
    slow.lags = True
    room.join(quick)
    room.join(slow)
    for number in range(1, 100):
        push = room.push(frame(number))
        assert push == number
        waiting = in_thread(lambda push=push: room.wait_consumed(push, TIMEOUT))  # type: ignore[misc]
        assert not room.wait_consumed(push, 0)
        slow.consume(push)
        assert waiting()
        assert room.is_consumed(push)
    assert not room.wait_consumed(100, 0.001)
    hub.end()


def test_waiting_for_the_flush() -> None:
    """A wait that begins before the push was fanned out ends with it; a time-out before."""
    flushes: list[Callable[[], None]] = []
    room: Room[Peer] = Room(flushes.append, 10, "room")
    room.join(Peer())
    push = room.push(frame(1))
    assert not room.wait_consumed(push, 0.001)
    waits = [in_thread(lambda: room.wait_consumed(push, None)) for _ in range(3)]
    (flush,) = flushes
    flush()
    assert all(wait() for wait in waits)


def test_a_member_that_left_is_waited_for() -> None:
    """What was pushed while it was in counts until it has it, or has gone itself."""
    flushes: list[Callable[[], None]] = []
    room: Room[Peer] = Room(flushes.append, 10, "room")
    peers = [Peer(), Peer()]
    for peer in peers:
        peer.lags = True
        room.join(peer)
    push = room.push(frame(1))
    for peer in peers:
        room.leave(peer)
    flushes.pop()()
    assert not room.is_consumed(push)
    peers[0].consume(1)
    assert not room.is_consumed(push)
    peers[1].vanished = True
    assert room.is_consumed(push)


def test_who_has_gone_is_forgotten() -> None:
    """A room keeps nothing of members that lagged, left and caught up, though nobody asks."""
    flushes: list[Callable[[], None]] = []
    room: Room[Peer] = Room(flushes.append, 10, "room")

    def come_and_go() -> weakref.ref[Peer]:
        peer = Peer()
        peer.lags = True
        room.join(peer)
        room.push(frame(1))
        room.leave(peer)
        flushes.pop()()
        peer.vanished = True
        return weakref.ref(peer)

    gone = [come_and_go() for _ in range(10)]
    passing = Peer()
    room.join(passing)
    room.leave(passing)
    flushes.pop()()
    gc.collect()
    assert not any(each() for each in gone)


def test_when_nobody_flushes_any_more() -> None:
    """After the hub's end every call is told, nothing piles up, and nobody waits in vain."""
    closed = False
    flushes: list[Callable[[], None]] = []

    def schedule(flush: Callable[[], None]) -> None:
        if closed:
            raise HubClosed("the hub is closed")
        flushes.append(flush)

    room: Room[Peer] = Room(schedule, 10, "room")
    inside, late = Peer(), Peer()
    room.join(inside)
    flushes.pop()()
    closed = True
    for _ in range(20):
        with pytest.raises(HubClosed):
            room.push(frame(1))
        with pytest.raises(HubClosed):
            room.join(late)
        assert late not in room
    assert room.counts()[1:] == (0, 0)
    assert room.wait_consumed(room.counts()[0], TIMEOUT)
    with pytest.raises(HubClosed):
        room.leave(inside)
    assert inside not in room
    assert not room.leave(inside)


def test_a_flush_that_runs_at_the_end_of_the_hub() -> None:
    """A push refused during the last flush does not disturb what that flush hands over."""
    closed = False
    flushes: list[Callable[[], None]] = []

    def schedule(flush: Callable[[], None]) -> None:
        if closed:
            raise HubClosed("the hub is closed")
        flushes.append(flush)

    class Pusher(Peer):
        def send_run(self, run: Run) -> int:
            nonlocal closed
            closed = True
            with pytest.raises(HubClosed):
                room.push(frame(2))
            return super().send_run(run)

    room: Room[Peer] = Room(schedule, 10, "room")
    peer = Pusher()
    room.join(peer)
    push = room.push(frame(1))
    flushes.pop()()
    assert peer.got() == [1]
    assert room.is_consumed(push)
    assert room.wait_consumed(room.counts()[0], TIMEOUT)


def test_a_member_may_use_the_room() -> None:
    """Members are called under no lock: they may push, leave and look, in threads too."""
    hub = HubThread()
    room: Room[Peer] = Room(hub.schedule, 100, "room")

    class User(Peer):
        def send_run(self, run: Run) -> int:
            number = super().send_run(run)
            if len(self.written) < 5:
                in_thread(lambda: room.push(frame(len(self.written))))()
                room.push(frame(0))
            else:
                in_thread(lambda: room.leave(self))()
            in_thread(lambda: (room.counts(), room.members(), room.is_consumed(1)))()
            assert room.counts()[0]
            return number

    user, other = User(), Peer()
    room.join(other)
    room.join(user)
    room.push(frame(9))
    done = threading.Event()
    while user in room:
        done.clear()
        hub.schedule(done.set)
        assert done.wait(TIMEOUT)
    hub.end()
    assert other.got()[: len(user.got())] == user.got()


def test_closing_while_others_come() -> None:
    """Who was let in before the close stays a member to be let out; who comes later is told."""
    for _ in range(20):
        hub = HubThread()
        room: Room[Peer] = Room(hub.schedule, 1000, "room")
        accepted: list[Peer] = []
        pushed: list[int] = []
        witness = Peer()
        room.join(witness)

        def work(
            number: int,
            room: Room[Peer] = room,
            accepted: list[Peer] = accepted,
            pushed: list[int] = pushed,
        ) -> None:
            if number == 0:
                assert room.close()
                assert not room.close()
                return
            try:
                for _ in range(10):
                    peer = Peer()
                    room.join(peer)
                    accepted.append(peer)
                    pushed.append(room.push(frame(number)))
            except HotlineClosed:
                pass

        together(4, work)
        hub.end()
        assert set(room.members()) == {witness, *accepted}
        assert len(witness.got()) == len(pushed)
        assert not room.close(only_if_empty=True)
