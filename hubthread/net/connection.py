"""One WebSocket connection after its handshake: its reader, its writing half, its end.

Layer: net.  Threads: ``run`` is the reader thread; ``send…`` and ``close`` from any.
It knows no hub: it is given a sink, which it calls on the reader thread.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from time import monotonic

from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.fairness import fan_outs
from hubthread.concurrency.timers import Alarm
from hubthread.limits import MESSAGE_TIME, OUTBOX, SILENCE, STALL
from hubthread.net.interfaces import Receiver, Services, Sink
from hubthread.net.keepalive import Keepalive
from hubthread.net.options import ConnectionOptions
from hubthread.net.outbox import PING, PONG, Outbox
from hubthread.net.tick_batch import tick_batches
from hubthread.net.transport import Transport
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.closing import Action, CloseEvent, Closing
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

_ENDS = threading.Lock()
"""Taken to cut a connection, which neither blocks nor runs a callback or a log handler: of
thousands of readers that find the end of their streams at once all but one then wait here, and
not for the interpreter lock, which each of its waiters looks at every 5 ms.  6,000 clients of a
process that was killed are gone after 1.2 s and not 11 (CPython 3.11, 2 cores)."""


class Connection:
    """The server's end of one WebSocket.

    ``ended_by`` says why it ended, in one word: ``"peer"`` (it closed), ``"server"``
    (``close`` was called), ``"violation"`` (of the protocol or a limit), ``"overflow"``
    (outbox full), ``"stalled"`` (took no byte), ``"silent"`` (keepalive), ``"idle"``
    (no message), ``"lost"`` (the stream ended without a Close), ``"no thread"`` (for its
    writer); ``None`` while open.
    ``limit`` names the limit that has struck (``hubthread.limits``), if one did.

    Threads: ``run`` is the reader's; the rest is for any thread.
    """

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
        self._flusher = services.flusher
        self._window_bits = window_bits
        # The reader's: when the message began whose end has not come; None: a read had it all.
        self._message_began: float | None = None
        start_thread = services.threads.start
        self.outbox = Outbox(transport, options.bounds, start_thread, self._on_broken)
        self._lock = threading.Lock()  # guards what follows; for a table look-up at a time
        self._closing = Closing()
        self._alarm: Alarm | None = None
        self.ended_by: str | None = None
        self.limit: str | None = None

    # Any thread.

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; its number, at once."""
        if tick_batches and (tick_batch := tick_batches.get(thread_id())) is not None:
            tick_batch.add(self.outbox)
        bits = self._window_bits
        return self.outbox.send(frame.wire if bits is None else frame.deflated(bits), key)

    def send_batch(self, run: FrameBatch) -> int:
        """Send or queue a run; the number of its last message if that waits, else zero."""
        joined, wires = run.encoded(self._window_bits)
        return self.outbox.send_batch(joined, wires, run.keys)

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
        """Begin the closing handshake, once; returns at once.

        What waits is sent first, except for the overflowing outbox that is the reason.
        The connection is cut after ``close_timeout`` seconds.

        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """
        self._on(CloseEvent.LOCAL_CLOSE, code, reason, ended_by, limit)

    def cut(self, ended_by: str = "server", limit: str | None = None) -> None:
        """End the connection now, without a word."""
        self._on(CloseEvent.TIMEOUT, None, "", ended_by, limit)

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self._closing.may_send

    @property
    def code(self) -> int | None:
        """The close code: the peer's, ours, 1005 (it gave none) or 1006 (no handshake)."""
        return self._closing.code

    @property
    def reason(self) -> str:
        """The close reason that goes with ``code``."""
        return self._closing.reason

    @property
    def dropped(self) -> int:
        """How many messages were dropped instead of sent."""
        return self.outbox.dropped

    @property
    def clean(self) -> bool:
        """Whether both sides have said Close."""
        return self._closing.clean

    def _on(
        self,
        event: CloseEvent,
        code: int | None,
        reason: str,
        ended_by: str,
        limit: str | None = None,
    ) -> None:
        with self._lock:
            actions = self._closing.on(event, code, reason)
            if not actions:
                return
            first = self.ended_by is None
            if first:
                self.ended_by, self.limit = ended_by, limit
            overflow = self.ended_by == "overflow"
        if Action.DROP_TRANSPORT in actions:
            with _ENDS:
                self._transport.shutdown()
            return
        if first:
            self._alarm = self._timers.set(self._closing_time(), self.cut)
        # Also when the peer's Close meets ours: whoever decided on ours may not have come
        # as far as this, and the reader ends the sending side next.
        self._finish(drop_waiting=overflow)

    def _closing_time(self) -> float:
        """Seconds for the closing handshake."""
        return self._options.close_timeout

    def _finish(self, *, drop_waiting: bool) -> None:
        """Let the last word follow what waits, or replace it."""
        self.outbox.finish(self._closing.close_frame, drop_waiting=drop_waiting)

    def _on_broken(self, trouble: str) -> None:
        """From the outbox, on the thread that sent or on the writer."""
        if trouble == "overflow":
            reason = "reads too slowly; come back"
            self.close(TRY_AGAIN_LATER, reason, ended_by=trouble, limit=OUTBOX)
        elif trouble == "lost":
            # The reader still finds what came before, which may be the peer's Close.
            self._transport.shutdown()
        else:
            self.cut(trouble, STALL if trouble == "stalled" else None)

    # The reader.

    def run(self, first: bytes = b"") -> None:
        """Read until the end, whatever it is, and give the socket back.

        :param first: what came behind the handshake in the same segment.
        """
        try:
            try:
                self._read(first)
            except BaseException:
                self.close(INTERNAL_ERROR, "the server failed")
                raise
            finally:
                self.leave()
                self._read_to_the_end()
        finally:
            self.end()

    def _read(self, data: bytes) -> None:
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

    # The steps of ``run``, for a connection that has no thread to block in it.

    def receive(self, data: bytes) -> bool:
        """Take what came, ``b""`` for the end of the stream; false: that was the last."""
        if not data:
            self._lost(None)
            return False
        events = self._protocol.receive(data)
        if events and self._message_began is None:
            return self._deliver(events)
        return self._receive_part(events)

    def _receive_part(self, events: list[WebSocketEvent]) -> bool:
        """As ``receive``: a message has come in parts, or has not come to its end.

        A message that is whole in one read costs no look at the clock.
        """
        if (
            any(isinstance(event, str | bytes) for event in events)
            or not self._protocol.unfinished
        ):
            self._message_began = None
        elif self._message_began is None:
            self._message_began = monotonic()
        elif self._takes_too_long(monotonic() - self._message_began):
            reason = f"more than {self._options.message_time:g} s for a message"
            failure = CloseEvent.PROTOCOL_FAILURE
            self._on(failure, POLICY_VIOLATION, reason, "violation", MESSAGE_TIME)
            return False
        return not events or self._deliver(events)

    def _takes_too_long(self, seconds: float) -> bool:
        limit = self._options.message_time
        return limit is not None and seconds > limit

    def _lost(self, error: OSError | None) -> None:
        """The stream has ended (``None``), or broken."""
        self._on(CloseEvent.END_OF_FILE, None, "", "lost")

    def keep_alive(self, keepalive: Keepalive) -> bool:
        """Nothing came for as long as ``silence`` has patience; false: the peer is gone."""
        first = not keepalive.elapsed
        if keepalive.timed_out():
            self._silent()
            return False
        if self.is_open:
            if first:  # there is no hurry, and others may have to ping, too
                fan_outs.let_through()
            self._ping()
        return True

    def _silent(self) -> None:
        self._on(CloseEvent.TIMEOUT, None, "", "silent", SILENCE)

    def _ping(self) -> None:
        self.outbox.send_control(encode_ping(), PING)

    def leave(self) -> None:
        """Tell the sink that it is over, and send no more than what waits."""
        self._sink.on_leaving()
        # Not waited for: a peer may read only when it has sent all that it wants.
        self.outbox.half_close()
        self._sink.on_closed()

    def end(self) -> None:
        """Give the socket back."""
        self._transport.shutdown()
        self.outbox.end()
        if self._alarm is not None:
            self._alarm.cancel()
        self._transport.close()

    def _deliver(self, events: list[WebSocketEvent]) -> bool:
        """Hand events to the sink, in its order; false after the last one."""
        sink = self._sink
        outbox = self.outbox
        sink.enter()
        # Replies to messages that came together leave together.
        held = len(events) > 1 and self._hold()
        try:
            for event in events:
                if held and not outbox.holding:  # released: a handler took long, or waited
                    held = self._hold()
                kind = type(event)
                if kind is str or kind is bytes:
                    if self._closing.may_send:
                        sink.on_message(event)  # type: ignore[arg-type]
                elif isinstance(event, Ping):
                    if self._closing.may_send:
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
            if held:
                self._flusher.forget(outbox)
                outbox.release()
            sink.leave()
        return True

    def _hold(self) -> bool:
        """Hold replies back, if there is somebody to release them when a handler blocks."""
        if not self.outbox.hold():  # first: what is watched may be released at any moment
            return False
        if self._flusher.watch(self.outbox):
            return True
        self.outbox.release()
        return False

    def _read_to_the_end(self) -> None:
        """Take what the peer still sends, up to its end of file; the writer ends meanwhile.

        A socket closed with unread bytes is reset, and the reset can overtake our Close.
        The alarm of the closing handshake ends this too.
        """
        until = monotonic() + self._options.close_timeout
        try:
            while (left := until - monotonic()) > 0:
                self._transport.set_deadline(left)
                if not self._transport.recv():
                    return
        except OSError:  # TimeoutError included
            pass
