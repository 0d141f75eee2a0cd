"""The sending half of a connection, and its writer thread.

Layer: net.  Threads: any thread sends; the writer thread exists only while a backlog waits, and
shortly after.  Only non-blocking calls happen under the lock; the writer waits for the socket
without it.

A sender offers its bytes to the socket itself, without blocking, so no thread is woken for a
peer that keeps up.  The bytes that the socket does not take become the backlog.  From then on
every message goes behind the backlog, in order, until the writer thread has sent the backlog.  If
a client reads too slowly, the backlog becomes full: ``backlog.py`` decides what happens then.

A *corked* outbox collects messages, within bounds, and offers them to the socket together when
it is uncorked.  Nothing is collected while there is a backlog.

A call that interrupts another call on its own thread is sent behind it (see ``sending``).  An
exception that strikes inside a change ends the connection, because half a frame may be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.calls import thread_id
from hubthread.net.backlog import PING, PONG
from hubthread.net.options import OutboxBounds
from hubthread.net.sending import FollowUp, Sending, is_broken
from hubthread.net.traffic import SharedTraffic, Traffic
from hubthread.net.transport import SendingHalf
from hubthread.types import Overflow

__all__ = ["PING", "PONG", "Outbox"]


class Outbox(Sending):
    """Sends what the socket takes at once, and the rest in order.

    Each message has a number, counted from 1.  A message is *consumed* once nothing of it waits
    here: the operating system has all its bytes, or the overflow policy has dropped it, or the
    connection has ended.

    Threads: any thread may call every method, except ``end`` (the reader).

    :param start_thread: called with ``(target, name)`` to start the writer.
    :param on_broken: called without the lock, at most once with ``"overflow"`` (the outbox is
        full and the policy says close; ``finish`` may follow), and then at most once with
        ``"stalled"`` (the peer took no byte for ``write_wait`` seconds), ``"no thread"`` (the
        writer could not be started) or ``"lost"`` (the socket failed).
    :param traffic: counts what is sent.
    """

    __slots__ = (
        "_bell", "_bounds", "_clear", "_collected", "_collected_keys", "_collected_size",
        "_corking_threads", "_finished", "_half_closing", "_lost", "_on_broken", "_open",
        "_start_thread", "_traffic", "_writer_waits", "corked", "has_writer", "transport",
        "write_wait",
    )  # fmt: skip

    def __init__(
        self,
        transport: SendingHalf,
        bounds: OutboxBounds,
        start_thread: Callable[[Callable[[], None], str], None],
        on_broken: Callable[[str], None],
        traffic: Traffic | None = None,
    ) -> None:
        super().__init__(bounds)
        self._traffic = traffic or SharedTraffic()
        self.transport = transport
        """The socket.  A test may put a recorder in its place."""
        self._bounds = bounds
        self._start_thread = start_thread
        self._on_broken = on_broken
        # The lock guards what follows, too.
        self._bell: Bell | None = None  # the writer's; made with the first backlog
        self._open = True  # more messages are accepted
        self._clear = True  # the same, and the socket has taken all bytes that it was offered
        self._corking_threads: frozenset[int] = frozenset()  # corked for these threads only
        self._collected: list[bytes] | None = None  # while corked
        self._collected_keys: list[Hashable] | None = None
        self._collected_size = 0
        self._finished = False  # the last frame is sent or waits
        self._half_closing = False  # the sending side ends when nothing waits any more
        self._lost = False  # the socket is not touched any more, and nothing waits for it
        self._writer_waits = False  # the writer waits for the socket, without the lock
        self.corked = False
        """True while messages of any thread are collected."""
        self.has_writer = False
        """True while a writer thread runs, or a shared thread sends what waits."""
        self.write_wait = bounds.write_wait
        """Seconds without a byte of progress after which the connection counts as stalled."""

    # Send.

    def send(self, wire: bytes, key: Hashable = None) -> int:
        """Send one message, or queue it; return its number at once."""
        try:
            with self._lock:
                direct, self._direct = self._direct, None
                if direct:
                    number = self.count = self.count + 1
                    transport, counts = self.transport, self._traffic.counts
                    counts.sent += 1
                    sent = transport.send(wire)
                    counts.sent_bytes += sent
                    if sent == len(wire) and not transport.unsent:
                        self._consumed = number
                        # No call and no branch, so that no change is put aside meanwhile.
                        direct = self._direct = (None, True)[not self._postponed]
                        if direct:
                            return number
                    follow_up = self._queue(sent, (wire,), (key,), number)
                elif direct is None:
                    return self._postpone(partial(self._add, wire, (wire,), (key,)), 1)
                elif self._collect((wire,), (key,), len(wire)):
                    number = self.count
                    direct = self._direct = (None, False)[not self._postponed]
                    if direct is False:
                        return number
                    follow_up = None
                else:
                    follow_up = self._add(wire, (wire,), (key,))
                    number = self.count
                follow_up = self._leave(follow_up)
            if follow_up is not None:
                self._follow_up(*follow_up)
        except BaseException as error:
            self._rescue()
            if not is_broken(error):
                raise
            return self.count
        return number

    def send_batch(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """Send messages that belong together with one system call.

        :param joined: ``b"".join(wires)``, made once for all peers that get the same batch.
        :returns: the number of the last message if it waits here, zero if it is consumed.
        """
        try:
            with self._lock:
                direct, self._direct = self._direct, None
                if direct:
                    messages = len(wires)
                    number = self.count = self.count + messages
                    transport, counts = self.transport, self._traffic.counts
                    counts.sent += messages
                    sent = transport.send(joined)
                    counts.sent_bytes += sent
                    if sent == len(joined) and not transport.unsent:
                        self._consumed = number
                        direct = self._direct = (None, True)[not self._postponed]
                        if direct:
                            return 0
                    follow_up = self._queue(sent, wires, keys, number - len(wires) + 1)
                elif direct is None:
                    return self._postpone(partial(self._add, joined, wires, keys), len(wires))
                else:
                    follow_up = self._add(joined, wires, keys)
                    number = self.count
                follow_up = self._leave(follow_up)
                waits = number if number > self._consumed else 0
            if follow_up is not None:
                self._follow_up(*follow_up)
        except BaseException as error:
            self._rescue()
            if not is_broken(error):
                raise
            return 0
        return waits

    def send_control(self, wire: bytes, key: Hashable = None) -> None:
        """Send a control frame, which has no number.

        :param key: ``PING`` or ``PONG`` for a frame that replaces a waiting frame of its kind and
            overtakes waiting messages.  Without a key the frame goes behind them.
        """
        self._change(lambda: self._add(wire, (wire,), (key,), counted=False))

    def finish(self, wire: bytes, *, drop_waiting: bool = False) -> None:
        """Send the last frame, once; later messages are ignored.

        :param drop_waiting: True drops the waiting messages first.
        """
        self._change(lambda: self._end_sending(wire, drop_waiting))

    def half_close(self, *, drop_waiting: bool = False) -> None:
        """End the sending side once nothing waits: now, or later on the writer thread.

        :param drop_waiting: True drops the waiting messages.
        """
        self._change(lambda: self._end_sending(None, drop_waiting))

    # Cork and uncork.

    def cork(self, *, own: bool = False) -> bool:
        """Collect messages from now on, to send them together.

        :param own: True collects only messages of the calling thread.  A message of another
            thread goes out at once, behind the collected ones.
        :returns: False if this outbox never collects.
        """
        if self._bounds.overflow is Overflow.LATEST:
            # This policy replaces waiting messages, and a peer that keeps up must miss none.
            return False
        with self._lock:
            if own:
                self._corking_threads |= {thread_id()}
            else:
                self.corked = True
            if self._direct:
                self._direct = False
            else:  # a change that this call interrupts must look at the flags again
                self._change(lambda: None)
        return True

    def uncork(self, *, own: bool = False) -> None:
        """Send the collected messages and collect no more.

        :param own: ends the calling thread's ``cork(own=True)``.  Without it, any thread may
            call this method.
        """
        self._change(self._uncork_own if own else self._uncork)

    # Look, and end.

    @property
    def dropped(self) -> int:
        """The number of messages that the overflow policy has dropped."""
        return self._backlog.dropped

    @property
    def lags(self) -> bool:
        """True if bytes wait for the socket.  Collected messages do not count."""
        return bool(self._backlog) or bool(self.transport.unsent)

    @property
    def waiting_bytes(self) -> int:
        """The number of bytes that wait for the operating system to take them."""
        return self._backlog.size + self._collected_size + self.transport.unsent

    @property
    def finish_waits(self) -> bool:
        """True if the last frame waits, or was given up, behind bytes that were not taken."""
        return self._finished and self._pending()

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """See ``Sending``; collected messages are sent first."""
        if self.corked or self._corking_threads:
            self.uncork()
        return super().wait_consumed(number, timeout)

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""
        with self._lock:
            collected = len(self._collected or ())
            return len(self._backlog) + collected, self._backlog.size + self._collected_size

    def end(self) -> None:
        """Release the socket, which is shut down already.  No thread touches it afterwards.

        Waiting messages are forgotten.  The method waits for the writer's last call on the socket,
        which the shutdown has woken: a descriptor must not be closed while a thread waits for it.
        """
        self._change(lambda: self._lose(None))
        with self._lock:
            if self._condition is not None:
                self._condition.wait_for(lambda: not self._writer_waits)

    # Parts of changes: the caller holds the lock.

    def _offer(self, data: bytes | memoryview) -> int:
        """Return the number of bytes that the socket has taken, or -1 if it is broken."""
        try:
            sent = self.transport.send(data)
        except OSError as error:
            if not is_broken(error):
                raise
            return -1
        self._traffic.counts.sent_bytes += sent
        return sent

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> FollowUp:
        """Queue the bytes of ``wires`` that the socket has not taken.

        :param sent: the number of bytes that the socket has taken; -1 if it is broken.
        :param first: the number of the first message; ``None``: a control frame.
        """
        if sent < 0:
            return self._lose("lost")
        trouble = None
        if self._open:
            backlog = self._backlog
            dropped = backlog.dropped
            if not backlog.add(sent, wires, keys, first):
                self._open = False
                trouble = "overflow"
            self._traffic.counts.dropped += backlog.dropped - dropped
        return self._call_writer(), trouble

    def _collect(self, wires: Sequence[bytes], keys: Sequence[Hashable], size: int) -> bool:
        """Collect messages of ``size`` bytes in all; return False if they must be sent."""
        if not self._clear or not (self.corked or thread_id() in self._corking_threads):
            return False
        collected = self._collected
        if collected is None:
            self._collected_keys = []
            collected = self._collected = []
        size += self._collected_size
        count = len(wires)
        bounds = self._bounds
        if len(collected) + count > bounds.cork_messages or size > bounds.cork_bytes:
            return False
        collected += wires
        assert self._collected_keys is not None
        self._collected_keys += keys
        self._collected_size = size
        self.count += count
        self._traffic.counts.sent += count
        return True

    def _add(
        self,
        joined: bytes,
        wires: Sequence[bytes],
        keys: Sequence[Hashable],
        *,
        counted: bool = True,
    ) -> FollowUp:
        """Collect messages, or send frames behind all collected and waiting messages.

        Collected messages go to the socket first, so they never make the backlog of a peer that
        keeps up overflow.

        :param counted: False for a control frame, which is never collected: each ping wants its
            answer, and collected pongs would replace each other.
        """
        last, first = self.count, None
        if counted:
            if self._collect(wires, keys, len(joined)):
                return None
            first = last + 1
            messages = len(wires)
            self.count += messages
            self._traffic.counts.sent += messages
        start, trouble = self._send_collected(last) or (False, None)
        sent = self._offer(joined) if self._clear else 0
        more, worse = self._queue(sent, wires, keys, first) or (False, None)
        return start or more, trouble or worse

    def _end_sending(self, wire: bytes | None, drop_waiting: bool) -> FollowUp:
        """Send the last frame, once.

        :param wire: the frame; ``None`` ends the sending side behind the waiting messages.
        """
        if wire is not None and (self._finished or self._lost):
            return None
        self._finished = True
        if drop_waiting:
            self._drop_waiting()
        start, trouble = self._send_collected(self.count) or (False, None)
        sent = self._offer(wire) if wire is not None and self._clear else 0
        self._open = False
        if sent < 0:
            return self._lose("lost")
        if wire is None:
            self._half_closing = True
        elif trouble is None and not sent:
            self._backlog.add_last(wire)
        elif trouble is None and sent < len(wire):
            self._backlog.begin(None, wire[sent:])
        return self._call_writer() or start, trouble

    def _uncork(self) -> FollowUp:
        self.corked = False
        return self._send_collected(self.count)

    def _uncork_own(self) -> FollowUp:
        self._corking_threads -= {thread_id()}
        return self._send_collected(self.count)

    def _send_collected(self, last: int) -> FollowUp:
        """Offer the socket all collected messages together.

        :param last: the number of the last collected message.
        """
        collected = self._collected
        if not collected:
            return None
        keys = self._collected_keys or ()
        self._collected, self._collected_keys, self._collected_size = None, None, 0
        joined = b"".join(collected)
        sent = self._offer(joined)
        if sent == len(joined) and not self.transport.unsent:
            self._consumed = last
            return None
        return self._queue(sent, collected, keys, last - len(collected) + 1)

    def _call_writer(self) -> bool:
        """Have the writer send the backlog; return True if a writer must be started."""
        if not self._pending():
            return False
        self._clear = False
        if self._bell is None:
            self._bell = Bell()
        if self.has_writer:
            self._bell.ring()
            return False
        self.has_writer = True
        self._traffic.lagging[self] = None
        return True

    def _update(self) -> bool:
        """See ``Sending``."""
        pending = not self._lost and (bool(self._backlog) or bool(self.transport.unsent))
        self._clear = self._open and not pending
        if not pending:
            self._consumed = self.count - len(self._collected or ())
            if self._half_closing and not self._lost:
                self._half_closing = False
                self.transport.finish()
        elif not self.transport.unsent:  # otherwise the transport has the end of a message
            first = self._backlog.first
            self._consumed = self.count if first is None else first - 1
        return self._clear and not (self.corked or self._corking_threads)

    def _pending(self) -> bool:
        """See ``Sending``."""
        return not self._lost and (bool(self._backlog) or bool(self.transport.unsent))

    def _lose(self, trouble: str | None) -> FollowUp:
        """Give up the socket, once: nothing can be sent any more."""
        if self._lost:
            return None
        self._lost = True
        self._set_writer(False)
        self._open = self._clear = False
        self._collected, self._collected_keys, self._collected_size = None, None, 0
        self._backlog.forget()
        self._update()
        if self._condition is not None:
            self._condition.notify_all()
        if self._bell is not None:
            self._bell.ring()
        return False, trouble

    def _recover(self) -> FollowUp:
        """See ``Sending``."""
        return self._lose("lost")

    def _drop_waiting(self) -> None:
        """Drop all messages of which the socket has taken no byte."""
        backlog = self._backlog
        dropped = backlog.dropped
        backlog.drop_waiting()
        if self._collected:
            backlog.dropped += len(self._collected)
            self._collected, self._collected_keys, self._collected_size = None, None, 0
        self._traffic.counts.dropped += backlog.dropped - dropped

    def _set_writer(self, has_writer: bool) -> None:
        """Note that a writer sends the backlog, or that none does."""
        self.has_writer = has_writer
        if not has_writer:
            self._traffic.lagging.pop(self, None)

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
                self._change(lambda: self._lose("no thread"))
                return
        if trouble is not None:
            self._on_broken(trouble)

    # The shared thread that finds the socket writable, instead of a writer thread.

    def write_some(self, *, writable: bool) -> bool:
        """Send as much as the socket takes now; return False if nothing waits any more.

        :param writable: False after ``write_wait`` seconds in which the socket took nothing.
        """

        def write() -> FollowUp:
            follow_up = self._send_backlog(writable)
            self._set_writer(self._pending())
            return follow_up

        self._change(write)
        return self.has_writer

    # The writer thread.

    def _write(self) -> None:
        """Send the backlog, wait ``linger`` seconds for more, and end."""
        while self._wait_for_work():
            writable = self.transport.wait_writable(self.write_wait)
            self._change(partial(self._send_backlog, writable))

    def _wait_for_work(self) -> bool:
        """Wait at most ``linger`` seconds for a new backlog; return False to end the thread."""
        assert self._bell is not None
        while self._open and not self._pending() and self._bell.wait(self._bounds.linger):
            pass

        def begin() -> None:
            self._writer_waits = self._pending()
            self._set_writer(self._writer_waits)

        self._change(begin)
        return self._writer_waits

    def _send_backlog(self, writable: bool) -> FollowUp:
        """Send as much of the backlog as the socket takes now."""
        self._writer_waits = False
        self._get_condition().notify_all()
        if self._lost:
            return None
        transport, unsent = self.transport, self.transport.unsent
        try:
            # Try even after a time-out: Linux reports a socket as writable only when a third of
            # its buffer is free, and a peer that reads slowly is alive.
            sent = transport.send(self._backlog.chunk())
            self._traffic.counts.sent_bytes += sent
        except OSError:
            return self._lose("lost")
        self._backlog.taken(sent)
        self._update()
        progress = sent > 0 or transport.unsent < unsent
        return None if progress or writable else self._lose("stalled")
