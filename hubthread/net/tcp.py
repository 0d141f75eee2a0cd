"""One raw TCP connection: a connection with other framing, pings and closing.

Layer: net.  Threads: as for ``connection``.
"""

from __future__ import annotations

from collections.abc import Hashable

from hubthread.concurrency.calls import thread_id
from hubthread.limits import SILENCE
from hubthread.net.connection import Connection
from hubthread.net.interfaces import Services, Sink
from hubthread.net.options import ConnectionOptions, RawFormat
from hubthread.net.outbox import PING
from hubthread.net.tick_batch import tick_batches
from hubthread.net.transport import Transport
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.closing import CloseEvent
from hubthread.protocol.frames import Frame
from hubthread.protocol.raw_framing import MessageReader, encode_message
from hubthread.types import Framing

__all__ = ["TcpConnection"]

IDLE_CLOSING_TIME = 1.0
"""Seconds for a peer to end its half of the stream when nothing waits for it.  The kernel still
delivers the bytes in transit to a slower peer."""


class TcpConnection(Connection):
    """The server's end of one raw TCP connection.

    ``close`` sends the waiting messages and ends the stream.  ``code`` and ``reason`` are for
    this side only, because nothing on the wire could carry them.  A peer that ends its stream
    between two messages has closed (``"peer"``).  A peer that ends it within a message, or
    resets the connection, is ``"lost"``.
    """

    kind = "tcp"
    waits_for_rest = True

    def __init__(
        self,
        transport: Transport,
        raw_format: RawFormat,
        sink: Sink,
        options: ConnectionOptions,
        services: Services,
    ) -> None:
        framing = self._framing = raw_format.framing
        self._reader = MessageReader(framing, raw_format.max_message, text=raw_format.text)
        super().__init__(transport, self._reader, sink, options, services)
        self._unfit = 0

    @property
    def dropped(self) -> int:
        """The number of messages dropped by the policy, or too long for their length prefix."""
        return super().dropped + self._unfit

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """See ``Connection``."""
        if tick_batches and (tick_batch := tick_batches.get(thread_id())) is not None:
            tick_batch.add(self.outbox)
        wire = encode_message(frame.body, self._framing)
        self._count_unfit((wire,))
        return self.outbox.send(wire, key)

    def send_batch(self, batch: FrameBatch) -> int:
        """See ``Connection``."""
        joined, wires = batch.encoded(self._framing)
        self._count_unfit(wires)
        return self.outbox.send_batch(joined, wires, batch.keys)

    def send_control(self, frame: Frame) -> None:
        """Send the raw peer's equivalent of a ping or pong: an empty message."""
        self._ping()

    def _count_unfit(self, wires: list[bytes] | tuple[bytes, ...]) -> None:
        """Count the messages that are too long for their length prefix."""
        if self._framing in (Framing.LENGTH_1, Framing.LENGTH_2) and (unfit := wires.count(b"")):
            with self._lock:
                self._unfit += unfit

    def _ping(self) -> None:
        if self._framing is not Framing.CHUNKS:
            self.outbox.send_control(encode_message(b"", self._framing), PING)

    def _closing_time(self) -> float:
        # The peer owes no answer, and many peers keep their half open until their user leaves.
        timeout = self._options.close_timeout
        return timeout if self.outbox.waiting()[0] else min(IDLE_CLOSING_TIME, timeout)

    def _finish(self, *, drop_waiting: bool) -> None:
        # A peer that has ended its half may still read.  ``leave`` ends our half, after the
        # sink has left the rooms and sent what is due.
        if self.ended_by != "peer":
            self.outbox.half_close(drop_waiting=drop_waiting)

    def _lost(self, error: OSError | None) -> None:
        if error is not None:
            reason = f"the connection broke: {error.strerror or error}"
        elif self._reader.unfinished:
            reason = "the stream ended in the middle of a message"
        else:
            self._on(CloseEvent.PEER_CLOSE, None, "", "peer")
            return
        self._on(CloseEvent.END_OF_FILE, None, reason, "lost")

    def _silent(self) -> None:
        within = " in the middle of a message" if self._reader.unfinished else ""
        limit = self._options.ping_timeout
        self._on(CloseEvent.TIMEOUT, None, f"silent for {limit:g} s{within}", "silent", SILENCE)

    def _read_to_end(self) -> None:
        """Read as ``Connection`` does; then wait for the rest to reach a half-closed peer."""
        super()._read_to_end()
        waiting = None
        while waiting is None or self.outbox.waiting_bytes < waiting:
            waiting = self.outbox.waiting_bytes
            if self.outbox.wait_consumed(None, self._options.close_timeout):
                return
