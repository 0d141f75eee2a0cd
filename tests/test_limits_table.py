"""README.rst ("Limits") names every limit, and the defaults that it tells are the code's."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hubthread
from hubthread import Hub, Limits
from hubthread.limits import LIMITS
from hubthread.net.udp import socket as datagrams

README = Path(__file__).parents[1] / "README.rst"

UNITS = {"": 1, "s": 1, "KB": 1024, "MB": 1024**2}


class Row(NamedTuple):
    """One line of the table, its cells joined."""

    counter: str
    place: str
    field: str
    default: str
    why: str


def rows() -> list[Row]:
    _, _, section = README.read_text(encoding="utf-8").partition("\nLimits\n------\n")
    lines = section.splitlines()
    rule = next(line for line in lines if re.fullmatch("=+( =+){3}", line))
    columns = [match.span() for match in re.finditer("=+", rule)]
    ends = [number for number, line in enumerate(lines) if line == rule]
    found: list[list[str]] = []
    for line in lines[ends[1] + 1 : ends[2]]:
        cells = [line[begin:end].strip() for begin, end in columns]
        if cells[0]:
            found.append([""] * len(cells))
        found[-1] = [f"{old} {new}".strip() for old, new in zip(found[-1], cells, strict=True)]
    table = []
    for counter, place, default, why in found:
        names = re.findall("``(.+?)``", place) or [place, ""]
        table.append(Row(counter, names[0], names[1], default, why))
    return table


def value(text: str) -> float | None:
    """A default as the table has it: a number with or without a unit."""
    if text == "none":
        return None
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * UNITS[unit]


def default_of(place: str, field: str) -> Any:
    """A default as the code has it."""
    if place == "fixed":
        return datagrams.MOST_UNHANDLED
    if place.startswith("hub."):
        return inspect.signature(getattr(Hub, place[4:])).parameters[field].default
    fields = {each.name: each.default for each in dataclasses.fields(getattr(hubthread, place))}
    return fields[field]


def test_each_limit_is_in_the_table_in_the_order_of_the_code() -> None:
    assert tuple(dict.fromkeys(row.counter for row in rows())) == LIMITS


def test_each_field_of_limits_is_in_the_table() -> None:
    """But those that say more about another one."""
    told = {row.field for row in rows() if row.place == "Limits"}
    fields = {field.name for field in dataclasses.fields(Limits)}
    assert fields - told == {"message_burst", "shared_addresses"}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.place}.{row.field}")
def test_a_default_is_the_codes(row: Row) -> None:
    assert value(row.default) == default_of(row.place, row.field)
    assert row.why
