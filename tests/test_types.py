"""The small types: keys that are safe under a lock."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from hubthread.errors import WrongType
from hubthread.types import check_key


class Word(str, Enum):
    SAY = "say"


class Hashes(str):
    def __hash__(self) -> int:
        return 1


class Compares(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    "key", [None, "a", 1, b"a", True, type("Plain", (str,), {})("a"), Word.SAY]
)
def test_check_key_plain_hash_and_comparison_pass(key: Any) -> None:
    check_key(key)


@pytest.mark.parametrize("key", [1.0, (), [], Hashes("a"), Compares(1), object()])
def test_check_key_code_of_the_user_raises(key: Any) -> None:
    """A hash or comparison of a user's class would run under a lock of the hub."""
    with pytest.raises(WrongType, match=r"^key: expected str, int, bytes or None, got "):
        check_key(key)
