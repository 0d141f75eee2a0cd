"""Frames joined once for each kind of peer."""

from __future__ import annotations

import pytest

from hubthread import Framing, MessageType
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame

TEXT = '{"type": "chat", "text": "the same words, the same words"}' * 9


def batch(*payloads: str | bytes) -> FrameBatch:
    frames = [
        Frame(data, MessageType.TEXT if isinstance(data, str) else MessageType.BINARY)
        for data in payloads
    ]
    return FrameBatch(frames, [None] * len(frames))


@pytest.mark.parametrize(
    ("encoding", "wires"),
    [
        (None, [b"\x81\x02on", b"\x82\x01\x00"]),
        (12, [b"\x81\x02on", b"\x82\x01\x00"]),  # too small to deflate
        (Framing.LINES, [b"on\n", b"\x00\n"]),
        (Framing.LENGTH_1, [b"\x02on", b"\x01\x00"]),
        (Framing.CHUNKS, [b"on", b"\x00"]),
    ],
)
def test_batch_is_encoded_for_each_kind_of_peer(
    encoding: int | Framing | None, wires: list[bytes]
) -> None:
    assert batch("on", b"\x00").encoded(encoding) == (b"".join(wires), wires)


def test_batch_for_deflate_has_the_frames_of_the_window() -> None:
    made = batch(TEXT, TEXT)
    joined, wires = made.encoded(12)
    assert wires == [frame.deflated(12) for frame in made.frames]
    assert len(joined) < len(made.encoded(None)[0])


@pytest.mark.parametrize("encoding", [None, 9, Framing.LINES])
def test_batch_is_joined_once_for_each_encoding(encoding: int | Framing | None) -> None:
    """All members of one kind share the bytes; a single frame is not copied."""
    made = batch(TEXT, b"more")
    assert made.encoded(encoding) is made.encoded(encoding)
    alone = batch(TEXT)
    joined, (wire,) = alone.encoded(encoding)
    assert joined is wire
