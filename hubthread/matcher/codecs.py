"""Fixed-width integers in bytes, and a counter of one byte.  Layer: protocol.

Whole numbers of 1, 2, 4 and 8 bytes, signed, in network byte order (big-endian).  Pure
functions: any thread.  Names as in the specification: ``I8Bytes`` is ``i8_bytes``,
``BytesI8`` is ``bytes_i8``.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import count
from typing import TypeVar, overload

from hubthread.errors import PayloadError, SettingError, UsageError

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
    """``value`` (-128 to 127; an ``IntEnum`` too) as 1 byte.

    Raises ``UsageError`` for any other value (specification: ``I8Bytes``).
    """
    return encode_int(value, 1)


def i16_bytes(value: int) -> bytes:
    """``value`` (-2**15 to 2**15 - 1) as 2 bytes; else as ``i8_bytes``."""
    return encode_int(value, 2)


def i32_bytes(value: int) -> bytes:
    """``value`` (-2**31 to 2**31 - 1) as 4 bytes; else as ``i8_bytes``."""
    return encode_int(value, 4)


def i64_bytes(value: int) -> bytes:
    """``value`` (-2**63 to 2**63 - 1) as 8 bytes; else as ``i8_bytes``."""
    return encode_int(value, 8)


@overload
def bytes_i8(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i8(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i8(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """The number in ``data``, which is exactly 1 byte; a member of ``enum`` where given.

    Raises ``PayloadError`` for data of any other length, and for a number that ``enum``
    does not know (specification: ``BytesI8``).
    """
    return decode_int(data, 1, enum)


@overload
def bytes_i16(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i16(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i16(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """The number in the 2 bytes ``data``; else as ``bytes_i8``."""
    return decode_int(data, 2, enum)


@overload
def bytes_i32(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i32(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i32(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """The number in the 4 bytes ``data``; else as ``bytes_i8``."""
    return decode_int(data, 4, enum)


@overload
def bytes_i64(data: bytes, enum: None = None) -> int: ...
@overload
def bytes_i64(data: bytes, enum: type[Number]) -> Number: ...
def bytes_i64(data: bytes, enum: type[IntEnum] | None = None) -> int:
    """The number in the 8 bytes ``data``; else as ``bytes_i8``."""
    return decode_int(data, 8, enum)


def encode_int(value: int, width: int) -> bytes:
    """``value`` as ``width`` bytes; ``UsageError`` where it is no whole number or too big."""
    if not isinstance(value, int):
        raise UsageError(f"a whole number is wanted, not {value!r}")
    try:
        return value.to_bytes(width, "big", signed=True)
    except OverflowError:
        limit = 1 << (8 * width - 1)
        bits = value.bit_length()
        shown = value if bits <= 128 else f"a number of {bits} bits"
        raise UsageError(
            f"{_octets(width)} can hold {-limit} to {limit - 1}, not {shown}"
        ) from None


def decode_int(data: bytes, width: int, enum: type[IntEnum] | None) -> int:
    """The number in ``data``; ``PayloadError`` where ``width`` or ``enum`` does not fit."""
    if len(data) != width:
        raise PayloadError(f"expected {_octets(width)}, got {len(data)}")
    number = int.from_bytes(data, "big", signed=True)
    if enum is None:
        return number
    try:
        return enum(number)
    except ValueError:
        raise PayloadError(f"{number} is no {enum.__name__}") from None


def _octets(width: int) -> str:
    return "1 byte" if width == 1 else f"{width} bytes"


class IncrementByte:
    """A counter from 0 to 255 that wraps: for numbering headers (specification's name).

    Any thread may call ``increment``, and no two calls get the same number before all 256
    are used up.  It takes no lock: one step is one ``next`` on an ``itertools.count``,
    which is atomic with the GIL and, since 3.13, without it (compare and exchange).

    ``count`` is the number that comes next; where several threads count at once, it may
    be that of a moment ago.
    """

    def __init__(self, start: int = 0) -> None:
        given: object = start
        if not (isinstance(given, int) and 0 <= given <= 255):
            raise SettingError("start", f"a whole number from 0 to 255, not {start!r}")
        self.count = start
        self._steps = count(start)

    def increment(self) -> int:
        """The next number; the one after 255 is 0."""
        number = next(self._steps) & 0xFF
        self.count = (number + 1) & 0xFF
        return number

    def __repr__(self) -> str:
        return f"<IncrementByte next={self.count}>"
