"""One UDP peer: its address, the messages that wait for it, and its end.

A datagram goes to the socket at once.  What the socket does not take waits here, within the
bounds of every outbox, until the socket's thread has sent it.  A peer costs no thread.

Layer: net.  Threads: any thread sends and closes; the thread of the socket calls
``send_waiting``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from hubthread.concurrency.timers import Timer, Timers
from hubthread.limits import OUTBOX
from hubthread.net.connection import TRY_AGAIN_LATER
from hubthread.net.options import OutboxBounds
from hubthread.net.sending import FollowUp, Sending
from hubthread.net.tick_batch import catch_up
from hubthread.net.traffic import SharedTraffic, Traffic
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame, check_code
from hubthread.protocol.websocket import ProtocolFailure
from hubthread.types import Framing

__all__ = ["Address", "PeerSocket", "UdpPeer", "UdpSink"]

Address = tuple[Any, ...]
"""An address as the system returns it: host and port come first."""

OVERHEAD = 64
"""Bytes that a datagram costs beside its payload.  More than IP and UDP need, so that many
small answers to a large question do not make more traffic than the question."""

_ABNORMAL = 1006


class UdpSink(Protocol):
    """The receiver of a peer's messages.  Both methods must return at once."""

    def arrive(self, message: str | bytes | ProtocolFailure, size: int) -> bool:
        """Queue a message, or a failure, for its handler; return False if it cannot be queued.

        Once the message is handled, the sink calls ``UdpSocket.handled``.  For a failure it
        also calls ``UdpPeer.close``, in the order of messages, so that earlier messages are
        answered.

        :param size: the bytes of the datagram.
        """

    def over(self) -> None:
        """Handle the end: nothing is sent or received any more.  A second call does nothing."""


class PeerSocket(Protocol):
    """The part of a ``UdpSocket`` that its peers use.  Any thread."""

    def send(self, wire: bytes, address: Address) -> bool:
        """Send a datagram; return False if there is no room now.

        :raises OSError: when the system refuses this datagram for good.
        """

    def send_later(self, peer: UdpPeer) -> None:
        """Call ``peer.send_waiting`` when there is room."""

    def forget(self, peer: UdpPeer) -> None:
        """Hand no further datagrams to ``peer``."""


class UdpPeer(Sending):
    """The server's end of one UDP peer.  It is its own outbox.

    An address can be forged.  Until a second datagram has come from it, the address is
    *unproven*: it is sent no more bytes than came from it, with ``OVERHEAD`` for each datagram
    on both sides.  Further messages are dropped, not queued, so an unproven peer costs no
    memory.

    Threads: any thread may call every method, except ``send_waiting``.

    :param received: the bytes of the first datagram.
    :param traffic: counts what is sent; the socket counts what is received.
    """

    __slots__ = (
        "_allowance", "_bounds", "_open", "_over", "_queued", "_socket", "_timer", "_timers",
        "_traffic", "_unsent", "address", "code", "ended_by", "heard", "limit", "reason", "sink",
        "unhandled",
    )  # fmt: skip

    clean = False
    sink: UdpSink
    """Set by the owner before the first message."""
    heard: float
    """The time of the last datagram, on the clock of ``time.monotonic``.  The socket guards it
    with its lock."""
    unhandled: int
    """Messages that wait for their handler.  The socket guards the number with its lock."""
    ended_by: str | None
    """``"server"``, ``"violation"``, ``"overflow"``, ``"silent"``, ``"idle"``, or ``"crowded
    out"`` (an unproven peer that made room for a new one); ``None`` while it is open."""
    limit: str | None
    """The limit (``hubthread.limits``) that ended the peer, if a limit did."""
    code: int | None
    """The close code, for this side only."""
    reason: str
    """The close reason that goes with ``code``."""

    def __init__(
        self,
        address: Address,
        received: int,
        socket: PeerSocket,
        bounds: OutboxBounds,
        timers: Timers,
        traffic: Traffic | None = None,
    ) -> None:
        super().__init__(bounds)
        self._traffic = traffic or SharedTraffic()
        self.address = address
        self._socket = socket
        self._bounds = bounds
        self._timers = timers
        self.heard = 0.0
        self.unhandled = 0
        # The lock guards what follows, too.
        self._direct = False  # each message is tried inside a change
        self._allowance: int | None = received + OVERHEAD  # None: the address is proven
        self._unsent = 0
        self._open = True
        self._over = False  # the sink has been told
        self._queued = False  # the socket will call send_waiting
        self._timer: Timer | None = None
        self.ended_by = None
        self.limit = None
        self.code = None
        self.reason = ""

    @property
    def outbox(self) -> UdpPeer:
        """The peer itself."""
        return self

    @property
    def dropped(self) -> int:
        """The number of messages dropped by the policy, unproven, or refused by the system."""
        return self._backlog.dropped + self._unsent

    @property
    def lags(self) -> bool:
        """True if something waits for the network."""
        return bool(self._backlog)

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; return its number at once."""
        catch_up()
        return self._change(lambda: self._add((frame.body,), (key,)), 1)

    def send_batch(self, batch: FrameBatch) -> int:
        """Send or queue the messages of ``batch``.

        :returns: the number of the last message if it waits here, zero if it is consumed.
        """
        wires, keys = batch.encoded(Framing.CHUNKS)[1], batch.keys
        number = self._change(lambda: self._add(wires, keys), len(wires))
        return number if number > self._consumed else 0

    def send_control(self, frame: Frame) -> None:
        """Send the UDP peer's equivalent of a ping or pong: an empty datagram."""
        self.ping()

    def ping(self) -> None:
        """Send an empty datagram, if the address is proven and nothing waits."""

        def ping() -> None:
            if self._open and self._allowance is None and not self._backlog:
                self._offer(b"")

        self._change(ping)

    def mark_proven(self) -> None:
        """Note that a second datagram has come from the address."""
        with self._lock:
            self._allowance = None

    def close(
        self,
        code: int = 1000,
        reason: str = "",
        *,
        ended_by: str = "server",
        limit: str | None = None,
    ) -> None:
        """End the peer once all waiting messages are sent; return at once.  The peer is not told.

        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """
        check_code(code)
        self._end(code, reason, ended_by, limit, drain=True)

    def cut(self, ended_by: str = "server", reason: str = "", limit: str | None = None) -> None:
        """End the peer now."""
        self._end(_ABNORMAL, reason, ended_by, limit, drain=False)

    def shutdown(self) -> None:
        """End the peer now."""
        self.cut()

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""
        with self._lock:
            return len(self._backlog), self._backlog.size

    def send_waiting(self) -> bool:
        """Send waiting messages, while there is room; return True if nothing waits any more.

        Only for the thread of the socket.
        """
        empty = False

        def send_waiting() -> FollowUp:
            nonlocal empty
            dropped = self.dropped
            while self._backlog and self._offer(self._backlog.message()):
                self._backlog.message_taken()
            self._count_dropped(dropped)
            empty = not self._backlog
            self._queued = not empty
            if empty:
                self._traffic.lagging.pop(self, None)
            return False, "ended"

        self._change(send_waiting)
        return empty

    # Parts of changes: the caller holds the lock.

    def _add(self, wires: Sequence[bytes], keys: Sequence[Hashable]) -> FollowUp:
        """Send or queue messages."""
        dropped = self.dropped
        for wire, key in zip(wires, keys, strict=True):
            self.count += 1
            self._traffic.counts.sent += 1
            if not self._open:
                self._unsent += self.ended_by is None
            elif not self._send_one(wire, key):
                self._open = False
        self._count_dropped(dropped)
        return self._look()

    def _count_dropped(self, before: int) -> None:
        dropped = self.dropped - before  # a call inside the next line could change threads
        self._traffic.counts.dropped += dropped

    def _look(self) -> FollowUp:
        """Return the work that follows a change."""
        start = bool(self._backlog) and not self._queued
        self._queued |= start
        if start:
            self._traffic.lagging[self] = None
        if not self._open and self.ended_by is None:
            return start, "overflow"
        return (start, None) if start else None

    def _send_one(self, wire: bytes, key: Hashable) -> bool:
        """Send or queue one message; return False if the peer must be closed."""
        if self._allowance is not None:
            cost = len(wire) + OVERHEAD
            if cost > self._allowance:
                self._unsent += 1
                return True
            self._allowance -= cost
        if not self._backlog and self._offer(wire):
            return True
        return self._backlog.admit(self.count, wire, key)

    def _offer(self, wire: bytes) -> bool:
        """Offer the socket a datagram; return False if it must be offered again."""
        try:
            sent = self._socket.send(wire, self.address)
            size = len(wire)  # a call inside the next line could change threads
            if sent:
                self._traffic.counts.sent_bytes += size
            return sent
        except OSError:  # too long, no route, port zero: it is lost, as datagrams are
            self._unsent += 1
            return True

    def _pending(self) -> bool:
        """See ``Sending``."""
        return bool(self._backlog)

    def _update(self) -> bool:
        """See ``Sending``; wake the threads that wait."""
        first = self._backlog.first
        self._consumed = self.count if first is None else first - 1
        if self._condition is not None:
            self._condition.notify_all()
        return False

    def _recover(self) -> FollowUp:
        """See ``Sending``.  A datagram is sent whole or not at all, so the peer stays."""
        self._queued = False
        return self._look() or (False, "ended")

    # Without the lock.

    def _end(
        self, code: int, reason: str, ended_by: str, limit: str | None, *, drain: bool
    ) -> None:
        def end() -> FollowUp:
            if self.ended_by is None:
                self.code, self.reason, self.limit = code, reason, limit
                self.ended_by = ended_by
            self._open = False
            if not drain:
                self._backlog.forget()
            elif ended_by == "overflow":
                self._backlog.drop_waiting()
            return False, "ended"

        self._change(end)

    def _follow_up(self, start: bool, trouble: str | None) -> None:
        """Have the socket send the waiting messages, and go on with the end."""
        if start:
            self._socket.send_later(self)
        if trouble == "overflow":
            reason = "The network takes too little for this client; reconnect"
            self.close(TRY_AGAIN_LATER, reason, ended_by="overflow", limit=OUTBOX)
        with self._lock:
            if self.ended_by is None or self._over:
                return
            waits = bool(self._backlog)
        self._socket.forget(self)
        if not waits:
            if self._timer is not None:
                self._timer.cancel()
            self.sink.over()
            self._over = True  # last, because an exception may strike before
        elif self._timer is None:
            self._timer = self._timers.set(self._bounds.write_wait, self.cut)
