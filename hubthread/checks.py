"""Check settings and arguments, and say in the error what is allowed.

Layer: base.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Generator
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    NoneType,
)
from typing import Any, TypeVar

from hubthread.errors import SettingError, SettingTypeError, UsageError, WrongType

__all__ = [
    "called_function",
    "check_callable",
    "check_choice",
    "check_function",
    "check_has",
    "check_kind",
    "check_number",
    "check_serial",
    "check_timeout",
    "check_work",
    "checked",
    "refuse_unrun",
    "why_never_run",
]

T = TypeVar("T")


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


def check_timeout(timeout: object) -> None:
    """Refuse everything but seconds, and ``None`` for no limit; below zero is no wait.

    :raises SettingTypeError: for anything else.
    """
    if timeout is None or (type(timeout) is float and timeout == timeout):
        return
    if not isinstance(timeout, (int, float)) or timeout != timeout or isinstance(timeout, bool):
        raise SettingTypeError("timeout", f"expected seconds or None, got {timeout!r}")


def check_serial(number: object) -> None:
    """Refuse everything but the number that a push or a write has returned.

    :raises SettingTypeError: for anything else.
    """
    if type(number) is not int:
        raise SettingTypeError(
            "number", f"expected the number that the call returned, got {number!r}"
        )


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


def check_callable(name: str, value: object, *arguments: str) -> None:
    """Refuse a callable of the user that a call with ``arguments`` would not run.

    Every function that a program hands over as a setting or option goes through here.

    :param arguments: the names of the positional arguments that it will get.
    :raises SettingTypeError: for an object that cannot be called, an ``async def``, a generator
        function, and a function that takes other arguments.
    """
    if not _fits(value, len(arguments)):
        raise SettingTypeError(name, _misfit(value, arguments))


def check_function(name: str, value: object, *arguments: str) -> None:
    """Refuse as ``check_callable`` does, but accept ``None``."""
    if value is not None:
        check_callable(name, value, *arguments)


def check_work(work: object, arguments: tuple[str, ...] = ()) -> None:
    """Refuse a closure, task or filter as ``check_callable`` does, where it is handed over.

    Later only the log would tell.

    :raises WrongType: such as for ``exec_async(work())`` instead of ``exec_async(work)``.
    """
    # Closures are checked one by one: the most usual ones first, with the fewest steps.
    if type(work) is FunctionType:
        code = work.__code__
        if code.co_argcount == len(arguments) and not code.co_flags & _SPECIAL_FLAGS:
            return
    if not _fits(work, len(arguments)):
        raise WrongType(_misfit(work, arguments))


def why_never_run(function: object) -> str | None:
    """Return why a call of ``function`` does not run its body; None if it does."""
    called = called_function(function)
    # A mock has its mark itself, not in the method that is called.
    if any(map(inspect.iscoroutinefunction, (function, called))) or inspect.isasyncgenfunction(
        called
    ):
        return "it is async, but nothing awaits it: write a plain, blocking def"
    if inspect.isgeneratorfunction(called):
        return "it is a generator, and a call does not run it: return instead of yield"
    return None


def refuse_unrun(result: object) -> None:
    """Refuse the result of a callable of the user whose work has not been done.

    A lambda may return a coroutine, which no look at the lambda itself can tell.  The coroutine
    is closed.  Callers need not ask for ``None``.

    :raises UsageError: for a coroutine, another awaitable, and an unused generator.
    """
    kind = type(result)
    if kind in _PLAIN:
        return
    if kind not in _UNRUN and not hasattr(kind, "__await__"):
        return
    if isinstance(result, Coroutine | Generator):
        result.close()
    raise UsageError(
        f"a function of the program has returned {kind.__name__} {repr(result)[:100]}, and "
        f"nothing awaits or iterates it here: let the function do its work before it returns"
    )


def checked(result: T) -> T:
    """Return a result of the user's callable, unless ``refuse_unrun`` refuses it."""
    if result is not None:
        refuse_unrun(result)
    return result


_PLAIN = frozenset({NoneType, bool, int, float, str, bytes, dict, list, tuple})
_UNRUN = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
_SPECIAL_FLAGS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _fits(value: object, count: int) -> bool:
    """Return True if a call of ``value`` with ``count`` arguments runs it."""
    # As in check_work: inspect.signature takes as long as ten closures.
    function = value
    while True:
        kind = type(function)
        if kind is functools.partial and not function.keywords:  # type: ignore[attr-defined]
            count += len(function.args)  # type: ignore[attr-defined]
            function = function.func  # type: ignore[attr-defined]
        elif kind is MethodType:
            count += 1
            function = function.__func__  # type: ignore[attr-defined]
        else:
            break
    if kind is FunctionType:
        code: CodeType = function.__code__  # type: ignore[attr-defined]
        plain = code.co_argcount == count and not code.co_flags & _SPECIAL_FLAGS
        if plain and not code.co_kwonlyargcount:
            return True
    return callable(function) and why_never_run(function) is None and _takes(function, count)


def _takes(function: Callable[..., object], count: int) -> bool:
    try:
        # Not the function that a decorator has wrapped: the decorator may add arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except Exception:  # noqa: BLE001 - many built-in functions have no signature
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _misfit(value: object, arguments: tuple[str, ...]) -> str:
    """Return why ``value`` is refused, and what to give instead."""
    given = f"({', '.join(arguments)})" if arguments else "without parameters"
    if not callable(value):
        why = "pass the function without calling it"
        if isinstance(value, Coroutine):
            value.close()
    else:
        why = why_never_run(value) or "it takes other parameters"
    return f"expected a function {given}, got {value!r}: {why}"


def called_function(function: Any) -> Any:
    """Return the function that a call runs: inside partials, methods, callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            break
    return function if inspect.isroutine(function) else type(function).__call__
