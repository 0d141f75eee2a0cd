"""The table of Go names is complete, and each of its Python names exists."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
from port_table import PORT, port_table

import hubthread
from hubthread import Hub, HubSetting, IncrementByte
from tests.spec_names import NAMES

INSTANCES: dict[Any, Callable[[], Any]] = {
    Hub: lambda: Hub(HubSetting[Any, Any](dict)),
    IncrementByte: IncrementByte,
}
"""Functions that make objects of classes whose attributes are set in ``__init__``."""


def resolve(name: str) -> object:
    """Return the object of a name that ``import hubthread`` offers.

    :raises AttributeError: if there is no such attribute.
    """
    first, *rest = name.split(".")
    assert first in (*hubthread.__all__, "logging"), f"{first} is not exported"
    found: Any = logging if first == "logging" else getattr(hubthread, first)
    for part in rest:
        fields = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
        if part in {field.name for field in fields}:
            found = part  # a field without a default is not an attribute of the class
        elif not hasattr(found, part) and found in INSTANCES:
            found = getattr(INSTANCES[found](), part)
        else:
            found = getattr(found, part)
    return found


def test_spec_names_are_unique_and_follow_their_types() -> None:
    assert len(NAMES) == len(set(NAMES)) > 200
    types = {name for name in NAMES if "." not in name}
    assert {name.partition(".")[0] for name in NAMES} == types


def test_port_has_all_names_in_the_order_of_the_specification() -> None:
    assert [row.go for row in PORT] == NAMES


def test_port_table_has_a_row_for_each_name() -> None:
    assert sum(line.startswith("   * - ``") for line in port_table()) == len(NAMES)


def test_port_python_names_exist() -> None:
    missing = []
    for row in PORT:
        try:
            resolve(row.python)
        except (AttributeError, AssertionError) as error:
            missing.append(f"{row.go}: {row.python}: {error}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", ["Hub.nothing", "Nothing", "HubSetting.nothing", "errors"])
def test_resolve_unknown_name_raises(name: str) -> None:
    with pytest.raises((AttributeError, AssertionError)):
        resolve(name)
