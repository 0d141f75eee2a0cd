"""What ``import hubthread`` offers, and that the tree of exceptions is as drawn."""

from __future__ import annotations

import inspect
import re
from typing import get_origin

import pytest

import hubthread
from hubthread import errors

EXCEPTIONS = {
    name: thing
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
}


@pytest.mark.parametrize("module", [hubthread, errors], ids=lambda module: module.__name__)
def test_all_is_sorted_and_unique(module: object) -> None:
    names: list[str] = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(set(names), key=_in_order)


def _in_order(name: str) -> tuple[bool, list[tuple[int, str]]]:
    """Constants first, and numbers by their value: the order that the linter asks for."""
    parts = re.findall(r"(\d+)|(\D+)", name)
    return not name.isupper(), [(int(number or 0), text) for number, text in parts]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in hubthread.__all__:
        thing = getattr(hubthread, name)
        if get_origin(thing) is not None:  # an alias, which Python 3.10 calls a class
            continue
        if inspect.isclass(thing) or inspect.isroutine(thing):
            # Its own, not inherited; a dataclass is given its signature for want of one.
            doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
            assert doc, f"{name} has no docstring"
            assert not doc.startswith(f"{name}("), f"{name} has no docstring"


def test_every_exception_is_exported() -> None:
    assert set(errors.__all__) == EXCEPTIONS.keys()


def test_the_drawn_tree_of_exceptions_is_the_real_one() -> None:
    drawn = _drawn(errors.__doc__ or "")
    assert drawn.keys() == EXCEPTIONS.keys()
    for name, parent in drawn.items():
        bases = [base.__name__ for base in EXCEPTIONS[name].__bases__]
        assert (parent or "Exception") in bases, f"{name} is drawn under {parent}, not {bases}"


def _drawn(docstring: str) -> dict[str, str | None]:
    """Each name in the drawing, with the name it hangs from."""
    parents: dict[str, str | None] = {}
    open_branches: list[tuple[int, str]] = []
    for line in docstring.splitlines():
        match = re.match(r"    ((?:│   |    )*[├└]── )?(\w+)(  |$)", line)
        if match:
            column, name = match.start(2), match[2]
            while open_branches and open_branches[-1][0] >= column:
                open_branches.pop()
            parents[name] = open_branches[-1][1] if open_branches else None
            open_branches.append((column, name))
    return parents
