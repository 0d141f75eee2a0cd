"""One WebSocket connection after its handshake: its reader, its outbox and its end.

A connection knows no hub.  It calls a ``Sink``, on the reader thread.

Layer: net.  Threads: ``run`` is the reader thread; any thread may send and close.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable
from time import monotonic

from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.fairness import fan_outs
from hubthread.concurrency.timers import Timer
from hubthread.limits import MESSAGE_TIME, OUTBOX, SILENCE, STALL
from hubthread.net.interfaces import Flushing, Receiver, Services, Sink
from hubthread.net.keepalive import Keepalive
from hubthread.net.options import ConnectionOptions
from hubthread.net.outbox import PING, PONG, Outbox
from hubthread.net.tick_batch import tick_batches
from hubthread.net.transport import Transport
from hubthread.protocol.batch import Encoding, FrameBatch
from hubthread.protocol.closing import Action, CloseEvent, Closing
from hubthread.protocol.envelope import Enveloped
from hubthread.protocol.frames import Frame, encode_ping, encode_pong
from hubthread.protocol.websocket import (
    PeerClose,
    Ping,
    Pong,
    ProtocolFailure,
    WebSocketEvent,
)

__all__ = ["Connection"]

TRY_AGAIN_LATER = 1013
INTERNAL_ERROR = 1011
POLICY_VIOLATION = 1008
GOING_AWAY = 1001

_shutdown_lock = threading.RLock()
"""Lets one thread of the process shut a transport down at a time.  When thousands of readers
reach the end of their streams at once, they queue here instead of contending for the GIL.  The
lock is held for one system call, which does not block."""


class Connection:
    """The server's end of one WebSocket.

    Threads: ``run`` is the reader thread; any thread may use the rest.

    :param protocol: turns the received bytes into events.
    :param sink: called with the events, on the reader thread.
    :param window_bits: the window of permessage-deflate; ``None``: no compression.
    """

    kind = "websocket"
    """The kind of connection in metrics."""
    outbox_class = Outbox
    """The class of the sending half."""
    waits_for_rest = False
    """True if the socket stays open until a half-closed peer has got all waiting messages."""

    def __init__(
        self,
        transport: Transport,
        protocol: Receiver,
        sink: Sink,
        options: ConnectionOptions,
        services: Services,
        *,
        window_bits: int | None = None,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._sink = sink
        self._options = options
        self._timers = services.timers
        watch = transport.watch
        self._flusher: Flushing = services.flusher if watch is None else watch
        self._window_bits = window_bits
        self._encoding: Encoding = window_bits  # of pushes
        self._enveloped = False
        # When the first part of an unfinished message came; the reader's.
        self._message_began: float | None = None
        start_thread = services.threads.start
        self._traffic = traffic = services.meter.traffic(self.kind)
        self.outbox = self.outbox_class(
            transport, options.bounds, start_thread, self._on_broken, traffic
        )
        self._lock = threading.RLock()  # guards what follows; held for one table look-up
        self._closing = Closing()
        self._timer: Timer | None = None
        self._left = 0  # bytes that waited for the peer when the timer was set
        self._over = False  # the socket is closed, or about to be
        self.ended_by: str | None = None
        """The cause of the end, in one word; ``None`` while the connection is open.

        ``"peer"``: the peer closed; ``"server"``: ``close`` was called; ``"violation"``: the
        peer broke the protocol or a limit; ``"overflow"``: the outbox is full; ``"stalled"``:
        the peer took no byte; ``"silent"``: the keepalive; ``"idle"``: no message; ``"lost"``:
        the stream ended without a Close; ``"no thread"``: the writer could not be started.
        """
        self.limit: str | None = None
        """The limit (``hubthread.limits``) that ended the connection, if a limit did."""

    # Any thread.

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; return its number at once."""
        if tick_batches and (tick_batch := tick_batches.get(thread_id())) is not None:
            tick_batch.add(self.outbox)
        bits = self._window_bits
        return self.outbox.send(frame.wire if bits is None else frame.deflated(bits), key)

    def send_batch(self, batch: FrameBatch) -> int:
        """Send or queue the messages of ``batch``.

        :returns: the number of the last message if it waits here, zero if it is consumed.
        """
        joined, wires = batch.encoded(self._encoding)
        keys = batch.places if self._enveloped else batch.keys
        return self.outbox.send_batch(joined, wires, keys)

    def envelop(self) -> None:
        """Put pushes of shared rooms into envelopes from now on (``protocol.envelope``)."""
        self._encoding = Enveloped(self._window_bits)
        self._enveloped = True

    def send_control(self, frame: Frame) -> None:
        """Send a ping or pong."""
        self.outbox.send_control(frame.wire)

    def close(
        self,
        code: int = 1000,
        reason: str = "",
        *,
        ended_by: str = "server",
        limit: str | None = None,
    ) -> None:
        """Begin the closing handshake, once; return at once.

        What waits is sent first, unless the outbox has overflowed.  The connection is cut after
        ``close_timeout`` seconds in which the peer has taken none of it.

        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """
        self._on(CloseEvent.LOCAL_CLOSE, code, reason, ended_by, limit)

    def cut(self, ended_by: str = "server", limit: str | None = None) -> None:
        """End the connection now, without a Close."""
        self._on(CloseEvent.TIMEOUT, None, "", ended_by, limit)

    @property
    def is_open(self) -> bool:
        """True while neither side has begun to close."""
        return self._closing.may_send

    @property
    def code(self) -> int | None:
        """The close code: the peer's, ours, 1005 (a Close without a code) or 1006 (no Close)."""
        return self._closing.code

    @property
    def reason(self) -> str:
        """The close reason that goes with ``code``."""
        return self._closing.reason

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped instead of sent."""
        return self.outbox.dropped

    @property
    def clean(self) -> bool:
        """True if both sides have sent a Close."""
        return self._closing.clean

    def _on(
        self,
        event: CloseEvent,
        code: int | None,
        reason: str,
        ended_by: str,
        limit: str | None = None,
    ) -> None:
        """Carry out what the closing handshake requires after ``event``."""
        try:
            self._react(event, code, reason, ended_by, limit)
        except ValueError:  # a wrong code
            raise
        except BaseException:
            if not self.is_open:  # an interrupt: no later call would end the connection
                self._transport.shutdown()
            raise

    def _react(
        self,
        event: CloseEvent,
        code: int | None,
        reason: str,
        ended_by: str,
        limit: str | None,
    ) -> None:
        with self._lock:
            action = self._closing.on(event, code, reason)
            if action is None:
                return
            first = self.ended_by is None
            if first:
                self.ended_by, self.limit = ended_by, limit
            overflow = self.ended_by == "overflow"
        if action is Action.DROP:
            if self.ended_by == "server" and self.outbox.finish_waits:
                self._closing.take_back()
            with _shutdown_lock:
                self._transport.shutdown()
            return
        if first:
            self._watch_closing()
        # Repeated when the peer's Close meets ours.  The thread that began our Close may not
        # have queued it yet, and the reader is about to end the sending side.
        self._finish(drop_waiting=overflow)

    def _watch_closing(self) -> None:
        self._left = self.outbox.waiting_bytes
        self._timer = self._timers.set(self._closing_time(), self._closing_overdue)

    def _closing_overdue(self) -> None:
        """Cut the connection, unless the peer has taken some of the waiting bytes."""
        if self.outbox.waiting_bytes >= self._left:
            self.cut()
            return
        with self._lock:
            if not self._over:
                self._watch_closing()

    def _closing_time(self) -> float:
        """Return the seconds for the closing handshake."""
        return self._options.close_timeout

    def _finish(self, *, drop_waiting: bool) -> None:
        """Send our Close, behind the waiting messages or instead of them.  Idempotent."""
        self.outbox.finish(self._closing.close_frame, drop_waiting=drop_waiting)

    def _on_broken(self, trouble: str) -> None:
        """Handle trouble of the outbox, on the thread that sent or on the writer thread."""
        if trouble == "overflow":
            reason = "The client reads too slowly; reconnect"
            self.close(TRY_AGAIN_LATER, reason, ended_by=trouble, limit=OUTBOX)
        elif trouble == "lost":
            # The reader still finds the bytes that came before, perhaps the peer's Close.
            self._transport.shutdown()
        else:
            self.cut(trouble, STALL if trouble == "stalled" else None)

    # The reader thread.

    def run(self, first: bytes = b"") -> None:
        """Read until the connection ends, and close the socket.

        :param first: the bytes that came behind the handshake in the same segment.
        """
        try:
            try:
                self._read(first)
            except BaseException:
                self.close(INTERNAL_ERROR, "Internal server error")
                raise
            finally:
                self.leave()
                self._read_to_end()
        finally:
            self.end()

    def _read(self, data: bytes) -> None:
        """Read and deliver until the last event."""
        receive, recv = self.receive, self._transport.recv
        keepalive = Keepalive(self._options)
        self._transport.set_deadline(keepalive.next_timeout)
        if data and not receive(data):
            return
        while True:
            try:
                data = recv()
            except TimeoutError:
                if not self.keep_alive(keepalive):
                    return
                self._transport.set_deadline(keepalive.next_timeout)
                continue
            except OSError as error:
                self._lost(error)
                return
            if not receive(data):
                return
            if keepalive.elapsed:
                keepalive.reset()
                self._transport.set_deadline(keepalive.next_timeout)

    # The steps of ``run``.  A virtual connection has no thread, and takes them one by one.

    def receive(self, data: bytes) -> bool:
        """Handle received bytes, ``b""`` at the end of the stream; return False at the end."""
        if not data:
            self._lost(None)
            return False
        size = len(data)  # a call inside the next line could change threads
        self._traffic.counts.received_bytes += size
        events = self._protocol.receive(data)
        if events and self._message_began is None:
            return self._deliver(events)
        return self._receive_part(events)

    def _receive_part(self, events: list[WebSocketEvent]) -> bool:
        """Handle events as ``receive`` does, and limit the time of a message in several reads.

        A message that came in one read does not get here, and needs no clock.
        """
        if (
            any(isinstance(event, str | bytes) for event in events)
            or not self._protocol.unfinished
        ):
            self._message_began = None
        elif self._message_began is None:
            self._message_began = monotonic()
        elif self._takes_too_long(monotonic() - self._message_began):
            reason = f"The message took more than {self._options.message_time:g} s"
            failure = CloseEvent.PROTOCOL_FAILURE
            self._on(failure, POLICY_VIOLATION, reason, "violation", MESSAGE_TIME)
            return False
        return not events or self._deliver(events)

    def _takes_too_long(self, seconds: float) -> bool:
        limit = self._options.message_time
        return limit is not None and seconds > limit

    def _lost(self, error: OSError | None) -> None:
        """Note that the stream has ended (``None``) or broken."""
        self._on(CloseEvent.END_OF_FILE, None, "", "lost")

    def keep_alive(self, keepalive: Keepalive) -> bool:
        """Ping the peer after a receive time-out; return False if the peer counts as gone."""
        first = not keepalive.elapsed
        if keepalive.timed_out():
            self._silent()
            return False
        if self.is_open:
            # Not urgent, and many readers may be due at once.
            if first and self._transport.watch is None:
                fan_outs.wait_for_one()
            self._ping()
        return True

    def _silent(self) -> None:
        """End the connection: the peer has been silent for too long."""
        self._on(CloseEvent.TIMEOUT, None, "", "silent", SILENCE)

    def _ping(self) -> None:
        self.outbox.send_control(encode_ping(), PING)

    def leave(self) -> None:
        """Tell the sink about the end, and end the sending side behind the waiting messages."""
        self._sink.on_leaving()
        # Do not wait for it: a peer may read only after it has sent everything.
        self.outbox.half_close()
        self._sink.on_closed()

    def end(self) -> None:
        """Close the socket."""
        self._transport.shutdown()
        self.outbox.end()
        with self._lock:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
        self._transport.close()

    def _deliver(self, events: list[WebSocketEvent]) -> bool:
        """Hand events to the sink, in order; return False after the last event."""
        sink, outbox, closing = self._sink, self.outbox, self._closing
        counts = self._traffic.counts
        sink.enter()
        # Replies to messages that came together leave together.
        corked = len(events) > 1 and self._cork()
        try:
            for event in events:
                if corked and not outbox.corked:  # a slow handler: the flusher has uncorked
                    corked = self._cork()
                kind = type(event)
                if kind is str or kind is bytes:
                    counts.received += 1
                    if closing.may_send:
                        sink.on_message(event)  # type: ignore[arg-type]
                elif isinstance(event, Ping):
                    if closing.may_send:
                        self.outbox.send_control(encode_pong(event.payload), PONG)
                        sink.on_ping(event.payload)
                elif isinstance(event, Pong):
                    sink.on_pong(event.payload)
                elif isinstance(event, PeerClose):
                    self._on(CloseEvent.PEER_CLOSE, event.code, event.reason, "peer")
                    return False
                elif isinstance(event, ProtocolFailure):
                    code, reason = event.code, event.reason
                    failure = CloseEvent.PROTOCOL_FAILURE
                    self._on(failure, code, reason, "violation", event.limit)
                    return False
        finally:
            if corked:
                self._flusher.forget(outbox)
                outbox.uncork()
            sink.leave()
        return True

    def _cork(self) -> bool:
        """Cork the outbox, if the flusher can uncork it while a handler blocks."""
        if not self.outbox.cork():  # before ``watch``, which may uncork at any moment
            return False
        if self._flusher.watch(self.outbox):
            return True
        self.outbox.uncork()
        return False

    def _read_to_end(self) -> None:
        """Read and discard up to the peer's end of file; the writer ends meanwhile.

        A socket that is closed with unread bytes is reset, and the reset can overtake our
        Close.  The timer of the closing handshake ends this loop too.
        """
        waiting = None
        try:
            while waiting is None or self.outbox.waiting_bytes < waiting:
                waiting = self.outbox.waiting_bytes
                if self._read_for(self._options.close_timeout):
                    return
        except OSError:
            pass

    def _read_for(self, timeout: float) -> bool:
        """Read and discard; return True at the end of the stream, False after ``timeout``."""
        deadline = Deadline(timeout)
        with contextlib.suppress(TimeoutError):
            while left := deadline.left():
                self._transport.set_deadline(left)
                if not self._transport.recv():
                    return True
        return False
