"""One raw TCP connection: a WebSocket's, but for its framing, its pings and its last word.

Layer: net.  Threads: as in ``connection``.
"""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic

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

PARTING = 1.0
"""Seconds for a peer to end its half of the stream when it has been sent everything; the
system still delivers what is on its way to one that takes longer."""


class TcpConnection(Connection):
    """The server's end of one raw TCP connection.

    ``close`` sends what waits and ends the stream; ``code`` and ``reason`` stay here, since
    nothing on the wire could carry them.  A peer that ends its stream between two messages
    has closed (``"peer"``); one that does so within a message, or resets, is ``"lost"``.
    """

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
        """Messages dropped by the overflow policy, or too long for their prefix."""
        return super().dropped + self._unfit

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; its number, at once."""
        if tick_batches and (tick_batch := tick_batches.get(thread_id())) is not None:
            tick_batch.add(self.outbox)
        wire = encode_message(frame.body, self._framing)
        self._note_unfit((wire,))
        return self.outbox.send(wire, key)

    def send_batch(self, run: FrameBatch) -> int:
        """Send or queue a run; the number of its last message if that waits, else zero."""
        joined, wires = run.encoded(self._framing)
        self._note_unfit(wires)
        return self.outbox.send_batch(joined, wires, run.keys)

    def send_control(self, frame: Frame) -> None:
        """Send what a ping or pong is here: an empty message."""
        self._ping()

    def _note_unfit(self, wires: list[bytes] | tuple[bytes, ...]) -> None:
        if self._framing in (Framing.LENGTH_1, Framing.LENGTH_2) and (unfit := wires.count(b"")):
            with self._lock:
                self._unfit += unfit

    def _ping(self) -> None:
        if self._framing is not Framing.CHUNKS:
            self.outbox.send_control(encode_message(b"", self._framing), PING)

    def _closing_time(self) -> float:
        # No answer is owed, and many a peer keeps its half open until its user leaves.
        waits = self.outbox.waiting()[0]
        return self._options.close_timeout if waits else min(PARTING, self._options.close_timeout)

    def _finish(self, *, drop_waiting: bool) -> None:
        # A peer that has ended its half may still read: ``leave`` ends ours, after the rooms.
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

    def _read_to_the_end(self) -> None:
        """As for a WebSocket; and a peer that has ended its half may still want the rest."""
        until = monotonic() + self._options.close_timeout
        super()._read_to_the_end()
        self.outbox.wait_consumed(None, max(0.0, until - monotonic()))
