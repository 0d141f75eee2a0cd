"""A connection in memory, between a virtual hub and a virtual client.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

from hubthread.concurrency.clock import Drive
from hubthread.net.steps import Watching
from hubthread.testing.clock import ROUNDING, FakeClock

__all__ = ["MemoryTransport", "Parked"]

BURSTS = 10
"""The number of pieces in which a slow peer takes the bytes of a second."""


class Parked(BaseException):
    """Raised out of a writer that would wait for its peer.

    The only thread cannot wait inside the writer's function.  So the function is left, and is
    called again when the writer is woken, or at the time ``until``.
    """

    def __init__(self, transport: MemoryTransport, until: float) -> None:
        super().__init__()
        self.transport = transport
        self.until = until


class MemoryTransport:
    """The hub's transport (``net.transport.Transport``), and the state of its peer.

    :param rate: bytes per second that the peer takes; ``None`` for all bytes at once.
    """

    unsent = 0
    watch: Watching | None = None

    def __init__(self, clock: FakeClock, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = 1 if rate is None else max(1, int(rate / BURSTS))
        self._tokens = float(self._burst)  # bytes that a slow peer takes now
        self._counted = clock.now()
        self._room_at = 0.0  # the time at which there is room again
        self._patience: float | None = None  # the time until which the writer waits
        self._refused = False  # True after the first refusal
        self.answer = b""
        """The response to the handshake."""
        self.incoming: list[bytes] = []
        """Bytes from the peer."""
        self.outgoing: list[bytes] = []
        """Bytes to the peer."""
        self.ended = False
        """True if the peer sends no more."""
        self.finished = False
        """True if the hub sends no more."""
        self.cut = False
        """True if no bytes go in either direction."""
        self.stalled = False
        """True while the peer takes nothing."""
        self.vanished = False
        """True if bytes are lost on their way."""
        self.reader: Drive | None = None
        self.writer: Drive | None = None
        """Set while the writer waits for room."""
        self.peer: Drive | None = None
        self.heard_at_once = False
        """True if the peer is woken for messages too, and not only for control frames."""

    # The hub's end.

    def handshake(self, timeout: float) -> None:
        """Do nothing: there is no TLS."""

    def set_deadline(self, seconds: float | None) -> None:
        """Do nothing: the deadline is kept by ``Reader``."""

    def recv(self) -> bytes:
        """Return all bytes from the peer; ``b""`` at the end, or if there are none."""
        data = b"".join(self.incoming)
        self.incoming.clear()
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send as many bytes as the peer takes now, and return their number."""
        if self.cut:
            raise BrokenPipeError("the connection has ended")
        if not self.answer:
            self.answer = bytes(data)
            return len(data)
        if self.vanished:
            return len(data)
        took = self._take(len(data))
        if took:
            self.outgoing.append(bytes(data[:took]))
            # The peer reads messages when the test asks for them, and is not woken for each
            # of them, which saves much time.  As long as everything was taken, frames are sent
            # whole, so a control frame is told by its first byte.
            if self.heard_at_once or self._refused or data[0] & 0x08:
                _wake(self.peer)
        self._refused = self._refused or took < len(data)
        return took

    def wait_writable(self, timeout: float) -> bool:
        """Return True if there is room, False if there was none for ``timeout`` seconds.

        :raises Parked: before the ``timeout``.
        """
        now = self._clock.now()
        self.writer = None
        until = now + timeout if self._patience is None else self._patience
        self._patience = None
        if self.cut or self.vanished:
            return True
        if not self.stalled:
            if now >= self._room_at - ROUNDING:
                return True
            if now < until:
                self._patience = until
                raise Parked(self, min(until, self._room_at))
        elif now < until:
            self._patience = until
            raise Parked(self, until)
        return False

    def finish(self) -> None:
        """End the sending side."""
        self.finished = True
        _wake(self.peer)

    def shutdown(self) -> None:
        """Cut both directions."""
        self.cut = True
        for drive in (self.reader, self.writer, self.peer):
            _wake(drive)

    def close(self) -> None:
        """Do nothing: there is no descriptor."""

    # The peer's end.

    def put(self, data: bytes) -> None:
        """Send bytes of the peer."""
        self.incoming.append(data)
        _wake(self.reader)

    def end(self) -> None:
        """End the peer's sending side."""
        self.ended = True
        _wake(self.reader)

    def changed(self) -> None:
        """Wake writer and peer, after the peer has resumed or vanished."""
        _wake(self.writer)
        _wake(self.peer)

    def _take(self, wanted: int) -> int:
        if self.stalled:
            return 0
        if self._rate is None:
            return wanted
        now = self._clock.now()
        self._tokens = min(self._burst, self._tokens + (now - self._counted) * self._rate)
        self._counted = now
        # Add more than wait_writable rounds, so that the room it announced is there.
        took = min(wanted, int(self._tokens + 2 * ROUNDING * self._rate))
        self._tokens = max(0.0, self._tokens - took)
        missing = min(self._burst, wanted - took) - self._tokens
        self._room_at = now + max(0.0, missing) / self._rate
        return took


def _wake(drive: Drive | None) -> None:
    if drive is not None:
        drive.wake()
