"""The log of sent messages against a list, however the socket takes the bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubthread.net.sent_log import SentLog
from hubthread.protocol.frames import Frame, MessageType, encode_ping

PING = encode_ping(b"ping")


def text(number: int, size: int = 0) -> bytes:
    return Frame(f"{number}" + "." * size, MessageType.TEXT).wire


@given(
    st.lists(st.tuples(st.sampled_from([0, 10, 200, 70_000]), st.booleans()), max_size=12),
    st.lists(st.integers(1, 100_000), max_size=30),
    st.integers(0, 12),
)
def test_log_finds_the_frames_in_any_pieces(
    messages: list[tuple[int, bool]], cuts: list[int], got: int
) -> None:
    frames = [text(number, size) for number, (size, _) in enumerate(messages)]
    stream = b"".join(
        frame + (PING if pinged else b"")
        for frame, (_, pinged) in zip(frames, messages, strict=True)
    )
    log = SentLog(10_000_000)
    log.tell(0)
    place = 0
    for cut in [*cuts, len(stream)]:
        piece = stream[place:]
        log.add(memoryview(piece) if cut % 2 else piece, min(cut, len(piece)))
        place = min(len(stream), place + cut)
    assert log.last == len(frames)
    got = min(got, len(frames))
    found = log.rewind(got)
    # The first message is the greeting, which does not go out again.
    assert found.frames == [frame for frame in frames[got:] if frame is not frames[0]]
    assert (found.lost, found.number, log.last) == (0, got + 1, got)


def test_log_forgets_the_oldest_beyond_its_bound_and_counts_them() -> None:
    log = SentLog(1000)
    for number in range(10):
        log.add(wire := text(number, 200), len(wire))
    found = log.rewind(4)
    assert found.frames == [text(number, 200) for number in range(4 + found.lost, 10)]
    assert found.lost
    assert found.number == 5 + found.lost


def test_log_tells_no_loss_twice_and_none_of_what_the_peer_has() -> None:
    log = SentLog(1000)
    for number in range(10):
        log.add(wire := text(number, 200), len(wire))
    found = log.rewind(2)
    log.tell(found.lost)
    again = log.rewind(2)  # the greeting was lost
    assert again.lost == found.lost
    log.tell(again.lost)
    # The two came late, from connections that were lost before.
    assert log.rewind(2 + found.lost).lost == 0


def test_log_of_a_peer_that_does_not_count_sends_again_what_the_socket_has_not_taken() -> None:
    log = SentLog(1000)
    for number in range(3):
        log.add(wire := text(number), len(wire))
    log.add(text(3), 1)
    assert log.add_rest(text(3)[1:] + text(4)) == text(3)[1:]
    assert log.last == 5
    assert log.rewind(None).frames == [text(4)]


def test_log_tells_losses_until_the_greeting_has_arrived() -> None:
    log = SentLog(1000)
    log.rewind(0)
    log.tell(7)
    log.add(wire := text(1), len(wire))
    assert log.rewind(0).lost == 7
    log.tell(7)
    log.add(wire, len(wire))
    assert log.rewind(1).lost == 0
