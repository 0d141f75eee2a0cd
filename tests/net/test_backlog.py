"""The backlog of one peer; ``test_outbox_model`` holds it against a list."""

from __future__ import annotations

from hubthread.net.backlog import PING, PONG, Backlog
from hubthread.types import Overflow
from tests.support import outbox_bounds


def test_backlog_latest_behind_a_begun_message_keeps_one() -> None:
    backlog = Backlog(outbox_bounds(Overflow.LATEST))
    backlog.admit(1, b"0123456789", "key")
    for sent in (1, 2):
        backlog.taken(sent)
        for number in (2, 3):
            backlog.admit(number, b"%d" % number, "key")
        assert (len(backlog), bytes(backlog.chunk())[-1:]) == (2, b"3")


def test_backlog_chunk_is_never_larger_than_the_write_buffer() -> None:
    """A large message is not copied for each call that the socket refuses."""
    backlog = Backlog(outbox_bounds(write_buffer=100))
    for number, size in enumerate((10, 1000, 10, 80, 50), 1):
        backlog.admit(number, bytes([number]) * size, None)
    sizes = []
    while backlog:
        sizes.append(len(backlog.chunk()))
        backlog.taken(sizes[-1])
    assert sum(sizes) == 1150
    assert max(sizes) == 100
    assert sizes[0] == 10


def test_backlog_first_is_the_number_of_the_first_message() -> None:
    """Control frames have no number."""
    backlog = Backlog(outbox_bounds())
    first = [backlog.first]
    backlog.admit(None, b"control", None)
    first.append(backlog.first)
    backlog.admit(4, b"message", None)
    first.append(backlog.first)
    backlog.begin(3, b"rest")
    first.append(backlog.first)
    assert first == [None, None, 4, 3]


def test_backlog_order_is_rest_pings_messages() -> None:
    backlog = Backlog(outbox_bounds())
    backlog.admit(2, b"message", None)
    backlog.admit(None, b"ping", PING)
    backlog.admit(None, b"pong", PONG)
    backlog.begin(1, b"rest")
    assert bytes(backlog.chunk()) == b"restpingpongmessage"
    assert (len(backlog), backlog.size) == (2, len(b"restmessage"))


def test_backlog_forget_empties_it_without_counting_drops() -> None:
    backlog = Backlog(outbox_bounds())
    backlog.begin(1, b"rest")
    backlog.admit(2, b"message", "key")
    backlog.admit(None, b"ping", PING)
    backlog.forget()
    assert not backlog
    assert (len(backlog), backlog.size, backlog.dropped, backlog.first) == (0, 0, 0, None)
