"""The backlog of one peer; ``test_outbox_model`` holds it against a list."""

from __future__ import annotations

import json

import pytest

from hubthread.net.backlog import PING, PONG, Backlog
from hubthread.protocol.envelope import Placed, Versioned
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


def push(offset: int, room: str = "a") -> tuple[bytes, Placed]:
    return b"%b%02d" % (room.encode(), offset), Placed(room, "e", offset)


def told(backlog: Backlog) -> list[tuple[str, int]]:
    """Return what waits: each push by its room and offset, each gap by the room in capitals."""
    found = []
    while backlog:
        wire = backlog.message()
        if wire[0] == 0x81:
            gap = json.loads(wire[2:])
            assert (gap["type"], gap["epoch"], gap["why"]) == ("hub:gap", "e", "dropped")
            found.append((gap["room"].upper(), gap["at"]))
        else:
            found.append((wire[:1].decode(), int(wire[1:])))
        backlog.message_taken()
    assert backlog.size == 0
    return found


@pytest.mark.parametrize(
    ("overflow", "wanted"),
    [
        (Overflow.DROP_OLDEST, [("B", 1), ("A", 5), ("a", 6), ("a", 7), ("a", 8)]),
        (Overflow.DROP_NEWEST, [("a", 1), ("b", 1), ("a", 2), ("A", 8)]),
    ],
)
def test_backlog_dropped_pushes_leave_one_notice_of_each_room(
    overflow: Overflow, wanted: list[tuple[str, int]]
) -> None:
    backlog = Backlog(outbox_bounds(overflow, max_messages=3))
    pushes = [push(1), push(1, "b"), *(push(number) for number in range(2, 9))]
    for number, (wire, place) in enumerate(pushes, 1):
        assert backlog.admit(number, wire, place)
    assert backlog.dropped == 6
    assert told(backlog) == wanted


def test_backlog_notice_of_what_is_dropped_later_stands_behind_what_was_admitted() -> None:
    backlog = Backlog(outbox_bounds(Overflow.DROP_NEWEST, max_messages=3))
    for number in (1, 2, 3, 4):
        backlog.admit(number, *push(number))
    backlog.admit(5, *push(1, "b"))
    backlog.admit(6, *push(5))
    for _ in range(3):
        backlog.message_taken()
    # Both notices wait; there is room for one message.
    backlog.admit(7, *push(6))
    backlog.admit(8, *push(7))
    assert told(backlog) == [("A", 5), ("B", 1), ("a", 6), ("A", 7)]


@pytest.mark.parametrize(
    ("overflow", "wanted"),
    [
        (Overflow.DROP_OLDEST, ["gap", "v3", "a", "a"]),
        (Overflow.DROP_NEWEST, ["a", "v1", "v3", "gap"]),
    ],
)
def test_backlog_dropped_changes_of_users_leave_one_notice(
    overflow: Overflow, wanted: list[str]
) -> None:
    """A notice has no version; here it shows that of the last change that is dropped."""
    backlog = Backlog(outbox_bounds(overflow, max_messages=2))
    messages: list[tuple[bytes, Placed | Versioned]] = [
        push(1),
        (b"v1", Versioned("a", 1)),
        (b"v2", Versioned("a", 2)),
        push(2),
        (b"v3", Versioned("a", 3)),
    ]
    if overflow is Overflow.DROP_OLDEST:
        messages += [push(3), push(4)]
    for number, message in enumerate(messages, 1):
        assert backlog.admit(number, *message)
    found = []
    for entry in backlog._entries:
        if entry.number is None and isinstance(entry.key, Versioned):
            assert json.loads(entry.wire[2:]) == {
                "type": "hub:members",
                "room": "a",
                "why": "dropped",
            }
            found.append(f"v{entry.key.version}")
        else:
            found.append("gap" if entry.number is None else entry.wire[:2].decode().rstrip("0"))
    assert found == wanted
