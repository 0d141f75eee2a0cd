"""The names of ``import hubthread``, and the drawn tree of exceptions."""

from __future__ import annotations

import inspect
import re
from typing import get_origin

import hubthread
from hubthread import errors

EXCEPTIONS = {
    name: thing
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, BaseException)
}


def test_all_names_every_import_once() -> None:
    imported = [name for name, thing in vars(hubthread).items() if not _is_internal(name, thing)]
    assert sorted(hubthread.__all__) == sorted([*imported, "__version__"])


def _is_internal(name: str, thing: object) -> bool:
    return name.startswith("_") or inspect.ismodule(thing)


def test_all_names_are_documented() -> None:
    for name in hubthread.__all__:
        thing = getattr(hubthread, name)
        if get_origin(thing) is not None:  # an alias, which Python 3.10 calls a class
            continue
        if inspect.isclass(thing) or inspect.isroutine(thing):
            # Not an inherited one.  A dataclass without a docstring gets its signature as one.
            doc = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
            assert doc, f"{name} has no docstring"
            assert not doc.startswith(f"{name}("), f"{name} has no docstring"


def test_errors_all_names_every_exception() -> None:
    assert set(errors.__all__) == EXCEPTIONS.keys()


def test_errors_drawn_tree_is_the_tree_of_classes() -> None:
    drawn = _drawn(errors.__doc__ or "")
    assert drawn.keys() == EXCEPTIONS.keys()
    for name, parent in drawn.items():
        bases = [base.__name__ for base in EXCEPTIONS[name].__bases__]
        assert (parent or "Exception") in bases, f"{name} is drawn under {parent}, not {bases}"


def _drawn(docstring: str) -> dict[str, str | None]:
    """Return each name in the drawing, with the name above it."""
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
