"""The table of limits names every limit, and takes each default from the code."""

from __future__ import annotations

import dataclasses

import pytest
from limits_table import ROWS, Row, default_of, limits_table

from hubthread import Limits
from hubthread.limits import LIMITS
from hubthread.net.udp.socket import MOST_UNHANDLED

SETTABLE = [row for row in ROWS if row.place]


def test_rows_have_each_limit_in_the_order_of_the_code() -> None:
    assert tuple(dict.fromkeys(row.counter for row in ROWS)) == LIMITS


def test_rows_have_each_field_of_limits() -> None:
    """Two fields say more about another one, and have no row."""
    named = {row.field for row in ROWS if row.place == "Limits"}
    fields = {field.name for field in dataclasses.fields(Limits)}
    assert fields - named == {"message_burst", "shared_addresses"}


@pytest.mark.parametrize("row", SETTABLE, ids=lambda row: f"{row.place}.{row.field}")
def test_default_is_a_number_or_no_limit(row: Row) -> None:
    default = default_of(row)
    assert default is None or default > 0
    assert row.reason


def test_default_of_unknown_field_raises() -> None:
    with pytest.raises(KeyError):
        default_of(SETTABLE[0]._replace(field="nothing"))


@pytest.mark.parametrize(
    "cell",
    ["10,000", "1,000", "10 s", "16 KB", "1 MB", "1,024", "none", "16,384", "8 MB", "64"],
)
def test_limits_table_writes_defaults_with_their_units(cell: str) -> None:
    assert f"     - {cell}" in limits_table()


def test_fixed_limit_is_the_code_s() -> None:
    (fixed,) = [row for row in ROWS if not row.place]
    assert f"At most {MOST_UNHANDLED} messages" in fixed.effect + fixed.reason
