"""Check settings and arguments, and say in the error what is allowed.

Layer: base.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import sys
from typing import Any

from hubthread.errors import SettingError, SettingTypeError, WrongType

__all__ = [
    "check_choice",
    "check_function",
    "check_has",
    "check_kind",
    "check_number",
    "check_work",
]


def check_number(
    name: str, value: object, low: float, *, optional: bool = False, whole: bool = False
) -> None:
    """Refuse everything but a finite number of at least ``low``.

    :param low: the smallest number allowed; 0 itself is refused.
    :param optional: allow ``None``.
    :param whole: refuse numbers that are not ``int``.
    :raises SettingError: for a number out of range.
    :raises SettingTypeError: for anything else.
    """
    if value is None and optional:
        return
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if right_type:
        assert isinstance(value, (int, float))
        # The comparison also refuses NaN, and an int that overflows in arithmetic with floats.
        finite = value <= sys.float_info.max
        if finite and (value > 0 if low == 0 else value >= low):
            return
    kind = "an integer" if whole else "a number"
    bound = "above 0" if low == 0 else f"of at least {low:g}"
    none = ", or None" if optional else ""
    error = SettingError if right_type else SettingTypeError
    raise error(name, f"expected {kind} {bound}{none}, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Refuse everything but the ``choices``, which are all of one type.

    :raises SettingError: for another value of the same type.
    :raises SettingTypeError: for a value of another type.
    """
    kind = type(choices[0])
    if not isinstance(value, kind):
        raise SettingTypeError(name, f"expected one of {choices}, got {value!r}")
    if value not in choices:
        raise SettingError(name, f"expected one of {choices}, got {value!r}")


def check_kind(name: str, value: object, kind: Any, wanted: str) -> None:
    """Refuse an object that is not an instance of ``kind``.

    :param wanted: what is allowed, for the message.
    :raises SettingTypeError: if ``value`` is of another class.
    """
    if not isinstance(value, kind):
        raise SettingTypeError(name, f"expected {wanted}, got {value!r}")


def check_has(name: str, value: object, method: str, wanted: str) -> None:
    """Refuse an object without the method: a check for classes of a higher layer.

    :param wanted: what is allowed, for the message.
    :raises SettingTypeError: if ``value`` has no such method.
    """
    if not callable(getattr(value, method, None)):
        raise SettingTypeError(name, f"expected {wanted}, got {value!r}")


def check_function(name: str, value: object, *, optional: bool = True) -> None:
    """Refuse an object that cannot be called.

    :param optional: allow ``None``.
    :raises SettingTypeError: if ``value`` is not callable.
    """
    if callable(value) or (optional and value is None):
        return
    none = " or None" if optional else ""
    raise SettingTypeError(name, f"expected a function{none}, got {value!r}")


def check_work(work: object) -> None:
    """Refuse an object that cannot be called, where it is handed over to another thread.

    Without this check the mistake ``exec_async(work())`` would show in a log only.

    :raises WrongType: if ``work`` is not callable.
    """
    if not callable(work):
        raise WrongType(f"expected a function, got {work!r}: pass it without calling it")
