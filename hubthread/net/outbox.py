"""The sending half of a connection, and its writer thread.

A sender offers its bytes to the socket itself, without blocking, so no thread is woken for a
peer that keeps up.  What the socket does not take becomes the backlog.  From then on every
message goes behind the backlog, in order, until the writer thread has sent it.

A *corked* outbox collects messages, within bounds, and offers them to the socket together when
it is uncorked.  Nothing is collected while there is a backlog.

Layer: net.  Threads: any thread sends; the writer thread exists only while a backlog waits, and
shortly after.  Only non-blocking calls happen under the lock; the writer waits for the socket
without it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

from hubthread.concurrency.calls import thread_id, wait_for
from hubthread.net.backlog import PING, PONG, Backlog
from hubthread.net.options import OutboxBounds
from hubthread.net.transport import Transport
from hubthread.types import Overflow

__all__ = ["PING", "PONG", "Outbox"]

_FollowUp: TypeAlias = "tuple[bool, str | None]"
"""The work that a step under the lock leaves for after its release: True if a writer must be
started, and the trouble to report, if any.  See ``Outbox._follow_up``."""


class Outbox:
    """Sends what the socket takes at once, and the rest in order.

    Each message has a number, counted from 1.  A message is *consumed* once nothing of it waits
    here: the operating system has all of it, or the overflow policy dropped it, or the
    connection has ended.

    Threads: any thread may call every method, except ``end`` (the reader).

    :param start_thread: called with ``(target, name)`` to start the writer.
    :param on_broken: called without the lock, at most once with ``"overflow"`` (the outbox is
        full and the policy says close; ``finish`` may follow), and then at most once with
        ``"stalled"`` (the peer took no byte for ``write_wait`` seconds), ``"no thread"`` (the
        writer could not be started) or ``"lost"`` (the socket failed).
    """

    __slots__ = (
        "_backlog", "_bounds", "_clear", "_collected", "_collected_size", "_condition",
        "_consumed", "_corking_threads", "_direct", "_finished", "_half_closing", "_has_writer",
        "_lock", "_lost", "_on_broken", "_open", "_start_thread", "_writer_waits", "corked",
        "count", "transport",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        bounds: OutboxBounds,
        start_thread: Callable[[Callable[[], None], str], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self.transport = transport
        """The socket.  A test may put a recorder in its place."""
        self._bounds = bounds
        self._start_thread = start_thread
        self._on_broken = on_broken
        self._lock = threading.RLock()  # guards what follows
        self._condition: threading.Condition | None = None  # made with the first backlog
        self._backlog = Backlog(bounds)
        self._consumed = 0
        # Three flags, each including the one before it; ``_update`` maintains the last two.
        self._open = True  # more messages are accepted
        self._clear = True  # and the socket has taken all that it was offered
        self._direct = True  # and nothing is corked: a sender may try the socket itself
        self._corking_threads: frozenset[int] = frozenset()  # corked for these threads only
        self._collected: list[bytes] | None = None  # while corked
        self._collected_size = 0
        self._finished = False  # the last frame is sent or waits
        self._half_closing = False  # the sending side ends when nothing waits any more
        self._lost = False  # the socket is not touched any more, and nothing waits for it
        self._has_writer = False  # a writer thread runs, or is being started
        self._writer_waits = False  # the writer waits for the socket, without the lock
        self.corked = False
        """True while messages of any thread are collected."""
        self.count = 0
        """The number of the last message."""

    # Send.

    def send(self, wire: bytes, key: Hashable = None) -> int:
        """Send one message, or queue it; return its number at once."""
        with self._lock:
            if self._direct:
                number = self.count = self.count + 1
                sent = self._offer(wire)
                if sent == len(wire) and not self.transport.unsent:
                    self._consumed = number
                    return number
                start, trouble = self._queue(sent, (wire,), (key,), number)
            elif self._collect((wire,), len(wire)):
                return self.count
            else:
                start, trouble = self._send_behind(wire, (wire,), (key,))
                number = self.count
        self._follow_up(start, trouble)
        return number

    def send_batch(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """Send messages that belong together with one system call.

        :param joined: ``b"".join(wires)``, made once for all peers that get the same batch.
        :returns: the number of the last message if it waits here, zero if it is consumed.
        """
        with self._lock:
            if self._direct:
                self.count += len(wires)
                sent = self._offer(joined)
                if sent == len(joined) and not self.transport.unsent:
                    self._consumed = self.count
                    return 0
                first = self.count - len(wires) + 1
                start, trouble = self._queue(sent, wires, keys, first)
            elif self._collect(wires, len(joined)):
                return self.count
            else:
                start, trouble = self._send_behind(joined, wires, keys)
            waits = self.count if self.count > self._consumed else 0
        self._follow_up(start, trouble)
        return waits

    def send_control(self, wire: bytes, key: Hashable = None) -> None:
        """Send a control frame, which has no number.

        :param key: ``PING`` or ``PONG`` for a frame that replaces a waiting one of its kind and
            overtakes what waits.  Without a key the frame takes its turn.
        """
        with self._lock:
            # Never collected: each ping wants its answer, and collected ones would replace
            # each other.
            start, trouble = self._send_behind(wire, (wire,), (key,), counted=False)
        self._follow_up(start, trouble)

    def finish(self, wire: bytes, *, drop_waiting: bool = False) -> None:
        """Send the last frame, once; later messages are ignored.

        :param drop_waiting: True sends it instead of everything that waits.
        """
        with self._lock:
            if self._finished or self._lost:
                return
            self._finished = True
            if drop_waiting:
                self._drop_waiting()
            start, trouble = self._send_collected()
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
        self._follow_up(start, trouble)

    def half_close(self, *, drop_waiting: bool = False) -> None:
        """End the sending side once nothing waits: now, or later on the writer thread.

        :param drop_waiting: True drops the waiting messages.
        """
        with self._lock:
            if drop_waiting:
                self._drop_waiting()
            start, trouble = self._send_collected()
            self._open, self._finished, self._half_closing = False, True, True
            start = self._call_writer() or start
        self._follow_up(start, trouble)

    # Cork and uncork.

    def cork(self, *, own: bool = False) -> bool:
        """Collect messages from now on, to send them together.

        :param own: True collects only messages of the calling thread.  A message of another
            thread goes out at once, behind the collected ones.
        :returns: False if this outbox never collects.
        """
        if self._bounds.overflow is Overflow.LATEST:
            # This policy replaces what waits, and a peer that reads should miss nothing.
            return False
        with self._lock:
            if own:
                self._corking_threads |= {thread_id()}
            else:
                self.corked = True
            self._direct = False
            return True

    def uncork(self, *, own: bool = False) -> None:
        """Send the collected messages and collect no more.

        :param own: ends the calling thread's ``cork(own=True)``.  Without it, any thread may
            call this method.
        """
        with self._lock:
            if own:
                self._corking_threads -= {thread_id()}
            else:
                self.corked = False
            start, trouble = self._send_collected()
            self._update()
        self._follow_up(start, trouble)

    # Look, and end.

    @property
    def dropped(self) -> int:
        """The number of messages that the overflow policy has dropped."""
        return self._backlog.dropped

    @property
    def waiting_bytes(self) -> int:
        """The number of bytes that wait for the operating system to take them."""
        return self._backlog.size + self._collected_size + self.transport.unsent

    @property
    def finish_waits(self) -> bool:
        """True if the last frame waits, or was given up, behind what the peer has not taken."""
        return self._finished and self._pending()

    def is_consumed(self, number: int) -> bool:
        """Return True if message ``number``, and so each earlier one, is consumed."""
        return number <= self._consumed

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` is consumed; return False on time-out.

        :param number: ``None`` waits for all messages.
        :param timeout: in seconds; ``None`` waits without a limit.
        """
        if self.corked or self._corking_threads:
            self.uncork()
        if self._condition is None:
            return True  # there never was a backlog

        def consumed() -> bool:
            return not self._pending() if number is None else number <= self._consumed

        return wait_for(self._condition, consumed, timeout)

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""
        with self._lock:
            collected = len(self._collected or ())
            return len(self._backlog) + collected, self._backlog.size + self._collected_size

    def end(self) -> None:
        """Release the socket: no thread touches it afterwards.  Shut it down before.

        What waits is forgotten.  The method waits for the writer's last call on the socket,
        which ``shutdown`` has woken: a descriptor must not be closed while a thread waits for
        it.
        """
        with self._lock:
            self._lose("ended")
            if self._condition is not None:
                self._condition.wait_for(lambda: not self._writer_waits)

    # Steps of the above.  The caller holds the lock, and no step blocks or runs other code.

    def _offer(self, data: bytes) -> int:
        """Return how many bytes of ``data`` the socket has taken, or -1 if it is broken."""
        try:
            return self.transport.send(data)
        except OSError:
            return -1

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> _FollowUp:
        """Queue what is left of ``wires``.

        :param sent: the bytes that are out; -1 if the socket is broken.
        :param first: the number of the first message; ``None``: a control frame.
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
                    # The rest of the batch is dropped like this message.
                    self._backlog.dropped += len(wires) - place - 1
                    self._open = False
                    trouble = "overflow"
                    break
        return self._call_writer(), trouble

    def _collect(self, wires: Sequence[bytes], size: int) -> bool:
        """Collect messages of ``size`` bytes in all; return False if they must be sent."""
        if not self._clear or not (self.corked or thread_id() in self._corking_threads):
            return False
        collected = self._collected
        if collected is None:
            collected = self._collected = []
        size += self._collected_size
        count = len(wires)
        bounds = self._bounds
        if len(collected) + count > bounds.cork_messages or size > bounds.cork_bytes:
            return False
        collected += wires
        self._collected_size = size
        self.count += count
        return True

    def _send_behind(
        self,
        joined: bytes,
        wires: Sequence[bytes],
        keys: Sequence[Hashable],
        *,
        counted: bool = True,
    ) -> _FollowUp:
        """Send frames behind all that is collected or waits.

        A peer that reads never overflows because its replies were collected.

        :param counted: False for a control frame.
        """
        start, trouble = self._send_collected()
        first = None
        if counted:
            first = self.count + 1
            self.count += len(wires)
        sent = self._offer(joined) if self._clear else 0
        more, worse = self._queue(sent, wires, keys, first)
        return start or more, trouble or worse

    def _send_collected(self) -> _FollowUp:
        """Offer the socket all collected messages together."""
        collected = self._collected
        if not collected:
            return False, None
        self._collected, self._collected_size = None, 0
        joined = b"".join(collected)
        sent = self._offer(joined)
        if sent == len(joined) and not self.transport.unsent:
            self._consumed = self.count
            return False, None
        # Without keys: an outbox whose policy looks at keys collects nothing.
        keys = (None,) * len(collected)
        return self._queue(sent, collected, keys, self.count - len(collected) + 1)

    def _call_writer(self) -> bool:
        """Let the writer send what waits; return True if a writer must be started."""
        self._update()
        if not self._pending():
            return False
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        if self._has_writer:
            self._condition.notify_all()
            return False
        self._has_writer = True
        return True

    def _update(self) -> None:
        """Update the flags and ``_consumed`` after a change.  Nothing may be collected."""
        pending = self._pending()
        self._clear = self._open and not pending
        self._direct = self._clear and not (self.corked or self._corking_threads)
        if not pending:
            self._consumed = self.count
            if self._half_closing and not self._lost:
                self._half_closing = False
                self.transport.finish()
        elif not self.transport.unsent:  # else the transport has the end of a message
            first = self._backlog.first
            self._consumed = self.count if first is None else first - 1

    def _pending(self) -> bool:
        """Return True if something waits for the socket."""
        return not self._lost and (bool(self._backlog) or bool(self.transport.unsent))

    def _lose(self, trouble: str) -> str:
        """Give the socket up: nothing can be sent any more.  Return ``trouble``."""
        self._lost = True
        self._open = False
        self._collected, self._collected_size = None, 0
        self._backlog.forget()
        self._update()
        if self._condition is not None:
            self._condition.notify_all()
        return trouble

    def _drop_waiting(self) -> None:
        """Drop all messages of which nothing is out."""
        self._backlog.drop_waiting()
        if self._collected:
            self._backlog.dropped += len(self._collected)
            self._collected, self._collected_size = None, 0

    # Without the lock.

    def _follow_up(self, start: bool, trouble: str | None) -> None:
        """Start the writer, and report trouble."""
        if start:
            watch = self.transport.watch
            try:
                if watch is None:
                    self._start_thread(self._write, "writer")
                else:
                    watch.start_writer(self)
            except RuntimeError:
                with self._lock:
                    self._has_writer = False
                    # A connection that has ended meanwhile needs no writer.
                    trouble = None if self._lost else self._lose("no thread")
        if trouble is not None:
            self._on_broken(trouble)

    # The shared thread that finds the socket writable, instead of a writer thread.

    @property
    def write_wait(self) -> float:
        """Seconds without a byte of progress after which the connection counts as stalled."""
        return self._bounds.write_wait

    @property
    def has_writer(self) -> bool:
        """True while something waits for the socket."""
        return self._has_writer

    def write_some(self, *, writable: bool) -> bool:
        """Send what the socket takes now; return False if nothing waits any more.

        :param writable: False after ``write_wait`` seconds in which the socket took nothing.
        """
        trouble = self._send_backlog(writable)
        if trouble is not None:
            self._on_broken(trouble)
        with self._lock:
            self._has_writer = self._pending()
            return self._has_writer

    # The writer thread.

    def _write(self) -> None:
        """Send the backlog, stay for ``linger`` seconds, end."""
        while self._wait_for_work():
            writable = self.transport.wait_writable(self._bounds.write_wait)
            trouble = self._send_backlog(writable)
            if trouble is not None:
                self._on_broken(trouble)

    def _wait_for_work(self) -> bool:
        """Wait until something waits, at most ``linger`` seconds; return False to end."""
        condition = self._condition
        assert condition is not None
        with condition:
            condition.wait_for(lambda: self._pending() or not self._open, self._bounds.linger)
            self._writer_waits = self._has_writer = self._pending()
            return self._writer_waits

    def _send_backlog(self, writable: bool) -> str | None:
        """Send what the socket takes now; return new trouble, if any."""
        condition = self._condition
        assert condition is not None
        with condition:
            self._writer_waits = False
            condition.notify_all()
            if self._lost:
                return None
            transport, unsent = self.transport, self.transport.unsent
            try:
                # Tried even when the wait timed out.  Linux reports a socket as writable only
                # when a third of its buffer is free, and a peer that reads slowly is alive.
                sent = transport.send(self._backlog.chunk())
            except OSError:
                return self._lose("lost")
            self._backlog.taken(sent)
            self._update()
            progress = sent > 0 or transport.unsent < unsent
            return None if progress or writable else self._lose("stalled")
