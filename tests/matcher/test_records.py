"""The fields of records: what makes them, and what nothing would check."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import attrs
import pytest

from hubthread.errors import HandleAnyNotPtr
from hubthread.matcher.compile import convert

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Pair(Generic[T, U]):
    one: T
    other: U


@dataclass
class Same(Pair[T, T]):
    third: T


@dataclass
class Twice(Pair[int, str], Generic[T]):
    """Its own T is not the T of its base."""

    third: T


@dataclass
class Needs:
    seed: InitVar[int]
    x: int = 0


@dataclass
class Unresolved:
    x: Missing  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Limited:
    x: int = field(metadata={"ge": 0})


@attrs.define
class LimitedToo:
    x: int = attrs.field(metadata={"ge": 0})


@dataclass
class Explained:
    x: int = field(metadata={"doc": "the column"})


@attrs.define(kw_only=True)
class Made:
    x: int = attrs.field(validator=attrs.validators.instance_of(int))
    doubled: int = attrs.field(init=False)
    plain: Any = 1

    def __attrs_post_init__(self) -> None:
        self.doubled = 2 * self.x


def test_convert_generic_record_with_its_types() -> None:
    assert convert({"one": 1, "other": "a"}, Pair[int, str]) == Pair(1, "a")
    assert convert({"one": 1, "other": 2, "third": 3}, Same[int]) == Same(1, 2, 3)


def test_convert_attrs_class_takes_its_own_defaults() -> None:
    """Fields that the class computes are not read."""
    made = convert({"x": 2, "doubled": 9, "plain": "any"}, Made)
    assert (made.x, made.doubled, made.plain) == (2, 4, "any")


def test_metadata_that_is_a_note_is_no_limit() -> None:
    assert convert({"x": 1}, Explained) == Explained(1)


@pytest.mark.parametrize(
    ("into", "told"),
    [
        (Needs, "Needs: it cannot be made of its fields alone: missing a required argument"),
        (Unresolved, "Unresolved: an annotation in it cannot be resolved (name 'Missing'"),
        (Limited, "Limited: its field 'x' has the metadata 'ge', which nothing reads here: check"),
        (LimitedToo, "LimitedToo: its field 'x' has the metadata 'ge'"),
        (Pair, "~T: say which type it stands for, such as Page[int], in field 'one' of Pair"),
        (Pair[Annotated[int, []], str], "its type arguments cannot be hashed"),
        (Twice[bytes], "Twice: the type variable ~T stands for two types in it"),
    ],
)
def test_record_that_cannot_be_read_raises(into: Any, told: str) -> None:
    """At registration; the error says what to write instead."""
    with pytest.raises(HandleAnyNotPtr) as raised:
        convert({}, into)
    assert told in str(raised.value)
