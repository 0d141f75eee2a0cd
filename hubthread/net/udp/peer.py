"""One UDP peer: an address, what waits for it, and its end.

Layer: net.  Threads: any sends and closes; ``bring_out`` is the thread of its socket.

A datagram goes to the socket at once.  What that does not take waits here, within the bounds
of every outbox, until the socket's thread has brought it out; a peer costs no thread.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

from hubthread.concurrency.calls import wait_for
from hubthread.concurrency.timers import Alarm, Timers
from hubthread.limits import OUTBOX
from hubthread.net.backlog import Backlog
from hubthread.net.connection import TRY_AGAIN_LATER
from hubthread.net.options import OutboxBounds
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame, check_code
from hubthread.protocol.websocket import ProtocolFailure
from hubthread.types import Framing

__all__ = ["Address", "Port", "UdpPeer", "UdpSink"]

Address = tuple[Any, ...]
"""As the system gives it: host and port first."""

OVERHEAD = 64
"""Bytes that a datagram costs beside its payload: rather more than IP and UDP need, so that
many small answers to a large question do not make more traffic than that."""

_ABNORMAL = 1006


class UdpSink(Protocol):
    """What a peer calls; both must return at once."""

    def arrive(self, message: str | bytes | ProtocolFailure, size: int) -> bool:
        """A message has come, or what is none, in so many bytes; false if it cannot be taken.

        To be followed by ``UdpSocket.handled``, and for a failure by ``close``: in the order
        of messages, so that those before it are answered.
        """

    def over(self) -> None:
        """The last call: nothing is sent or received any more."""


class Port(Protocol):
    """What a peer needs of its socket."""

    def send(self, wire: bytes, address: Address) -> bool:
        """Send a datagram; false if there is no room now.  :raises OSError: never will be."""

    def lag(self, peer: UdpPeer) -> None:
        """Call ``bring_out`` when there is room."""

    def release(self, peer: UdpPeer) -> None:
        """What comes from that address is no more for this peer."""


class UdpPeer:
    """The server's end of one UDP peer: its link, and its own outbox.

    An address can be forged.  Until a second datagram has come from it, it is sent no more
    bytes than came, ``OVERHEAD`` for each datagram counted on both sides; what goes beyond is
    dropped, not kept: an unproven peer costs no memory.

    ``ended_by`` is ``"server"``, ``"violation"``, ``"overflow"``, ``"silent"``, ``"idle"``, or
    ``"crowded out"`` (had spoken once, and had to make room); ``None`` while it is open.
    """

    __slots__ = (
        "_alarm",
        "_allowance",
        "_backlog",
        "_condition",
        "_consumed",
        "_lagging",
        "_limits",
        "_lock",
        "_open",
        "_over",
        "_port",
        "_timers",
        "_unsent",
        "address",
        "code",
        "count",
        "ended_by",
        "heard",
        "limit",
        "reason",
        "sink",
        "unhandled",
    )

    clean = False
    sink: UdpSink

    def __init__(
        self, address: Address, received: int, port: Port, limits: OutboxBounds, timers: Timers
    ) -> None:
        self.address = address
        self._port = port
        self._limits = limits
        self._timers = timers
        # The socket's thread's, under the socket's lock.
        self.heard = 0.0  # when it has spoken last
        self.unhandled = 0  # messages that wait for their handler
        self._lock = threading.Lock()  # guards what follows; sends under it do not block
        self._condition: threading.Condition | None = None  # made with the first backlog
        self._backlog = Backlog(limits)
        self._allowance: int | None = received + OVERHEAD
        self._consumed = 0
        self._unsent = 0
        self._open = True
        self._over = False
        self._lagging = False
        self._alarm: Alarm | None = None
        self.count = 0
        self.ended_by: str | None = None
        self.limit: str | None = None
        self.code: int | None = None
        self.reason = ""

    @property
    def outbox(self) -> UdpPeer:
        """It is its own."""
        return self

    @property
    def dropped(self) -> int:
        """Messages dropped by the overflow policy, for want of proof, or refused by the system."""
        return self._backlog.dropped + self._unsent

    # Any thread.

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; its number, at once."""
        return self._send((frame.body,), (key,))[0]

    def send_batch(self, run: FrameBatch) -> int:
        """Send or queue a run; the number of its last message if that waits, else zero."""
        number, waits = self._send(run.encoded(Framing.CHUNKS)[1], run.keys)
        return number if waits else 0

    def send_control(self, frame: Frame) -> None:
        """Send what a ping or pong is here: an empty datagram."""
        self.ping()

    def ping(self) -> None:
        """Send an empty datagram, if it has spoken twice and nothing waits."""
        with self._lock:
            if self._open and self._allowance is None and not self._backlog:
                self._offer(b"")

    def trust(self) -> None:
        """It has spoken twice."""
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
        """End it, once what waits is out; returns at once.  The peer is not told.

        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """
        check_code(code)
        self._end(code, reason, ended_by, limit, drain=True)

    def cut(self, ended_by: str = "server", reason: str = "", limit: str | None = None) -> None:
        """End it now."""
        self._end(_ABNORMAL, reason, ended_by, limit, drain=False)

    def shutdown(self) -> None:
        """End it now."""
        self.cut()

    def is_consumed(self, number: int) -> bool:
        """Whether message ``number``, and so each before it, is out, dropped or forgotten."""
        return number <= self._consumed

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` is consumed (``None``: all); whether it is."""
        with self._lock:
            condition = self._condition
            if condition is None:
                return True  # there never was a backlog
            wanted = self.count if number is None else number
        return wait_for(condition, lambda: wanted <= self._consumed, timeout)

    def waiting(self) -> tuple[int, int]:
        """How many messages wait here, and their bytes."""
        with self._lock:
            return len(self._backlog), self._backlog.size

    # The socket's thread.

    def bring_out(self) -> bool:
        """Send what waits, as far as there is room; whether nothing waits any more."""
        with self._lock:
            while self._backlog and self._offer(self._backlog.message()):
                self._backlog.message_taken()
            self._settle()
            if self._backlog:
                return False
            self._lagging = False
            over = self._is_over()
        if over:
            self._go()
        return True

    # Under the lock, where nothing else is said.

    def _send(self, wires: Sequence[bytes], keys: Sequence[Hashable]) -> tuple[int, bool]:
        """Not under the lock.  The last number, and whether that waits."""
        full = lags = False
        with self._lock:
            for wire, key in zip(wires, keys, strict=True):
                self.count += 1
                if full:
                    self._unsent += 1
                elif self._open and not self._take(wire, key):
                    self._open = False
                    full = True
            if self._backlog and not self._lagging:
                lags = self._lagging = True
            self._settle()
            number, waits = self.count, self.count > self._consumed
        if lags:
            self._port.lag(self)
        if full:
            reason = "its network takes too little"
            self.close(TRY_AGAIN_LATER, reason, ended_by="overflow", limit=OUTBOX)
        return number, waits

    def _take(self, wire: bytes, key: Hashable) -> bool:
        """Send or queue one, within what it may be sent; false when only closing is left."""
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
        """Offer the socket a datagram; whether nothing of it is left to be done."""
        try:
            return self._port.send(wire, self.address)
        except OSError:  # too long, no route, a port of zero: it is lost, as datagrams are
            self._unsent += 1
            return True

    def _settle(self) -> None:
        first = self._backlog.first
        if first is None:
            self._consumed = self.count
        else:
            self._consumed = first - 1
            if self._condition is None:
                self._condition = threading.Condition(self._lock)
        if self._condition is not None:
            self._condition.notify_all()

    def _is_over(self) -> bool:
        """Whether this is the moment at which the last of it is done."""
        if self._over or self.ended_by is None or self._backlog:
            return False
        self._over = True
        return True

    # The end, without the lock.

    def _end(
        self, code: int, reason: str, ended_by: str, limit: str | None, *, drain: bool
    ) -> None:
        with self._lock:
            first = self.ended_by is None
            if first:
                self.code, self.reason = code, reason
                self.ended_by, self.limit = ended_by, limit
            self._open = False
            if not drain:
                self._backlog.forget()
            elif ended_by == "overflow":
                self._backlog.drop_waiting()
            self._settle()
            over = self._is_over()
            waits = first and not over
        self._port.release(self)
        if waits:
            self._alarm = self._timers.set(self._limits.write_wait, self.cut)
        if over:
            self._go()

    def _go(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self.sink.over()
