"""A push log (G4): one order for all members, and for each exactly the pushes while it was in."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from hubthread.concurrency import fairness
from hubthread.concurrency.fairness import fan_outs
from hubthread.core.push_log import PushLog
from hubthread.errors import HotlineClosed, HubClosed, QueueFull, UsageError
from hubthread.protocol.batch import FrameBatch
from tests.core.room_members import Peer, frame
from tests.support import TIMEOUT, in_thread
from tests.support.examples import examples


class AnyOrder(RuleBasedStateMachine):
    """A room and its members in one thread, against lists of the pushes that each must get."""

    peers = Bundle[Peer]("peers")

    @initialize(bound=st.integers(3, 20))
    def begin(self, bound: int) -> None:
        self.scheduled: list[Callable[[], None]] = []
        self.room: PushLog[Peer] = PushLog(self.scheduled.append, bound, "room")
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
            self.waiting += self.waiting > 0  # where nothing waits it is done at once

    @rule(peer=peers)
    def leave(self, peer: Peer) -> None:
        assert self.room.leave(peer) == (peer in self.inside)
        if peer in self.inside:
            self.inside.remove(peer)
            self.waiting += self.waiting > 0

    @rule(count=st.integers(1, 4), data=st.data())
    def push(self, count: int, data: st.DataObject) -> None:
        peers = st.sampled_from([Peer(), *self.expected])
        for _ in range(count):
            exclude = data.draw(st.none() | st.lists(peers, max_size=2))
            if self.closed:
                with pytest.raises(HotlineClosed):
                    self.room.push(frame(0))
            elif self.waiting >= self.bound:
                with pytest.raises(QueueFull, match="wait_push_consumed"):
                    self.room.push(frame(0))
            else:
                self.pushes += 1
                self.waiting += 1
                assert self.room.push(frame(self.pushes), None, exclude) == self.pushes
                for peer in self.inside:
                    if peer not in (exclude or ()):
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
        """Write to the member itself, behind the messages that wait for it."""
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
        assert self.room.close("over", only_if_empty=only_if_empty) == closes
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
TestAnyOrder.settings = settings(max_examples=examples(60))  # of 50 steps each


def test_push_log_wait_consumed_ends_with_the_flush_or_the_timeout() -> None:
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 10, "room")
    room.join(Peer())
    push = room.push(frame(1))
    assert not room.wait_consumed(push, 0.001)
    waits = [in_thread(lambda: room.wait_consumed(push, None)) for _ in range(3)]
    (flush,) = flushes
    flush()
    assert all(wait() for wait in waits)


def test_push_log_member_gone_with_a_backlog_is_forgotten() -> None:
    """No call of the log is needed for it."""
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 10, "room")

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
    assert flushes == []  # coming and going costs the flushing thread nothing
    gc.collect()
    assert not any(each() for each in gone)


def test_push_log_after_the_hubs_end_refuses_and_keeps_nothing() -> None:
    closed = False
    flushes: list[Callable[[], None]] = []

    def schedule(flush: Callable[[], None]) -> None:
        if closed:
            raise HubClosed("the hub is closed")
        flushes.append(flush)

    room: PushLog[Peer] = PushLog(schedule, 10, "room")
    inside = Peer()
    room.join(inside)
    closed = True
    for _ in range(20):
        with pytest.raises(HubClosed):
            room.push(frame(1))
    assert room.counts()[1:] == (0, 0)
    assert room.wait_consumed(room.counts()[0], TIMEOUT)
    assert room.leave(inside)
    assert inside not in room
    assert not room.leave(inside)


def test_push_log_push_refused_during_the_last_flush_leaves_it_alone() -> None:
    closed = False
    flushes: list[Callable[[], None]] = []

    def schedule(flush: Callable[[], None]) -> None:
        if closed:
            raise HubClosed("the hub is closed")
        flushes.append(flush)

    class Pusher(Peer):
        def send_batch(self, run: FrameBatch) -> int:
            nonlocal closed
            closed = True
            with pytest.raises(HubClosed):
                room.push(frame(2))
            return super().send_batch(run)

    room: PushLog[Peer] = PushLog(schedule, 10, "room")
    peer = Pusher()
    room.join(peer)
    push = room.push(frame(1))
    flushes.pop()()
    assert peer.got() == [1]
    assert room.is_consumed(push)
    assert room.wait_consumed(room.counts()[0], TIMEOUT)


class Driver:
    """A room's own thread, played by the test."""

    def __init__(self, room: PushLog[Peer]) -> None:
        self.room = room
        self.scheduled = 0
        self.left_by: list[Peer] = []
        self.ended: list[str] = []

    def schedule(self) -> None:
        self.scheduled += 1

    def left(self, member: Peer) -> None:
        self.left_by.append(member)

    def end(self, reason: str) -> None:
        self.ended.append(reason)


def test_push_log_flush_scheduled_before_the_driver_does_nothing() -> None:
    """Its driver flushes the entries that waited, together with later ones."""
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 10, "room")
    peer = Peer()
    room.push(frame(0))
    room.join(peer)
    room.push(frame(1))
    driver = Driver(room)
    room.attach(driver)
    assert driver.scheduled == 1
    room.push(frame(2))
    flushes.pop()()
    assert (peer.written, flushes, driver.scheduled) == ([], [], 1)
    room.flush(driver)
    assert (peer.got(), peer.sends) == ([1, 2], 1)
    room.push(frame(3))
    assert (flushes, driver.scheduled) == ([], 2)
    room.flush(driver)
    assert peer.got() == [1, 2, 3]
    room.leave(peer)
    assert driver.left_by == [peer]


def test_push_log_flush_during_a_flush_loses_nothing() -> None:
    """The driver comes, pushes and ends while the hub thread flushes."""
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 10, "room")
    driver = Driver(room)

    class Slow(Peer):
        def send_batch(self, run: FrameBatch) -> int:
            if not self.sends:  # meanwhile the driver comes, pushes and goes
                room.attach(driver)
                room.push(frame(2))
                room.flush(driver)
                room.shut()
                room.flush(driver)
                room.leave(self)
                room.flush(driver)
            return super().send_batch(run)

    slow, other = Slow(), Peer()
    room.join(slow)
    room.join(other)
    room.push(frame(1))
    flushes.pop()()
    assert slow.got() == other.got() == [1, 2]
    assert room.wait_consumed(2, 0)
    assert list(room._present) == [other]


def test_push_log_driver_at_the_hubs_end_takes_over_what_waits() -> None:
    driver: Driver | None = None

    def schedule(flush: Callable[[], None]) -> None:
        nonlocal driver
        driver = Driver(room)
        room.attach(driver)
        raise HubClosed("the hub is closed")

    room: PushLog[Peer] = PushLog(schedule, 10, "room")
    room.join(peer := Peer())
    assert room.push(frame(1)) == 1
    assert driver is not None
    assert driver.scheduled == 1
    room.flush(driver)
    assert peer.got() == [1]
    with pytest.raises(UsageError, match="has a clock already"):
        room.attach(Driver(room))
    assert not room.close("a reason")
    assert driver.ended == ["a reason"]
    assert not room.close("again")
    room.push(frame(2))
    room.shut()
    with pytest.raises(HotlineClosed):
        room.push(frame(3))
    room.flush(driver)
    assert peer.got() == [1, 2]


def test_push_log_fan_out_to_a_crowd_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fan-out to few members is not."""
    monkeypatch.setattr(fairness, "HAS_GIL", True)
    seen: list[int] = []

    class Looks(Peer):
        def send_batch(self, run: FrameBatch) -> int:
            seen.append(fan_outs.running)
            return super().send_batch(run)

    for count in (fairness.CROWD, fairness.CROWD - 1):
        scheduled: list[Callable[[], None]] = []
        room: PushLog[Peer] = PushLog(scheduled.append, 10, "room")
        for _ in range(count):
            room.join(Looks())
        room.push(frame(1))
        for flush in scheduled:
            flush()
        assert fan_outs.running == 0
    assert seen == [1] * fairness.CROWD + [0] * (fairness.CROWD - 1)


def test_push_log_wait_consumed_ends_when_the_last_member_has_the_push() -> None:
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 10, "room")
    quick, slow = Peer(), Peer()
    slow.lags = True
    room.join(quick)
    room.join(slow)
    push = room.push(frame(1))
    flushes.pop()()
    waiting = in_thread(lambda: room.wait_consumed(push, TIMEOUT))
    assert not room.wait_consumed(push, 0)
    slow.consume(push)
    assert waiting()


def test_push_log_member_may_use_the_log_in_a_flush() -> None:
    """Other threads may use the log meanwhile, because no lock is held."""
    flushes: list[Callable[[], None]] = []
    room: PushLog[Peer] = PushLog(flushes.append, 100, "room")

    class User(Peer):
        def send_batch(self, run: FrameBatch) -> int:
            in_thread(self.use)()
            self.use()
            return super().send_batch(run)

        def use(self) -> None:
            room.push(frame(2))
            room.leave(self)
            assert room.counts()[0]
            assert room.members() == [other]
            room.is_consumed(1)

    user, other = User(), Peer()
    room.join(user)
    room.join(other)
    room.push(frame(1))
    flushes.pop()()
    flushes.pop()()
    assert user.got() == [1, 2]
    assert other.got()[:2] == [1, 2]
