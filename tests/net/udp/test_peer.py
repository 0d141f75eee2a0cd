"""One UDP peer on a socket with or without room: its datagrams, their order, its end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.net.udp.peer import OVERHEAD, Address, UdpPeer
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame, MessageType
from hubthread.types import Overflow
from tests.support import TIMEOUT, Logs, Task, incidents_to, outbox_bounds

ADDRESS = ("192.0.2.1", 9)


class Cable:
    """A ``PeerSocket`` with room for ``room`` datagrams; ``left`` has the ones sent."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.left: list[bytes] = []
        self.queued: list[UdpPeer] = []
        self.forgotten = 0

    def send(self, wire: bytes, address: Address) -> bool:
        assert address == ADDRESS
        if len(wire) > 65507:
            raise OSError("too long")
        if not self.room:
            return False
        self.room -= 1
        self.left.append(wire)
        return True

    def send_later(self, peer: UdpPeer) -> None:
        self.queued.append(peer)

    def forget(self, peer: UdpPeer) -> None:
        self.forgotten += 1


class Over:
    """A sink that counts its ends."""

    def __init__(self) -> None:
        self.ends = 0
        self.ended = threading.Event()

    def arrive(self, message: object, size: int) -> bool:
        raise AssertionError("nothing arrives here")

    def over(self) -> None:
        self.ends += 1
        self.ended.set()


def made(
    cable: Cable, *, proven: bool = True, received: int = 0, **bounds: Any
) -> tuple[UdpPeer, Over]:
    timers = Timers(Threads("test", incidents_to(Logs())), incidents_to(Logs()))
    peer = UdpPeer(ADDRESS, received, cable, outbox_bounds(**bounds), timers)
    peer.sink = sink = Over()
    if proven:
        peer.mark_proven()
    return peer, sink


def end(peer: UdpPeer) -> None:
    """End the timers of a peer."""
    peer._timers.close()
    assert not peer._timers._threads.join(TIMEOUT)


def text(number: int) -> Frame:
    return Frame(f"{number}", MessageType.TEXT)


def numbers(wires: list[bytes]) -> list[int]:
    return [int(wire) for wire in wires]


@given(st.integers(0, 1024), st.lists(st.integers(0, 1100), max_size=40), st.booleans())
def test_peer_unproven_gets_no_more_than_it_sent(
    received: int, sizes: list[int], in_one_run: bool
) -> None:
    """This holds for payloads and for bytes on the wire.  The rest counts as dropped."""
    cable = Cable()
    peer, _ = made(cable, proven=False, received=received)
    frames = [Frame(bytes(size), MessageType.BINARY) for size in sizes]
    if in_one_run and frames:
        assert peer.send_batch(FrameBatch(frames, [None] * len(frames))) == 0
    else:
        for frame in frames:
            peer.send(frame)
    peer.ping()
    left = [len(wire) for wire in cable.left]
    assert sum(left) <= received
    assert sum(left) + OVERHEAD * len(left) <= received + OVERHEAD
    if sizes and sizes[0] <= received:
        assert left[:1] == sizes[:1]
    assert peer.dropped == len(sizes) - len(left)
    assert peer.waiting() == (0, 0)
    assert peer.is_consumed(len(sizes))
    peer.mark_proven()
    peer.send(text(7))
    peer.ping()
    assert cable.left[len(left) :] == [b"7", b""]


class Model:
    """A list that is cut at its bound, at the end that the policy names."""

    bound = 4

    def __init__(self, policy: Overflow) -> None:
        self.policy = policy
        self.room = 0
        self.waiting: list[int] = []
        self.left: list[int] = []
        self.dropped = 0

    def send(self, number: int) -> None:
        if self.room and not self.waiting:
            self.room -= 1
            self.left.append(number)
            return
        self.waiting.append(number)
        if len(self.waiting) > self.bound:
            self.dropped += 1
            del self.waiting[0 if self.policy is Overflow.DROP_OLDEST else -1]

    def send_waiting(self) -> None:
        while self.room and self.waiting:
            self.room -= 1
            self.left.append(self.waiting.pop(0))


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "run", "room", "send waiting"]), st.integers(1, 6)),
        max_size=60,
    ),
    st.sampled_from([Overflow.DROP_OLDEST, Overflow.DROP_NEWEST]),
)
def test_peer_backlog_behaves_like_a_bounded_list(
    steps: list[tuple[str, int]], policy: Overflow
) -> None:
    """Nothing overtakes waiting messages, and the socket has the peer in its queue once."""
    model = Model(policy)
    cable = Cable(room=0)
    peer, _ = made(cable, overflow=policy, max_messages=model.bound)
    number = 0
    for kind, amount in steps:
        fresh = range(number + 1, number + amount + 1)
        if kind == "room":
            cable.room = model.room = amount
        elif kind == "send waiting":
            model.send_waiting()
            if cable.queued and cable.queued[0].send_waiting():
                cable.queued.pop()
        else:
            number += amount
            for each in fresh:
                model.send(each)
            if kind == "send":
                assert [peer.send(text(each)) for each in fresh] == list(fresh)
            else:
                last = peer.send_batch(FrameBatch([text(each) for each in fresh], [None] * amount))
                assert last == (number if model.waiting else 0)
        assert numbers(cable.left) == model.left
        assert peer.waiting()[0] == len(model.waiting)
        assert peer.dropped == model.dropped
        assert peer.is_consumed(number) == (not model.waiting)
        assert len(cable.queued) <= 1
        assert bool(cable.queued) >= bool(model.waiting)
    assert peer.count == number


def test_peer_overflow_closes_once() -> None:
    """Waiting messages are dropped, and later messages are ignored."""
    cable = Cable(room=0)
    peer, sink = made(cable, max_messages=2)
    peer.send_batch(FrameBatch([text(each) for each in range(5)], [None] * 5))
    assert (peer.ended_by, peer.code) == ("overflow", 1013)
    assert sink.ends == 1
    assert cable.forgotten == 1
    assert peer.dropped == 5
    assert peer.send(text(6)) == 6
    assert peer.is_consumed(6)
    peer.cut("silent")
    assert (peer.ended_by, sink.ends) == ("overflow", 1)
    assert cable.left == []


def test_peer_latest_replaces_a_waiting_message() -> None:
    cable = Cable(room=0)
    peer, _ = made(cable, overflow=Overflow.LATEST)
    for each in range(4):
        peer.send(text(each), "key")
    cable.room = 9
    assert peer.send_waiting()
    assert numbers(cable.left) == [3]
    assert peer.dropped == 3


def test_peer_close_waits_for_its_backlog() -> None:
    """A later message is not sent."""
    cable = Cable(room=0)
    peer, sink = made(cable)
    number = peer.send(text(1))
    waits = Task(lambda: peer.wait_consumed(number, TIMEOUT))
    peer.close(1001, "going")
    peer.send(text(2))
    assert sink.ends == 0
    assert not peer.is_consumed(number)
    cable.room = 9
    assert peer.send_waiting()
    assert waits.result()
    assert numbers(cable.left) == [1]
    assert (sink.ends, peer.code, peer.reason, peer.ended_by) == (1, 1001, "going", "server")
    end(peer)


def test_peer_close_with_a_stuck_backlog_is_cut() -> None:
    """The peer has ``write_wait`` seconds to take what waits."""
    cable = Cable(room=0)
    peer, sink = made(cable, write_wait=0.01)
    number = peer.send(text(1))
    peer.close()
    assert peer.wait_consumed(number, TIMEOUT)
    assert sink.ended.wait(TIMEOUT)
    assert cable.left == []
    assert (peer.ended_by, sink.ends) == ("server", 1)
    end(peer)


def test_peer_refused_datagram_is_dropped() -> None:
    """It counts as dropped, and the next datagram is sent."""
    cable = Cable()
    peer, _ = made(cable)
    peer.send(Frame(bytes(70_000), MessageType.BINARY))
    peer.send(text(2))
    assert numbers(cable.left) == [2]
    assert peer.dropped == 1


def test_peer_close_with_forbidden_code_raises() -> None:
    """The codes are those of a WebSocket, although none is sent."""
    peer, sink = made(Cable())
    with pytest.raises(ValueError, match=r"close code: expected .*, got 1005"):
        peer.close(1005)
    assert peer.ended_by is None
    assert sink.ends == 0
