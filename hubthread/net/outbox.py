"""What waits for one peer, and the writer thread that is only there when something does.

Layer: net.  Threads: any thread sends; the writer brings the backlog out.

The sender offers its bytes to the socket itself, without blocking: no thread is woken
for a peer that keeps up.  What the socket does not take becomes the backlog, and from
then on everything goes behind it, in order, until the writer has brought it out.  Only
non-blocking calls happen under the lock; the writer waits for the socket outside.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from hubthread.net.transport import Transport
from hubthread.settings import Overflow

__all__ = ["PONG", "Outbox", "OutboxLimits"]

LINGER = 1.0
"""Seconds that a writer stays after its backlog is gone: backlogs come in bursts."""

PONG: Final = object()
"""The key of answers to pings: only the last one matters (RFC 6455 5.5.3), so a peer that
pings and never reads cannot fill its outbox with them."""


@dataclass(frozen=True)
class OutboxLimits:
    """What one outbox may hold, and how it is emptied; shared by all of a hub's clients."""

    max_messages: int
    max_bytes: int
    overflow: Overflow
    write_buffer: int
    write_wait: float


class _Entry:
    """One waiting message.  ``number`` is its place in the order of writes."""

    __slots__ = ("key", "number", "wire")

    def __init__(self, number: int, wire: bytes | memoryview, key: Hashable) -> None:
        self.number = number
        self.wire = wire
        self.key = key


class Outbox:
    """The sending half of a connection.

    Each message has a number, counted from 1.  One is *consumed* once the operating
    system has all of it, or it was dropped by the policy, or the connection has ended:
    nothing of it waits here any more.

    Threads: every method from any, except ``end`` (the reader).

    :param start_thread: called with ``(target, what)`` to start the writer.
    :param on_broken: called without the lock, once, with ``"overflow"`` (full, and the
        policy says close), ``"stalled"`` (no byte taken for ``write_wait`` seconds),
        ``"no thread"`` (for the writer) or ``"lost"`` (says the socket).
    """

    __slots__ = (
        "_backlog",
        "_broken",
        "_bytes",
        "_condition",
        "_consumed",
        "_ended",
        "_finishing",
        "_keyed",
        "_limits",
        "_lock",
        "_on_broken",
        "_outside",
        "_start_thread",
        "_started",
        "_transport",
        "_writer",
        "count",
        "dropped",
    )

    def __init__(
        self,
        transport: Transport,
        limits: OutboxLimits,
        start_thread: Callable[[Callable[[], None], str], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._start_thread = start_thread
        self._on_broken = on_broken
        # The lock guards all that follows.  Under it the socket is written, but never
        # waited for, and nobody else's code runs.
        self._lock = threading.Lock()
        self._condition: threading.Condition | None = None  # made with the first backlog
        self._backlog: deque[_Entry] = deque()
        self._keyed: dict[Hashable, _Entry] = {}  # backlog entries that may be replaced
        self._bytes = 0  # in the backlog
        self._consumed = 0
        self._started = False  # part of the first entry is out: it cannot be dropped
        self._writer = False  # there is a writer thread, or one is being started
        self._outside = False  # the writer is waiting for the socket
        self._finishing = False  # the last frame is queued: nothing goes behind it
        self._broken = False  # on_broken was called, or will be
        self._ended = False  # the socket is no longer touched
        self.count = 0
        self.dropped = 0

    # Sending.

    def send(self, wire: bytes, key: Hashable = None) -> int:
        """Send one message, or queue it; returns its number, at once."""
        with self._lock:
            number = self.count = self.count + 1
            if self._finishing or self._broken or self._ended:
                return number
            if not self._backlog and not self._transport.unsent:
                try:
                    sent = self._transport.send(wire)
                except OSError:
                    sent = -1
                if sent == len(wire) and not self._transport.unsent:
                    self._consumed = number
                    return number
            else:
                sent = 0
            trouble = self._queue(sent, (wire,), (key,), number)
        self._see_to(trouble)
        return number

    def send_run(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """Send messages that belong together with one system call.

        :param joined: ``b"".join(wires)``, made once for all who get the same run.
        :returns: the number of the last one if it waits here, zero if it is consumed.
        """
        with self._lock:
            first = self.count + 1
            number = self.count = self.count + len(wires)
            if self._finishing or self._broken or self._ended:
                return 0
            if not self._backlog and not self._transport.unsent:
                try:
                    sent = self._transport.send(joined)
                except OSError:
                    sent = -1
                if sent == len(joined) and not self._transport.unsent:
                    self._consumed = number
                    return 0
            else:
                sent = 0
            trouble = self._queue(sent, wires, keys, first)
        self._see_to(trouble)
        return number

    def send_control(self, wire: bytes, key: Hashable = None) -> None:
        """Send a control frame, in order behind what waits, but without a number."""
        with self._lock:
            if self._finishing or self._broken or self._ended:
                return
            trouble = self._control(wire, key)
        self._see_to(trouble)

    def finish(self, wire: bytes, *, drop_waiting: bool = False) -> None:
        """Send the last frame; what is sent later is ignored.

        :param drop_waiting: in front of everything that waits, which is dropped.
        """
        with self._lock:
            if self._finishing or self._ended:
                return
            self._finishing = True
            if drop_waiting:
                keep = [self._backlog[0]] if self._started else []
                self.dropped += len(self._backlog) - len(keep)
                self._backlog = deque(keep)
                self._bytes = sum(len(entry.wire) for entry in keep)
            self._keyed.clear()
            trouble = self._control(wire, None)
        self._see_to(trouble)

    def _control(self, wire: bytes, key: Hashable) -> str | None:
        sent = 0
        if not self._backlog and not self._transport.unsent:
            try:
                sent = self._transport.send(wire)
            except OSError:
                sent = -1
            if sent == len(wire) and not self._transport.unsent:
                return None
        return self._queue(sent, (wire,), (key,), self.count)

    # The backlog.  Everything here is called under the lock.

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], number: int
    ) -> str | None:
        """Queue what is left of ``wires`` when ``sent`` bytes are out (-1: broken).

        :returns: what is to be seen to without the lock: trouble, ``"start"``, or nothing.
        """
        if sent < 0:
            self._finishing = self._broken = True
            self._forget()
            return "lost"
        for wire, key in zip(wires, keys, strict=True):
            if sent >= len(wire):
                sent -= len(wire)  # out
            elif sent:
                self._add(_Entry(number, memoryview(wire)[sent:], None))
                self._started = True
                sent = 0
            elif not self._admit(_Entry(number, wire, key)):
                self._broken = True
                return "overflow"
            number += 1
        self._settle()
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        if self._writer:
            self._condition.notify_all()
            return None
        self._writer = True
        return "start"

    def _admit(self, entry: _Entry) -> bool:
        """Find a place for ``entry`` by the policy; false when only closing is left."""
        policy, size = self._limits.overflow, len(entry.wire)
        if entry.key is not None and (policy is Overflow.LATEST or entry.key is PONG):
            waiting = self._keyed.get(entry.key)
            if waiting is not None:
                # It takes the older one's place, and its number: a place is consumed
                # when everything up to it is.
                self._bytes += size - len(waiting.wire)
                waiting.wire = entry.wire
                self.dropped += entry.key is not PONG
                return self._bytes <= self._limits.max_bytes or len(self._backlog) == 1
        if self._fits(size):
            self._add(entry)
        elif policy is Overflow.DROP_NEWEST:
            self.dropped += 1
        elif policy is Overflow.DROP_OLDEST:
            head = self._take() if self._started else None
            while self._backlog and not self._fits(size):
                self._take()
                self.dropped += 1
            self._add(entry)
            if head is not None:
                self._backlog.appendleft(head)
                self._bytes += len(head.wire)
        else:
            return self._finishing  # the closing frame itself always finds a place
        return True

    def _fits(self, size: int) -> bool:
        if self._finishing or not self._backlog:
            return True  # a single message may be larger than the bound
        limits = self._limits
        return len(self._backlog) < limits.max_messages and self._bytes + size <= limits.max_bytes

    def _add(self, entry: _Entry) -> None:
        self._backlog.append(entry)
        self._bytes += len(entry.wire)
        if entry.key is not None:
            self._keyed[entry.key] = entry

    def _take(self) -> _Entry:
        entry = self._backlog.popleft()
        self._bytes -= len(entry.wire)
        if entry.key is not None and self._keyed.get(entry.key) is entry:
            del self._keyed[entry.key]
        return entry

    def _settle(self) -> None:
        """Bring ``_consumed`` up to what neither waits here nor in the transport."""
        if not self._transport.unsent:
            self._consumed = self._backlog[0].number - 1 if self._backlog else self.count

    # Outside of the lock.

    def _see_to(self, trouble: str | None) -> None:
        if trouble == "start":
            try:
                self._start_thread(self._write, "writer")
            except RuntimeError:
                trouble = "no thread"
                with self._lock:
                    self._writer = False
                    self._finishing = self._broken = True
                    self._forget()
                    assert self._condition is not None
                    self._condition.notify_all()
            else:
                return
        if trouble is not None:
            self._on_broken(trouble)

    def _write(self) -> None:
        """The writer thread: bring the backlog out, linger, end."""
        while self._wait_for_work():
            writable = self._transport.wait_writable(self._limits.write_wait)
            trouble = self._bring_out(writable)
            if trouble is not None:
                self._on_broken(trouble)

    def _wait_for_work(self) -> bool:
        """Wait until something waits, ``LINGER`` seconds at most; false ends the writer."""
        condition = self._condition
        assert condition is not None
        with condition:
            if not (self._pending() or self._finishing or self._ended):
                condition.wait_for(
                    lambda: self._pending() or self._finishing or self._ended, LINGER
                )
            self._outside = self._pending() and not self._ended
            if not self._outside:
                self._writer = False
            return self._outside

    def _bring_out(self, writable: bool) -> str | None:
        """Send what the socket takes now; returns trouble of a new kind."""
        condition = self._condition
        assert condition is not None
        trouble = None
        with condition:
            self._outside = False
            condition.notify_all()
            if self._ended:
                return None
            try:
                # Asked even when the wait was in vain: Linux calls a socket writable when
                # a third of its buffer is free, and a peer that reads slowly is alive.
                if not self._send_some() and not writable:
                    trouble = "stalled"
            except OSError:
                trouble = "lost"
            if trouble is not None:
                self._finishing = self._broken = True
                self._forget()
        return trouble

    def _pending(self) -> bool:
        return bool(self._backlog) or self._transport.unsent

    def _forget(self) -> None:
        self._backlog.clear()
        self._keyed.clear()
        self._bytes = 0
        self._consumed = self.count

    def _send_some(self) -> bool:
        """Offer the socket the first of the backlog; whether it took anything."""
        most = self._limits.write_buffer
        if not self._backlog:
            return self._transport.send(b"") >= 0 and not self._transport.unsent
        first = self._backlog[0].wire
        if len(first) >= most or len(self._backlog) == 1:
            chunk: bytes | memoryview = first[:most] if len(first) > most else first
        else:
            parts, size = [], 0
            for entry in self._backlog:
                parts.append(entry.wire)
                size += len(entry.wire)
                if size >= most:
                    break
            chunk = b"".join(parts)
        sent = left = self._transport.send(chunk)
        while left:
            wire = self._backlog[0].wire
            if left < len(wire):
                self._backlog[0].wire = memoryview(wire)[left:]
                self._bytes -= left
                self._started = True
                self._keyed.pop(self._backlog[0].key, None)
                break
            left -= len(wire)
            self._take()
            self._started = False
        self._settle()
        return sent > 0

    # The end, and looking.

    def drain(self, timeout: float) -> bool:
        """Wait until nothing waits here, ``timeout`` seconds at most; whether that is so."""
        return self.wait_consumed(None, timeout)

    def end(self) -> None:
        """Let go of the socket: after this nobody touches it.  Shut it down before.

        What waits is forgotten.  Waits for the writer's last call, which ``shutdown`` has
        woken: a descriptor must not be given back while a thread still waits for it.
        """
        with self._lock:
            self._ended = True
            self._forget()
            condition = self._condition
            if condition is not None:
                condition.notify_all()
                condition.wait_for(lambda: not self._outside)

    def is_consumed(self, number: int) -> bool:
        """Whether message ``number``, and so each before it, is consumed."""
        return number <= self._consumed

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` is consumed (``None``: all); whether it is."""
        with self._lock:
            if self._condition is None:
                return True  # there never was a backlog

            def arrived() -> bool:
                if number is None:
                    return not self._pending() or self._ended
                return number <= self._consumed

            return self._condition.wait_for(arrived, timeout)

    def waiting(self) -> tuple[int, int]:
        """How many messages wait here, and their bytes."""
        with self._lock:
            return len(self._backlog), self._bytes
