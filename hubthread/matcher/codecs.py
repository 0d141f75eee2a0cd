"""Integers as bytes of a fixed width, and a counter of one byte.

Signed integers of 1, 2, 4 and 8 bytes, in network byte order (big-endian).  The names follow
the specification: ``I8Bytes`` is ``i8_bytes``, ``BytesI8`` is ``bytes_i8``.

Layer: matcher.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import count
from typing import TypeVar, overload

from hubthread.checks import check_kind
from hubthread.errors import (
    PayloadError,
    SettingError,
    SettingTypeError,
    WrongType,
    WrongValue,
)

__all__ = [
    "IncrementByte",
    "bytes_i8",
    "bytes_i16",
    "bytes_i32",
    "bytes_i64",
    "i8_bytes",
    "i16_bytes",
    "i32_bytes",
    "i64_bytes",
]

Number = TypeVar("Number", bound=IntEnum)


def i8_bytes(value: int) -> bytes:
    """Encode an integer from -128 to 127 as 1 byte (specification: ``I8Bytes``).

    :param value: an ``int``, which may be a member of an ``IntEnum``.
    :raises WrongValue: for an integer out of range.
    :raises WrongType: for anything else.
    """
    return encode_int(value, 1)


def i16_bytes(value: int) -> bytes:
    """Encode an integer from -2**15 to 2**15 - 1 as 2 bytes, like ``i8_bytes``."""
    return encode_int(value, 2)


def i32_bytes(value: int) -> bytes:
    """Encode an integer from -2**31 to 2**31 - 1 as 4 bytes, like ``i8_bytes``."""
    return encode_int(value, 4)


def i64_bytes(value: int) -> bytes:
    """Encode an integer from -2**63 to 2**63 - 1 as 8 bytes, like ``i8_bytes``."""
    return encode_int(value, 8)


@overload
def bytes_i8(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i8(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i8(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """Decode an integer from exactly 1 byte (specification: ``BytesI8``).

    :param enum: the enumeration whose member is returned; ``None`` returns an ``int``.
    :raises PayloadError: for data of another length, and for a number that is not in ``enum``.
    """
    return decode_int(data, 1, enum)


@overload
def bytes_i16(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i16(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i16(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """Decode an integer from exactly 2 bytes, like ``bytes_i8``."""
    return decode_int(data, 2, enum)


@overload
def bytes_i32(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i32(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i32(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """Decode an integer from exactly 4 bytes, like ``bytes_i8``."""
    return decode_int(data, 4, enum)


@overload
def bytes_i64(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i64(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i64(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """Decode an integer from exactly 8 bytes, like ``bytes_i8``."""
    return decode_int(data, 8, enum)


def encode_int(value: int, width: int) -> bytes:
    """Encode an integer in ``width`` bytes.

    :raises WrongValue: for an integer out of range.
    :raises WrongType: for anything else.
    """
    if not isinstance(value, int):
        raise WrongType(f"expected an integer, got {value!r}")
    try:
        return value.to_bytes(width, "big", signed=True)
    except OverflowError:
        limit = 1 << (8 * width - 1)
        bits = value.bit_length()
        shown = value if bits <= 128 else f"a number of {bits} bits"
        raise WrongValue(
            f"expected {-limit} to {limit - 1} for {_octets(width)}, got {shown}"
        ) from None


def decode_int(data: bytes, width: int, enum: type[IntEnum] | None) -> int:
    """Decode an integer from ``width`` bytes.

    :raises PayloadError: for data of another length, and for a number that is not in ``enum``.
    """
    if type(data) is not bytes:
        check_kind("data", data, bytes | bytearray | memoryview, "bytes")
    if len(data) != width:
        raise PayloadError(f"expected {_octets(width)}, got {len(data)}")
    number = int.from_bytes(data, "big", signed=True)
    if enum is None:
        return number
    try:
        return enum(number)
    except ValueError:
        raise PayloadError(f"{number} is not a {enum.__name__}") from None


def _octets(width: int) -> str:
    return "1 byte" if width == 1 else f"{width} bytes"


class IncrementByte:
    """A counter from 0 to 255 that wraps, for numbering headers (specification: the same name).

    :param start: the first number.
    :raises SettingError: for a ``start`` out of range.

    Threads: any thread may call ``increment``; no two calls get the same number before all 256
    are used.  A step takes no lock: it is one ``next`` on an ``itertools.count``, which is
    atomic with and without the GIL.
    """

    count: int
    """The next number; while other threads count, it may be out of date."""

    def __init__(self, start: int = 0) -> None:
        wanted = f"expected an integer from 0 to 255, got {start!r}"
        given: object = start
        if not isinstance(given, int):
            raise SettingTypeError("start", wanted)
        if not 0 <= start <= 255:
            raise SettingError("start", wanted)
        self.count = start
        self._steps = count(start)

    def increment(self) -> int:
        """Return the next number; 0 follows 255."""
        number = next(self._steps) & 0xFF
        self.count = (number + 1) & 0xFF
        return number

    def __repr__(self) -> str:
        return f"<IncrementByte next={self.count}>"
