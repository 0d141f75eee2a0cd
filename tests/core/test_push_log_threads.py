"""A push log on several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hubthread.concurrency.mailbox import Mailbox
from hubthread.core.push_log import PushLog
from hubthread.errors import HotlineClosed
from hubthread.protocol.batch import FrameBatch
from tests.core.room_members import Peer, frame
from tests.support import TIMEOUT, in_thread, together


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


def test_push_log_on_many_threads_gives_each_member_one_piece_of_the_order() -> None:
    hub = HubThread()
    room: PushLog[Peer] = PushLog(hub.schedule, 100_000, "room")
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


def test_push_log_wait_consumed_ends_when_the_last_member_has_the_push() -> None:
    hub = HubThread()
    room: PushLog[Peer] = PushLog(hub.schedule, 10, "room")
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


def test_push_log_member_may_use_the_log_in_a_flush() -> None:
    """On other threads, too: no lock is held."""
    hub = HubThread()
    room: PushLog[Peer] = PushLog(hub.schedule, 100, "room")

    class User(Peer):
        def send_batch(self, run: FrameBatch) -> int:
            number = super().send_batch(run)
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


def test_push_log_close_racing_with_joins_admits_or_refuses_each() -> None:
    for _ in range(20):
        hub = HubThread()
        room: PushLog[Peer] = PushLog(hub.schedule, 1000, "room")
        accepted: list[Peer] = []
        pushed: list[int] = []
        witness = Peer()
        room.join(witness)

        def work(
            number: int,
            room: PushLog[Peer] = room,
            accepted: list[Peer] = accepted,
            pushed: list[int] = pushed,
        ) -> None:
            if number == 0:
                assert room.close("over")
                assert not room.close("over")
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
        assert not room.close("over", only_if_empty=True)
