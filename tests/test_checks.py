"""The checks of settings and arguments: what passes, and what the message says."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hubthread.checks import (
    check_callable,
    check_choice,
    check_function,
    check_has,
    check_kind,
    check_number,
    check_work,
)
from hubthread.errors import SettingError, SettingTypeError, WrongType


@pytest.mark.parametrize(
    ("value", "low", "options"),
    [
        (1, 1, {}),
        (0.5, 0, {}),
        (-1, -2, {}),
        (1 << 62, 1, {"whole": True}),
        (None, 1, {"optional": True}),
    ],
)
def test_check_number_in_range_passes(value: Any, low: float, options: dict[str, bool]) -> None:
    check_number("n", value, low, **options)


@pytest.mark.parametrize(
    ("value", "low", "options", "said"),
    [
        (0, 0, {}, "n: expected a number above 0, got 0"),
        (0, 1, {"whole": True}, "n: expected an integer of at least 1, got 0"),
        (-1, 0, {"optional": True}, "n: expected a number above 0, or None, got -1"),
        (float("nan"), 0, {}, "n: expected a number above 0, got nan"),
        (float("inf"), 0, {}, "n: expected a number above 0, got inf"),
    ],
)
def test_check_number_out_of_range_is_a_value_error(
    value: Any, low: float, options: dict[str, bool], said: str
) -> None:
    with pytest.raises(SettingError) as caught:
        check_number("n", value, low, **options)
    assert str(caught.value) == said
    assert not isinstance(caught.value, TypeError)


def test_check_number_int_beyond_floats_is_refused() -> None:
    """Arithmetic of it with floats would raise later."""
    with pytest.raises(SettingError, match="expected a number above 0"):
        check_number("n", 10**400, 0)


@pytest.mark.parametrize(
    ("value", "options"),
    [("1", {}), (None, {}), (True, {}), (1.0, {"whole": True}), ([], {"optional": True})],
)
def test_check_number_other_type_is_a_type_error(value: Any, options: dict[str, bool]) -> None:
    with pytest.raises(SettingTypeError, match=r"^n: expected a"):
        check_number("n", value, 0, **options)


def test_check_choice_tells_value_from_type() -> None:
    check_choice("c", "a", ("a", "b"))
    with pytest.raises(SettingError, match=r"^c: expected one of \('a', 'b'\), got 'x'$") as value:
        check_choice("c", "x", ("a", "b"))
    assert not isinstance(value.value, TypeError)
    with pytest.raises(SettingTypeError):
        check_choice("c", 1, ("a", "b"))


def test_check_kind_other_class_is_a_type_error() -> None:
    check_kind("k", "a", str, "text")
    with pytest.raises(SettingTypeError, match=r"^k: expected text, got 1$"):
        check_kind("k", 1, str, "text")


def test_check_has_asks_for_a_callable_attribute() -> None:
    check_has("h", [], "append", "a list")
    for wrong in (1, type("T", (), {"append": 5})()):
        with pytest.raises(SettingTypeError, match=r"^h: expected a list, got "):
            check_has("h", wrong, "append", "a list")


def test_check_callable_asks_for_a_function_of_the_arguments() -> None:
    check_callable("f", print, "a", "b")
    check_callable("f", lambda a, b=1: None, "a")
    check_callable("f", functools.partial(lambda a, *, b: None, b=1), "a")
    with pytest.raises(SettingTypeError, match=r"^f: expected a function \(a\), got None: "):
        check_callable("f", None, "a")
    with pytest.raises(SettingTypeError, match=r"^f: expected a function without parameters, "):
        check_callable("f", lambda a: None)
    with pytest.raises(SettingTypeError, match="it takes other parameters"):
        check_callable("f", lambda a, *, b: None, "a")


def test_check_function_takes_none() -> None:
    check_function("f", None)
    with pytest.raises(SettingTypeError, match=r"^f: expected a function \(a\), got 1: "):
        check_function("f", 1, "a")


def test_check_work_says_not_to_call_it() -> None:
    check_work(print)
    with pytest.raises(WrongType, match=r"got 5: pass the function without calling it$"):
        check_work(5)
