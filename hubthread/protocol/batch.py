"""Several frames for the same members, joined once for all of them.

Layer: protocol.  Threads: a batch is made and used by the one thread that fans out.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from hubthread.protocol.frames import Frame
from hubthread.protocol.raw_framing import encode_message
from hubthread.types import Framing

__all__ = ["FrameBatch"]


class FrameBatch:
    """A sequence of frames, and its bytes on the wire for each kind of peer.

    While one push is fanned out, others pile up; each member then gets all of them in one
    send.  The frames are joined once for each encoding, not once for each member.
    """

    __slots__ = ("_encoded", "frames", "keys")

    def __init__(self, frames: Sequence[Frame], keys: Sequence[Hashable]) -> None:
        self.frames = frames
        self.keys = keys
        self._encoded: dict[int | Framing | None, tuple[bytes, list[bytes]]] = {}

    def encoded(self, encoding: int | Framing | None) -> tuple[bytes, list[bytes]]:
        """Return the joined bytes, and the bytes of each frame.

        :param encoding: ``None`` for plain WebSocket frames; an ``int`` for peers with
            permessage-deflate: their window in bits; a ``Framing`` for raw peers.
        """
        encoded = self._encoded.get(encoding)
        if encoded is None:
            if encoding is None:
                wires = [frame.wire for frame in self.frames]
            elif isinstance(encoding, Framing):
                wires = [encode_message(frame.body, encoding) for frame in self.frames]
            else:
                wires = [frame.deflated(encoding) for frame in self.frames]
            joined = wires[0] if len(wires) == 1 else b"".join(wires)
            encoded = self._encoded[encoding] = (joined, wires)
        return encoded
