"""The sending half of a connection, and its writer thread, there only when something waits.

Layer: net.  Threads: any thread sends; the writer brings the backlog out.

The sender offers its bytes to the socket itself, without blocking: no thread is woken
for a peer that keeps up.  What the socket does not take becomes the backlog, and from
then on everything goes behind it, in order, until the writer has brought it out.  Only
non-blocking calls happen under the lock; the writer waits for the socket outside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from hubthread.concurrency.calls import thread_id, wait_for
from hubthread.net.backlog import PING, PONG
from hubthread.net.options import OutboxBounds
from hubthread.net.sending import Sending
from hubthread.net.transport import Transport
from hubthread.types import Overflow

__all__ = ["PING", "PONG", "Outbox"]


class Outbox(Sending):
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

    __slots__ = ("_on_broken", "_outside", "_start_thread")

    def __init__(
        self,
        transport: Transport,
        limits: OutboxBounds,
        start_thread: Callable[[Callable[[], None], str], None],
        on_broken: Callable[[str], None],
    ) -> None:
        super().__init__(transport, limits)
        self._start_thread = start_thread
        self._on_broken = on_broken
        self._outside = False  # under the lock: the writer is waiting for the socket

    # Sending.

    def send(self, wire: bytes, key: Hashable = None) -> int:
        """Send one message, or queue it; returns its number, at once."""
        with self._lock:
            if self._direct:
                number = self.count = self.count + 1
                sent = self._offer(wire)
                if sent == len(wire) and not self._transport.unsent:
                    self._consumed = number
                    return number
                start, trouble = self._queue(sent, (wire,), (key,), number)
            elif self._keep((wire,), len(wire)):
                return self.count
            else:
                start, trouble = self._send_behind(wire, (wire,), (key,))
                number = self.count
        self._see_to(start, trouble)
        return number

    def send_batch(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """Send messages that belong together with one system call.

        :param joined: ``b"".join(wires)``, made once for all who get the same run.
        :returns: the number of the last one if it waits here, zero if it is consumed.
        """
        with self._lock:
            if self._direct:
                self.count += len(wires)
                sent = self._offer(joined)
                if sent == len(joined) and not self._transport.unsent:
                    self._consumed = self.count
                    return 0
                first = self.count - len(wires) + 1
                start, trouble = self._queue(sent, wires, keys, first)
            elif self._keep(wires, len(joined)):
                return self.count
            else:
                start, trouble = self._send_behind(joined, wires, keys)
            waits = self.count if self.count > self._consumed else 0
        self._see_to(start, trouble)
        return waits

    def send_control(self, wire: bytes, key: Hashable = None) -> None:
        """Send a control frame, which has no number.

        :param key: ``PING`` or ``PONG`` for those that replace each other and overtake
            what waits; otherwise it takes its turn.
        """
        with self._lock:
            # Not kept: each ping wants its answer, and those would replace each other.
            start, trouble = self._send_behind(wire, (wire,), (key,), counted=False)
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
                self._drop_waiting()
            start, trouble = self._send_kept()
            sent = self._offer(wire) if self._clear else 0
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
                self._alone |= {thread_id()}
            else:
                self.holding = True
            self._direct = False
            return True

    def release(self, *, alone: bool = False) -> None:
        """Send what was held, and hold no more; from any thread, but for one's own hold."""
        with self._lock:
            if alone:
                self._alone -= {thread_id()}
            else:
                self.holding = False
            start, trouble = self._send_kept()
            self._settle()
        self._see_to(start, trouble)

    def half_close(self, *, drop_waiting: bool = False) -> None:
        """End the sending side when nothing waits any more, or may: now, or on the writer."""
        with self._lock:
            if drop_waiting:
                self._drop_waiting()
            start, trouble = self._send_kept()
            self._open, self._finished, self._half_closing = False, True, True
            start = self._call_writer() or start
        self._see_to(start, trouble)

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
            kept = len(self._kept or ())
            return len(self._backlog) + kept, self._backlog.size + self._kept_size
