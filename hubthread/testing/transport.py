"""A connection's two ends in memory: what one sends the other finds, at virtual times.

Layer: testing.  Threads: the one that plays all.
"""

from __future__ import annotations

from hubthread.concurrency.clock import Drive
from hubthread.testing.clock import ROUNDING, FakeClock

__all__ = ["MemoryTransport", "Parked"]

BURSTS = 10
"""A slow peer takes what it can in a second in so many pieces."""


class Parked(BaseException):
    """A writer that would wait for its peer: to be called again when woken, or at ``until``.

    It leaves the writer's function from a place where that has to be entered anew, since
    the one thread that plays all may not wait there.
    """

    def __init__(self, transport: MemoryTransport, until: float) -> None:
        super().__init__()
        self.transport = transport
        self.until = until


class MemoryTransport:
    """A server's end of a connection (``net.transport.Transport``), and what is at the other.

    :param rate: bytes a second that the peer takes; ``None``: all, at once.
    """

    unsent = 0

    def __init__(self, clock: FakeClock, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = 1 if rate is None else max(1, int(rate / BURSTS))
        self._tokens = float(self._burst)  # bytes that a slow peer takes at once
        self._counted = clock.now()
        self._room_at = 0.0  # when there is room again
        self._patience: float | None = None  # until when the writer waits
        self._refused = False  # once at least
        self.answer = b""
        """What the handshake was answered with."""
        self.incoming: list[bytes] = []
        """From the peer."""
        self.outgoing: list[bytes] = []
        """To the peer."""
        self.ended = False
        """The peer sends no more."""
        self.finished = False
        """Nor does the server."""
        self.cut = False
        """Nothing goes in either direction."""
        self.stalled = False
        """The peer takes nothing, for now."""
        self.vanished = False
        """What is sent gets lost on its way."""
        self.reader: Drive | None = None
        self.writer: Drive | None = None
        """There while it waits for room."""
        self.peer: Drive | None = None
        self.heard_at_once = False
        """Whether the peer is woken for messages too, and not only for control frames."""

    # The server's end.

    def handshake(self, timeout: float) -> None:
        """Nothing to agree on."""

    def set_deadline(self, seconds: float | None) -> None:
        """The clock keeps it: see ``Reader``."""

    def recv(self) -> bytes:
        """What has come; ``b""`` at the end, or where nothing has."""
        data = b"".join(self.incoming)
        self.incoming.clear()
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Take what the peer takes now."""
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
            # As long as everything was taken, frames are sent whole, and control frames by
            # themselves: a peer that reads its messages when it is asked for them need not
            # be woken for each (a third of the time of a room that pushes to ten).
            if self.heard_at_once or self._refused or data[0] & 0x08:
                _wake(self.peer)
        self._refused = self._refused or took < len(data)
        return took

    def wait_writable(self, timeout: float) -> bool:
        """Whether it is; false when ``timeout`` seconds have passed since it was.

        :raises Parked: before that.
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
        """Say that nothing more is sent."""
        self.finished = True
        _wake(self.peer)

    def shutdown(self) -> None:
        """Cut both directions."""
        self.cut = True
        for drive in (self.reader, self.writer, self.peer):
            _wake(drive)

    def close(self) -> None:
        """There is no descriptor."""

    # The peer's.

    def put(self, data: bytes) -> None:
        """Bytes from the peer."""
        self.incoming.append(data)
        _wake(self.reader)

    def end(self) -> None:
        """The peer sends no more."""
        self.ended = True
        _wake(self.reader)

    def changed(self) -> None:
        """The peer reads again, or nobody does any more."""
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
        # More than wait_writable may round: who was told that there is room must find some.
        took = min(wanted, int(self._tokens + 2 * ROUNDING * self._rate))
        self._tokens = max(0.0, self._tokens - took)
        missing = min(self._burst, wanted - took) - self._tokens
        self._room_at = now + max(0.0, missing) / self._rate
        return took


def _wake(drive: Drive | None) -> None:
    if drive is not None:
        drive.wake()
