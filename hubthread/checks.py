"""What settings and arguments are checked with.  Layer: base.  Pure functions: any thread.

An error names the field and what is allowed (``SettingError``, or ``UsageError`` for work).
"""

from __future__ import annotations

import sys
from typing import Any

from hubthread.errors import SettingError, UsageError

__all__ = ["check_function", "check_has", "check_kind", "check_number", "check_work"]


def check_number(
    name: str, value: object, low: float, *, optional: bool = False, whole: bool = False
) -> None:
    """Refuse what is no finite number ≥ ``low`` (above it, where ``low`` is zero).

    :raises SettingError: that names the field and what is allowed.
    """
    if value is None and optional:
        return
    kind = "a whole number" if whole else "a number"
    right_type = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if right_type:
        assert isinstance(value, (int, float))
        # Nor NaN, and no int that arithmetic with floats would fail on.
        finite = value <= sys.float_info.max
        if finite and (value > 0 if low == 0 else value >= low):
            return
    bound = "above 0" if low == 0 else f"of at least {low:g}"
    none = ", or None" if optional else ""
    raise SettingError(name, f"{kind} {bound}{none}, not {value!r}")


def check_kind(name: str, value: object, kind: Any, wanted: str) -> None:
    """Refuse what is of another class."""
    if not isinstance(value, kind):
        raise SettingError(name, f"{wanted}, not {value!r}")


def check_has(name: str, value: object, method: str, wanted: str) -> None:
    """Refuse what has no such method: for what may be of any class, or of a higher layer's."""
    if not callable(getattr(value, method, None)):
        raise SettingError(name, f"{wanted}, not {value!r}")


def check_function(name: str, value: object) -> None:
    """Refuse what cannot be called, and is not ``None``."""
    if value is not None and not callable(value):
        raise SettingError(name, f"a function or None, not {value!r}")


def check_work(work: object) -> None:
    """Refuse what cannot be called where it is handed over: elsewhere only a log would tell.

    :raises UsageError: such as for ``exec_async(work())`` in place of ``exec_async(work)``.
    """
    if not callable(work):
        raise UsageError(f"a function is wanted, not {work!r}: give it without calling it")
