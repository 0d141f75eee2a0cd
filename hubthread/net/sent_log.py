"""The latest messages that a socket has taken, for a peer that comes back without them.

Messages are numbered as the peer counts them: in the order in which they go out.  A message that
the overflow policy drops has no number.  A peer that comes back tells the number of the last
message that it has got.

Layer: net.  Threads: the caller holds the lock of the outbox that the log belongs to.
"""

from __future__ import annotations

from typing import NamedTuple

from hubthread.net.steps import Watching
from hubthread.net.transport import SendingHalf
from hubthread.protocol.frames import whole_messages

__all__ = ["RecordingTransport", "Rewound", "SentLog"]

OVERHEAD = 128
"""Bytes that one entry takes in addition to its frames.  They count, too: otherwise many short
messages would take more memory than the bound allows."""


class Rewound(NamedTuple):
    """The messages that a peer has not got."""

    frames: list[bytes]
    lost: int
    """The number of messages that are gone.  Their place is before ``frames``, or among the
    waiting messages."""
    number: int
    """The number of the greeting that goes out next, before ``frames``."""


class SentLog:
    """The numbers of the messages of one peer, and the bytes of the latest of them.

    The hub's greeting is a message, too.  So a peer that tells the number of a greeting has got
    the greeting, and knows of the losses that the greeting tells.

    :param bound: the most bytes to keep.
    """

    __slots__ = (
        "_base",
        "_bound",
        "_greeting",
        "_missing",
        "_out",
        "_partial",
        "_pieces",
        "_size",
        "_told",
        "last",
    )

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._base = 0  # the number of the last message that is not kept
        self._pieces: list[tuple[bytes, int]] = []  # whole frames, with the number of messages
        self._size = 0
        self._partial: bytearray | None = None  # the beginning of a frame
        self._out: int | None = None  # the last message that the socket has taken, if not all
        self._greeting = 1
        self._missing = 0  # messages that the peer had not got at the last rewind
        self._told = 0  # other losses that the last greeting told
        self.last = 0
        """The number of the last message."""

    def add(self, data: bytes | memoryview, sent: int) -> None:
        """Note that the socket has taken the first ``sent`` bytes of ``data``."""
        if self._partial is None and sent == len(data) and isinstance(data, bytes):
            end, messages = _measure(data)
            if end == sent:
                self._append(data, messages)
                return
        if self._partial is None:
            self._partial = bytearray()
        self._partial += data[:sent]
        end, messages = _measure(self._partial)
        if end:
            self._append(bytes(self._partial[:end]), messages)
            del self._partial[:end]
        if not self._partial:
            self._partial = None

    def add_rest(self, rest: bytes | memoryview) -> bytes:
        """Number the frames that the socket has not taken, or only in part.

        A frame that the socket has taken in part counts as sent.

        :param rest: the bytes that the socket has not taken.
        :returns: the missing bytes of the frame that the socket has taken in part.
        """
        begun, self._partial = bytes(self._partial or b""), None
        frames = begun + rest
        self._out = self.last
        missing = b""
        if begun:
            _, end, is_message = next(whole_messages(frames))
            self._out += is_message
            missing = frames[len(begun) : end]
        self._append(frames, _measure(frames)[1])
        return missing

    def rewind(self, got: int | None) -> Rewound:
        """Begin anew after message ``got``: the later messages go out again.

        :param got: the last message that the peer has got; ``None`` if the peer does not count.
            Then messages that the socket has taken do not go out again.
        """
        if got is None:
            got = self.last if self._out is None else self._out
        # Counted anew each time: the peer may tell a higher number than it did before, if the
        # bytes of a lost connection came late.
        lost = self._missing = max(0, self._base - got)
        if got < self._greeting:
            lost += self._told - (self._greeting <= self._base)
        frames = []
        number = self._base
        for piece, messages in self._pieces:
            if number + messages <= got:
                number += messages
                continue
            for begin, end, is_message in whole_messages(piece):
                if is_message:
                    number += 1
                    if number > got and number != self._greeting:
                        frames.append(piece[begin:end])
        self._base = self.last = max(self._base, got)
        self._pieces, self._size, self._out = [], 0, None
        self._greeting = self._base + 1
        return Rewound(frames, lost, self._greeting)

    def tell(self, lost: int) -> None:
        """Note the losses that the greeting tells, until the peer has got the greeting."""
        self._told = lost - self._missing

    def _append(self, frames: bytes, messages: int) -> None:
        if not messages:
            return
        self._pieces.append((frames, messages))
        self.last += messages
        self._size += len(frames) + OVERHEAD
        dropped = 0
        while self._size > self._bound and dropped < len(self._pieces):
            piece, count = self._pieces[dropped]
            self._base += count
            self._size -= len(piece) + OVERHEAD
            dropped += 1
        if dropped:
            del self._pieces[:dropped]


def _measure(stream: bytes | bytearray) -> tuple[int, int]:
    """Return the length of the whole frames at the start, and the number of messages in them."""
    length = messages = 0
    for _, end, is_message in whole_messages(stream):
        length = end
        messages += is_message
    return length, messages


class RecordingTransport:
    """The sending half of a transport, which logs the bytes that the socket takes.

    Threads: as ``Transport``.
    """

    __slots__ = ("inner", "log", "watch")

    def __init__(self, inner: SendingHalf, log: SentLog) -> None:
        self.inner = inner
        self.log = log
        self.watch: Watching | None = inner.watch

    @property
    def unsent(self) -> int:
        """See ``Transport``."""
        return self.inner.unsent

    def send(self, data: bytes | memoryview) -> int:
        """See ``Transport``."""
        sent = self.inner.send(data)
        if sent:
            self.log.add(data, sent)
        return sent

    def wait_writable(self, timeout: float) -> bool:
        """See ``Transport``."""
        return self.inner.wait_writable(timeout)

    def finish(self) -> None:
        """See ``Transport``."""
        self.inner.finish()
