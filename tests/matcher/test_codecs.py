"""Integers in bytes: whole ranges round-trip, the rest is refused; the byte counter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import PayloadError, SettingError, UsageError
from hubthread.matcher import codecs

Encode = Callable[[int], bytes]
Decode = Callable[..., Any]

PAIRS: dict[int, tuple[Encode, Decode]] = {
    1: (codecs.i8_bytes, codecs.bytes_i8),
    2: (codecs.i16_bytes, codecs.bytes_i16),
    4: (codecs.i32_bytes, codecs.bytes_i32),
    8: (codecs.i64_bytes, codecs.bytes_i64),
}
each_width = pytest.mark.parametrize("width", PAIRS)


class Cmd(IntEnum):
    """Some headers."""

    LEAVE = -1
    MOVE = 7


@each_width
@given(data=st.data())
def test_codecs_number_in_range_round_trips(width: int, data: st.DataObject) -> None:
    """Each integer of the width comes back, from exactly that many bytes."""
    encode, decode = PAIRS[width]
    limit = 1 << (8 * width - 1)
    number = data.draw(st.integers(-limit, limit - 1))
    assert len(encode(number)) == width
    assert decode(encode(number)) == number


@each_width
@given(data=st.data())
def test_codecs_bytes_round_trip(width: int, data: st.DataObject) -> None:
    """Any bytes of the right length are a number, and the number is those bytes."""
    encode, decode = PAIRS[width]
    content = data.draw(st.binary(min_size=width, max_size=width))
    assert encode(decode(content)) == content


@each_width
@given(data=st.data())
def test_codecs_number_out_of_range_raises(width: int, data: st.DataObject) -> None:
    """One more than a width can hold, or any number beyond, is the caller's mistake."""
    limit = 1 << (8 * width - 1)
    number = data.draw(st.integers(min_value=limit) | st.integers(max_value=-limit - 1))
    with pytest.raises(
        UsageError, match=rf"expected {-limit} to {limit - 1} for .*, got {number}"
    ):
        PAIRS[width][0](number)


@each_width
@given(data=st.binary(max_size=12))
def test_codecs_other_length_raises(width: int, data: bytes) -> None:
    """Too few or too many bytes are refused."""
    decode = PAIRS[width][1]
    if len(data) == width:
        assert isinstance(decode(data), int)
    else:
        with pytest.raises(PayloadError, match=f"got {len(data)}"):
            decode(data)


@pytest.mark.parametrize(
    ("width", "number", "content"),
    [
        (1, -1, b"\xff"),
        (2, 1, b"\x00\x01"),
        (2, -2, b"\xff\xfe"),
        (4, 0x01020304, b"\x01\x02\x03\x04"),
        (8, -(2**63), b"\x80" + bytes(7)),
    ],
)
def test_codecs_use_network_byte_order(width: int, number: int, content: bytes) -> None:
    """The most significant byte goes first, negative numbers in two's complement."""
    assert PAIRS[width][0](number) == content


@pytest.mark.parametrize("value", ["1", 1.0, None, b"\x01"])
def test_codecs_other_type_raises(value: Any) -> None:
    """Text, floats and bytes are not taken for a number."""
    with pytest.raises(UsageError, match="expected an integer, got"):
        codecs.i8_bytes(value)


def test_codecs_huge_number_is_not_printed() -> None:
    """A number of too many digits to print is told by its size."""
    with pytest.raises(UsageError, match="got a number of 40001 bits"):
        codecs.i64_bytes(1 << 40_000)


@each_width
@pytest.mark.parametrize("member", Cmd)
def test_codecs_enum_member_round_trips(width: int, member: Cmd) -> None:
    """An IntEnum's member goes in, and comes out as itself."""
    encode, decode = PAIRS[width]
    assert decode(encode(member), Cmd) is member


@each_width
def test_codecs_number_outside_the_enum_raises(width: int) -> None:
    """The message names the number and the enum."""
    encode, decode = PAIRS[width]
    with pytest.raises(PayloadError, match="8 is not a Cmd"):
        decode(encode(8), Cmd)


@given(start=st.integers(0, 255), steps=st.integers(1, 600))
def test_increment_byte_counts_and_wraps(start: int, steps: int) -> None:
    """The number after 255 is 0, and count tells the next one."""
    counter = codecs.IncrementByte(start)
    for step in range(steps):
        assert counter.count == (start + step) % 256
        assert counter.increment() == (start + step) % 256
    assert repr(counter) == f"<IncrementByte next={(start + steps) % 256}>"


@pytest.mark.parametrize("start", [-1, 256, "0", 1.0, None])
def test_increment_byte_start_out_of_range_raises(start: Any) -> None:
    """A start outside a byte is refused by name."""
    with pytest.raises(SettingError, match=r"^start: expected an integer from 0 to 255"):
        codecs.IncrementByte(start)


def test_increment_byte_threads_get_different_numbers() -> None:
    """Each number of each round goes to exactly one of the threads."""
    rounds, workers = 400, 4
    counter = codecs.IncrementByte()
    together = threading.Barrier(workers)
    taken: list[list[int]] = [[] for _ in range(workers)]

    def work(mine: list[int]) -> None:
        together.wait()
        mine.extend(counter.increment() for _ in range(rounds * 256 // workers))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(number for mine in taken for number in mine)
    assert numbers == sorted([*range(256)] * rounds)
