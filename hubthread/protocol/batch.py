"""Several frames for the same members, joined once for all of them.

Layer: protocol.  Threads: a batch is made and used by the one thread that fans out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

from hubthread.protocol.envelope import Enveloped, Place, Placed, envelop
from hubthread.protocol.frames import Frame
from hubthread.protocol.raw_framing import encode_message
from hubthread.types import Framing

__all__ = ["Encoding", "FrameBatch"]

Encoding: TypeAlias = "int | Framing | Enveloped | None"
"""The kind of bytes that a peer gets; see ``FrameBatch.encoded``."""


class FrameBatch:
    """A sequence of frames, and its bytes on the wire for each kind of peer.

    While one push is fanned out, others pile up; each member then gets all of them in one
    send.  The frames are joined once for each encoding, not once for each member.
    """

    __slots__ = ("_encoded", "_place", "_placed", "frames", "keys")

    def __init__(
        self, frames: Sequence[Frame], keys: Sequence[Hashable], place: Place | None = None
    ) -> None:
        """Make a batch; ``place`` is that of the frames, if they are pushes of a shared room."""
        self.frames = frames
        self.keys = keys
        self._place = place
        self._placed: Sequence[Hashable] | None = None  # made for the first that needs it
        self._encoded: dict[Encoding, tuple[bytes, list[bytes]]] = {}

    def encoded(self, encoding: Encoding) -> tuple[bytes, list[bytes]]:
        """Return the joined bytes, and the bytes of each frame.

        :param encoding: ``None`` for plain WebSocket frames; an ``int`` for peers with
            permessage-deflate: their window in bits; ``Enveloped`` for peers that get envelopes;
            a ``Framing`` for raw peers.
        """
        encoded = self._encoded.get(encoding)
        if encoded is None:
            if isinstance(encoding, Enveloped):
                return self._enveloped(encoding)
            if encoding is None:
                wires = [frame.wire for frame in self.frames]
            elif isinstance(encoding, Framing):
                wires = [encode_message(frame.body, encoding) for frame in self.frames]
            else:
                wires = [frame.deflated(encoding) for frame in self.frames]
            joined = wires[0] if len(wires) == 1 else b"".join(wires)
            encoded = self._encoded[encoding] = (joined, wires)
        return encoded

    def some(self, places: Sequence[int]) -> FrameBatch:
        """Return a batch of some of the frames, given by their indices."""
        frames = [self.frames[each] for each in places]
        place = self._place
        if place is not None:
            place = place._replace(offsets=[place.offsets[each] for each in places])
        return FrameBatch(frames, [self.keys[each] for each in places], place)

    @property
    def places(self) -> Sequence[Hashable]:
        """The place of each frame, in a room with a history; else the keys."""
        if self._placed is None:
            place = self._place
            if place is None or place.epoch is None:
                self._placed = self.keys
            else:
                room, epoch = place.room, place.epoch
                self._placed = [Placed(room, epoch, offset or 0) for offset in place.offsets]
        return self._placed

    def _enveloped(self, encoding: Enveloped) -> tuple[bytes, list[bytes]]:
        if self._place is None:
            return self.encoded(encoding.window_bits)
        room, offsets, _ = self._place
        pairs = zip(offsets, self.frames, strict=True)
        frames = [envelop(frame, room, offset) for offset, frame in pairs]
        encoded = FrameBatch(frames, self.keys).encoded(encoding.window_bits)
        self._encoded[encoding] = encoded
        return encoded
