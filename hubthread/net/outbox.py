"""The sending half of a connection, and its writer thread, there only when something waits.

Layer: net.  Threads: any thread sends; the writer brings the backlog out.

The sender offers its bytes to the socket itself, without blocking: no thread is woken
for a peer that keeps up.  What the socket does not take becomes the backlog, and from
then on everything goes behind it, in order, until the writer has brought it out.  Only
non-blocking calls happen under the lock; the writer waits for the socket outside.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence

from hubthread.concurrency.waits import me, wait_for
from hubthread.net.backlog import PING, PONG, Backlog, OutboxLimits
from hubthread.net.transport import Transport
from hubthread.settings import Overflow

__all__ = ["PING", "PONG", "Outbox", "OutboxLimits"]


class Outbox:
    """Sends what it can at once, and the rest in order.

    Each message has a number, counted from 1.  One is *consumed* once the operating
    system has all of it, or it was dropped by the policy, or the connection has ended:
    nothing of it waits here any more.

    Threads: every method from any, except ``end`` (the reader).

    :param start_thread: called with ``(target, what)`` to start the writer.
    :param on_broken: called without the lock, at most once with ``"overflow"`` (full, and
        the policy says close; ``finish`` may follow), and then at most once with
        ``"stalled"`` (no byte taken for ``write_wait`` seconds), ``"no thread"`` (for the
        writer) or ``"lost"`` (says the socket).
    """

    __slots__ = (
        "_alone", "_backlog", "_condition", "_consumed", "_direct", "_finished", "_half_closing",
        "_limits", "_lock", "_lost", "_on_broken", "_open", "_outside", "_start_thread",
        "_transport", "_writer", "count", "holding",
    )  # fmt: skip

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
        self._backlog = Backlog(limits)
        self._consumed = 0
        self._open = True  # more is accepted
        self._direct = True  # ... and nothing waits: the sender may try the socket itself
        self.holding = False  # what is sent waits for ``release``, within bounds
        self._alone: frozenset[int] = frozenset()  # ... and so does what these threads send
        self._finished = False  # the last frame is sent or waits
        self._half_closing = False  # the sending side ends when nothing waits any more
        self._lost = False  # the socket is no longer touched, and nothing waits for it
        self._writer = False  # there is a writer thread, or one is being started
        self._outside = False  # the writer is waiting for the socket
        self.count = 0

    # Sending.

    def send(self, wire: bytes, key: Hashable = None) -> int:
        """Send one message, or queue it; returns its number, at once."""
        with self._lock:
            number = self.count = self.count + 1
            sent = 0
            if self._direct or self._hold_no_more(1, len(wire)):
                sent = self._offer(wire)
                if sent == len(wire) and not self._transport.unsent:
                    self._consumed = number
                    return number
            start, trouble = self._queue(sent, (wire,), (key,), number)
        self._see_to(start, trouble)
        return number

    def send_run(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """Send messages that belong together with one system call.

        :param joined: ``b"".join(wires)``, made once for all who get the same run.
        :returns: the number of the last one if it waits here, zero if it is consumed.
        """
        with self._lock:
            first = self.count + 1
            number = self.count = self.count + len(wires)
            sent = 0
            if self._direct or self._hold_no_more(len(wires), len(joined)):
                sent = self._offer(joined)
                if sent == len(joined) and not self._transport.unsent:
                    self._consumed = number
                    return 0
            start, trouble = self._queue(sent, wires, keys, first)
            waits = number if number > self._consumed else 0
        self._see_to(start, trouble)
        return waits

    def send_control(self, wire: bytes, key: Hashable = None) -> None:
        """Send a control frame, which has no number.

        :param key: ``PING`` or ``PONG`` for those that replace each other and overtake
            what waits; otherwise it takes its turn.
        """
        with self._lock:
            # Not held: each ping wants its answer, and those would replace each other.
            start, trouble = self._send_held()
            if trouble is None:
                more, trouble = self._queue(self._try(wire), (wire,), (key,), None)
                start = start or more
        self._see_to(start, trouble)

    def finish(self, wire: bytes, *, drop_waiting: bool = False) -> None:
        """Send the last frame, once; what is sent later is ignored.

        :param drop_waiting: instead of everything that waits.
        """
        with self._lock:
            if self._finished or self._lost:
                return
            self._finished = True
            if drop_waiting:
                self._backlog.drop_waiting()
            start, trouble = self._send_held()
            sent = self._try(wire)
            self._open = False
            if sent < 0:
                trouble = self._lose("lost")
            elif trouble is None:
                if not sent:
                    self._backlog.add_last(wire)
                elif sent < len(wire):
                    self._backlog.begin(None, wire[sent:])
                start = self._call_writer() or start
        self._see_to(start, trouble)

    def hold(self, *, alone: bool = False) -> bool:
        """Keep what is sent from now on, to send it together; whether it does.

        :param alone: only what the calling thread sends; another's goes out at once, behind it.
        """
        if self._limits.overflow is Overflow.LATEST:
            return False  # what waits is replaced there: a peer that reads should miss nothing
        with self._lock:
            if alone:
                self._alone |= {me()}
            else:
                self.holding = True
            self._direct = False
            return True

    def release(self, *, alone: bool = False) -> None:
        """Send what was held, and hold no more; from any thread, but for one's own hold."""
        with self._lock:
            if alone:
                self._alone -= {me()}
            else:
                self.holding = False
            start, trouble = self._send_held()
        self._see_to(start, trouble)

    def half_close(self, *, drop_waiting: bool = False) -> None:
        """End the sending side when nothing waits any more, or may: now, or on the writer."""
        with self._lock:
            self._open, self._finished, self._half_closing = False, True, True
            if drop_waiting:
                self._backlog.drop_waiting()
            start = self._call_writer()
        self._see_to(start, None)

    # Under the lock.

    def _try(self, wire: bytes) -> int:
        """Offer the socket a frame, if nothing waits; how much it took, -1: it is broken."""
        return 0 if self._pending() or not self._open else self._offer(wire)

    def _offer(self, data: bytes) -> int:
        try:
            return self._transport.send(data)
        except OSError:
            return -1

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> tuple[bool, str | None]:
        """Queue what is left of ``wires`` when ``sent`` bytes are out (-1: broken).

        :param first: the number of the first message; ``None``: a control frame.
        :returns: what is to be seen to without the lock: whether a writer is to be
            started, and trouble.
        """
        trouble = None
        if sent < 0:
            return False, self._lose("lost")
        if self._open:
            for place, (wire, key) in enumerate(zip(wires, keys, strict=True)):
                number = None if first is None else first + place
                if sent >= len(wire):
                    sent -= len(wire)  # out
                elif sent:
                    self._backlog.begin(number, memoryview(wire)[sent:])
                    sent = 0
                elif not self._backlog.admit(number, wire, key):
                    # What of this run comes behind it is dropped like itself.
                    self._backlog.dropped += len(wires) - place - 1
                    self._open = False
                    trouble = "overflow"
                    break
        if self._keeps() and not self._writer and trouble is None:
            return False, None
        return self._call_writer(), trouble

    def _keeps(self) -> bool:
        """Whether what the calling thread sends is held."""
        return self.holding or me() in self._alone

    def _hold_no_more(self, count: int, size: int) -> bool:
        """Send what is held, if this many more would be too much; whether nothing waits then.

        So a client that reads never overflows for being answered together.
        """
        held, most = self._backlog, self._limits
        fits = len(held) + count <= most.hold_messages and held.size + size <= most.hold_bytes
        if (fits and self._keeps()) or self._writer or not self._open:
            return False
        return not self._send_more() or not self._pending()  # broken: the sender finds it too

    def _send_held(self) -> tuple[bool, str | None]:
        """Send what waits, unless the writer is at it; as ``_queue``."""
        if not self._writer and not self._send_more():
            return False, self._lose("lost")
        return self._call_writer(), None

    def _send_more(self) -> bool:
        """Send what waits as long as the socket takes it; false when that is broken."""
        try:
            while self._pending() and self._send_some():
                pass
        except OSError:
            return False
        return True

    def _call_writer(self) -> bool:
        """See that a writer brings out what waits; whether one is to be started."""
        self._settle()
        if not self._pending():
            return False
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        if self._writer:
            self._condition.notify_all()
            return False
        self._writer = True
        return True

    def _settle(self) -> None:
        """Note what has gone; after each change."""
        pending = self._pending()
        self._direct = not (pending or self.holding or self._alone) and self._open
        if not pending:
            self._consumed = self.count
            if self._half_closing and not self._lost:
                self._half_closing = False
                self._transport.finish()
        elif not self._transport.unsent:  # else the transport has the end of a message
            first = self._backlog.first
            self._consumed = self.count if first is None else first - 1

    def _pending(self) -> bool:
        return not self._lost and (bool(self._backlog) or bool(self._transport.unsent))

    def _lose(self, trouble: str) -> str:
        """Nothing can be sent any more."""
        self._lost = True
        self._open = False
        self._backlog.forget()
        self._settle()
        if self._condition is not None:
            self._condition.notify_all()
        return trouble

    # The writer.

    def _see_to(self, start: bool, trouble: str | None) -> None:
        """Start the writer, report trouble.  Without the lock."""
        if start:
            try:
                self._start_thread(self._write, "writer")
            except RuntimeError:
                with self._lock:
                    self._writer = False
                    # Unless the connection has ended meanwhile: then nobody needs a writer.
                    trouble = None if self._lost else self._lose("no thread")
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
        """Wait until something waits, ``linger`` seconds at most; false ends the writer."""
        condition = self._condition
        assert condition is not None
        with condition:
            condition.wait_for(lambda: self._pending() or not self._open, self._limits.linger)
            self._outside = self._writer = self._pending()
            return self._outside

    def _bring_out(self, writable: bool) -> str | None:
        """Send what the socket takes now; returns trouble of a new kind."""
        condition = self._condition
        assert condition is not None
        with condition:
            self._outside = False
            condition.notify_all()
            if self._lost:
                return None
            try:
                # Asked even when the wait was in vain: Linux calls a socket writable when
                # a third of its buffer is free, and a peer that reads slowly is alive.
                if not self._send_some() and not writable:
                    return self._lose("stalled")
            except OSError:
                return self._lose("lost")
        return None

    def _send_some(self) -> bool:
        """Offer the socket the first of the backlog; whether it took anything."""
        unsent = self._transport.unsent
        sent = self._transport.send(self._backlog.chunk())
        self._backlog.taken(sent)
        self._settle()
        return sent > 0 or self._transport.unsent < unsent

    # The end, and looking.

    def end(self) -> None:
        """Let go of the socket: after this nobody touches it.  Shut it down before.

        What waits is forgotten.  Waits for the writer's last call, which ``shutdown`` has
        woken: a descriptor must not be given back while a thread still waits for it.
        """
        with self._lock:
            self._lose("ended")
            if self._condition is not None:
                self._condition.wait_for(lambda: not self._outside)

    @property
    def dropped(self) -> int:
        """How many messages the policy has dropped."""
        return self._backlog.dropped

    def is_consumed(self, number: int) -> bool:
        """Whether message ``number``, and so each before it, is consumed."""
        return number <= self._consumed

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` is consumed (``None``: all); whether it is."""
        if self.holding or self._alone:
            self.release()
        if self._condition is None:
            return True  # there never was a backlog

        def arrived() -> bool:
            return not self._pending() if number is None else number <= self._consumed

        return wait_for(self._condition, arrived, timeout)

    def waiting(self) -> tuple[int, int]:
        """How many messages wait here, and their bytes."""
        with self._lock:
            return len(self._backlog), self._backlog.size
