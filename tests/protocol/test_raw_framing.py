"""Messages of raw peers against small models, under every framing and any split."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import Framing
from hubthread.protocol.raw_framing import MessageReader, encode_message, read_datagram
from hubthread.protocol.websocket import ProtocolFailure, WebSocketEvent

LIMIT = 12
PREFIXED = [Framing.LENGTH_1, Framing.LENGTH_2, Framing.LENGTH_4, Framing.LENGTH_8]
SEPARATED = [Framing.LINES, *PREFIXED]

# Bytes that mean something to one framing or another, and characters of several bytes.
pieces = st.one_of(
    st.binary(max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\x00", b"\x03", b"\x0c", "é€😀".encode()]),
)
streams = st.lists(pieces, max_size=30).map(b"".join)
framings = st.sampled_from(list(Framing))


@st.composite
def splits(draw: st.DrawFn, streams: st.SearchStrategy[bytes] = streams) -> list[bytes]:
    """A stream, cut into reads."""
    data = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=20)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def read(framing: Framing, parts: Iterable[bytes], *, text: bool) -> list[WebSocketEvent]:
    reader = MessageReader(framing, LIMIT, text=text)
    return [event for part in parts for event in reader.receive(part)]


def lines(stream: bytes) -> list[bytes]:
    return [line.removesuffix(b"\r") for line in stream.split(b"\n")[:-1]]


def prefixed(stream: bytes, width: int) -> list[bytes]:
    found: list[bytes] = []
    while len(stream) >= width:
        end = width + int.from_bytes(stream[:width], "big")
        if end > width + LIMIT:
            return [*found, bytes(LIMIT + 1)]
        if len(stream) < end:
            break
        found.append(stream[width:end])
        stream = stream[end:]
    return found


def up_to_a_failure(messages: list[bytes]) -> list[bytes | None]:
    """Return the model's messages: a long one ends the stream, and empty ones do not count."""
    fine: list[bytes | None] = []
    for message in messages:
        if len(message) > LIMIT:
            return [*fine, None]
        if message:
            fine.append(message)
    return fine


@given(st.lists(pieces, max_size=30).map(b"".join))
def test_reader_lines_are_split_at_line_ends(stream: bytes) -> None:
    """The model splits at every newline."""
    stream += b"\n"
    events = read(Framing.LINES, [stream], text=False)
    found = [None if isinstance(event, ProtocolFailure) else event for event in events]
    assert found == up_to_a_failure(lines(stream))


@given(st.sampled_from(PREFIXED), streams)
def test_reader_prefixed_messages_have_the_announced_length(
    framing: Framing, stream: bytes
) -> None:
    """The model walks from prefix to prefix."""
    events = read(framing, [stream], text=False)
    found = [None if isinstance(event, ProtocolFailure) else event for event in events]
    assert found == up_to_a_failure(prefixed(stream, framing.value))


@given(
    st.sampled_from(SEPARATED),
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))),
)
def test_reader_reads_back_encoded_messages(framing: Framing, texts: list[str]) -> None:
    """Reading undoes encoding, apart from empty messages."""
    fitting = [text for text in texts if 0 < len(text.encode()) <= LIMIT]
    stream = b"".join(encode_message(text.encode(), framing) for text in fitting)
    assert read(framing, [stream], text=True) == fitting


@pytest.mark.parametrize(
    ("framing", "body", "wire"),
    [
        (Framing.LINES, b"on", b"on\n"),
        (Framing.LINES, b"on\n", b"on\n"),
        (Framing.LINES, b"", b"\n"),
        (Framing.LENGTH_1, b"on", b"\x02on"),
        (Framing.LENGTH_2, b"on", b"\x00\x02on"),
        (Framing.LENGTH_4, b"on", b"\x00\x00\x00\x02on"),
        (Framing.LENGTH_8, b"", bytes(8)),
        (Framing.LENGTH_1, b"x" * 255, b"\xff" + b"x" * 255),
        (Framing.LENGTH_1, b"x" * 256, b""),
        (Framing.LENGTH_2, b"x" * 65536, b""),
        (Framing.CHUNKS, b"on", b"on"),
    ],
)
def test_encode_message_writes_each_framing(framing: Framing, body: bytes, wire: bytes) -> None:
    """The bytes are exact; a message too long for its prefix gives no bytes."""
    assert encode_message(body, framing) == wire


@pytest.mark.parametrize(
    ("framing", "data", "reason"),
    [
        (Framing.LINES, b"x" * (LIMIT + 2), "a line of more than 12 bytes"),
        (Framing.LINES, b"x" * (LIMIT + 1) + b"\n", "a line of more than 12 bytes"),
        (Framing.LENGTH_1, b"\x0d", "a message of 13 bytes, more than 12"),
        (Framing.LENGTH_8, b"\xff" * 8, "a message of 18446744073709551615 bytes, more than 12"),
    ],
)
def test_reader_message_over_the_limit_is_1009(framing: Framing, data: bytes, reason: str) -> None:
    """The failure comes as soon as possible, and its text quotes nothing from the peer."""
    assert read(framing, [data], text=False) == [ProtocolFailure(1009, reason, "message")]


@pytest.mark.parametrize("framing", list(Framing))
def test_reader_invalid_utf8_is_1007_for_text_only(framing: Framing) -> None:
    """Invalid UTF-8 ends a peer with text; for a peer with bytes it is a message."""
    stream = encode_message(b"\xff\xfe", framing)
    (failure,) = read(framing, [stream], text=True)
    assert isinstance(failure, ProtocolFailure)
    assert failure.code == 1007
    assert "UTF-8" in failure.reason
    assert read(framing, [stream], text=False) == [b"\xff\xfe"]


@pytest.mark.parametrize(
    ("framing", "half", "rest"),
    [
        (Framing.LINES, b"on", b"\n"),
        (Framing.LENGTH_4, b"\x00", b"\x00\x00\x02on"),
        (Framing.LENGTH_1, b"\x02o", b"n"),
        (Framing.CHUNKS, "€".encode()[:1], "€".encode()[1:]),
    ],
)
def test_reader_unfinished_is_true_within_a_message(
    framing: Framing, half: bytes, rest: bytes
) -> None:
    """The reason of the end depends on it."""
    reader = MessageReader(framing, LIMIT, text=True)
    stands = []
    for part in (b"", half, rest):
        events = reader.receive(part)
        stands.append((len(events), reader.unfinished))
    assert stands == [(0, False), (0, True), (1, False)]


@given(framings, st.binary(max_size=LIMIT + 6), st.booleans())
def test_read_datagram_gives_a_message_or_a_failure(
    framing: Framing, data: bytes, text: bool
) -> None:
    """Nothing is raised; only ``LINES`` takes off anything, and that is one line end."""
    message = read_datagram(data, framing, LIMIT, text=text)
    body = data
    if framing is Framing.LINES and data.endswith(b"\n"):
        body = data[:-1].removesuffix(b"\r")
    if isinstance(message, ProtocolFailure):
        assert len(body) > LIMIT or (text and body.decode(errors="replace").encode() != body)
    else:
        assert message == (body.decode() if text else body)
        assert len(body) <= LIMIT
