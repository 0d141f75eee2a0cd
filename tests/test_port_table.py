"""Whoever knows the Go package finds each of its names in README.rst, and it is there."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hubthread
from hubthread import Hub, HubSetting, IncrementByte
from tests.spec_names import NAMES

README = Path(__file__).parents[1] / "README.rst"

INSTANCES: dict[Any, Callable[[], Any]] = {
    Hub: lambda: Hub(HubSetting[Any, Any](dict)),
    IncrementByte: IncrementByte,
}
"""How to make one of a class whose attributes are set when it is made."""


class Row(NamedTuple):
    go: str
    python: str


def table() -> list[Row]:
    """The rows of the section "From Go": the first name in each of their two cells."""
    text = README.read_text(encoding="utf-8")
    section = text.partition("\nFrom Go\n---")[2].partition("\n\n\n")[0]
    rows = re.findall(r"^``([\w.]+)`` +``([\w.]+)``(?:: \S.*)?$", section, re.MULTILINE)
    assert len(rows) == sum(line.startswith("``") for line in section.splitlines())
    return [Row(*cells) for cells in rows]


def shown(name: str) -> str:
    """``Client.Close`` stands as ``.Close`` under ``Client``."""
    owner, dot, member = name.partition(".")
    return dot + member if dot else owner


def resolve(name: str) -> object:
    """What ``name`` is, from what ``import hubthread`` offers; or an ``AttributeError``."""
    first, *rest = name.split(".")
    assert first in (*hubthread.__all__, "logging"), f"{first} is not exported"
    found: Any = logging if first == "logging" else getattr(hubthread, first)
    for part in rest:
        fields = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        if part in {field.name for field in fields}:
            found = part  # one without a default is no attribute of the class
        elif not hasattr(found, part) and found in INSTANCES:
            found = getattr(INSTANCES[found](), part)
        else:
            found = getattr(found, part)
    return found


def test_the_list_has_each_name_once() -> None:
    assert len(NAMES) == len(set(NAMES)) > 200
    types = {name for name in NAMES if "." not in name}
    assert {name.partition(".")[0] for name in NAMES} == types


def test_the_table_has_all_names_in_the_order_of_the_specification() -> None:
    assert [row.go for row in table()] == [shown(name) for name in NAMES]


def test_every_python_name_of_the_table_exists() -> None:
    missing = []
    for row in table():
        try:
            resolve(row.python)
        except (AttributeError, AssertionError) as error:
            missing.append(f"{row.go}: {row.python}: {error}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", ["Hub.nothing", "Nothing", "HubSetting.nothing", "errors"])
def test_the_check_finds_what_is_not_there(name: str) -> None:
    with pytest.raises((AttributeError, AssertionError)):
        resolve(name)
