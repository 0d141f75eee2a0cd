"""Load a part of the program that a command line names: ``MODULE:NAME``.

Layer: top.  Threads: the main thread.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from hubthread import Hub

__all__ = ["BadArgument", "load", "load_hub"]

T = TypeVar("T")

_MOST_FRAMES = 5


class BadArgument(Exception):
    """A wrong argument; the text names it."""


def load_hub(target: str) -> Hub[Any, Any]:
    """Return the hub that ``MODULE:HUB`` names, or that its function makes.

    :raises BadArgument: if there is none.
    """
    argument = "MODULE:HUB"
    found = load(target, argument, Hub)
    if not isinstance(found, Hub) and callable(found):
        found = _made_by(found, target)
    if not isinstance(found, Hub):
        raise BadArgument(
            f"argument {argument}: expected a Hub, or a function without arguments that "
            f"returns one; {target} is of type {type(found).__name__}"
        )
    state = found.statistics().state
    if state not in ("new", "running"):
        raise BadArgument(f"argument {argument}: the hub {target} is already {state}")
    return found


def load(target: str, argument: str, kind: type, word: str = "") -> Any:
    """Return the attribute of a module that ``target`` names.

    :param argument: the name of the argument, for errors.
    :param kind: the class that it should have, for hints.
    :param word: the name of such an attribute, for hints.
    """
    module_name, _, path = target.partition(":")
    names = path.split(".")
    word = word or kind.__name__.removesuffix("Map").lower()
    if not all(name.isidentifier() for name in (*module_name.split("."), *names)):
        raise BadArgument(
            f"argument {argument}: expected a module, a colon and an attribute, such as "
            f"app:{word}, got {target!r}{_hint(module_name, path, word)}"
        )
    found: Any = _import(module_name, path, argument, word)
    place = module_name
    for name in names:
        if not hasattr(found, name):
            names_here = getattr(found, "__dict__", {}).items()
            others = [each for each, value in names_here if isinstance(value, kind)]
            hint = f"; it has the {word} {', '.join(others)}" if others else ""
            raise BadArgument(f"argument {argument}: {place} has no attribute {name!r}{hint}")
        found = getattr(found, name)
        place = f"{place}.{name}"
    return found


def _hint(file: str, attribute: str, word: str) -> str:
    """Return a hint at the name to write instead of that of a file."""
    module = file.removeprefix("./").removesuffix(".py").replace("/", ".")
    return f"; write {module}:{attribute or word}" if module != file else ""


def _import(name: str, attribute: str, argument: str, word: str) -> object:
    # A console script has the folder of the script in sys.path, not the current one.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return _calling(
            lambda: importlib.import_module(name), f"importing {name} failed", argument
        )
    except ModuleNotFoundError as error:
        raise BadArgument(
            f"argument {argument}: no module named {error.name!r} in this folder or installed"
            f"{_hint(name, attribute, word)}"
        ) from None


def _made_by(function: Callable[..., object], target: str) -> object:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise BadArgument(
            f"argument MODULE:HUB: {target} is not a Hub and cannot be called without "
            f"arguments to make one: {error}"
        ) from None
    return _calling(function, f"{target}() failed", "MODULE:HUB")


def _calling(function: Callable[[], T], what: str, argument: str) -> T:
    """Return the result of the program's function.

    :raises BadArgument: if it raises, with the last lines of the program's traceback.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        ours = ("<frozen ", __file__, importlib.__file__)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith(ours)
        ]
        if isinstance(error, ModuleNotFoundError) and not frames:
            raise
        lines = [
            *traceback.format_list(frames[-_MOST_FRAMES:]),
            *traceback.format_exception_only(error),
        ]
        raise BadArgument(f"argument {argument}: {what}\n{''.join(lines).rstrip()}") from None
