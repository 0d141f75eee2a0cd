"""Results for people (a table) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.case import Column
from benchmarks.peers import SUBJECT
from benchmarks.runner import Result

__all__ = ["print_machine", "print_table", "write_json"]


def print_machine(machine: Mapping[str, str]) -> None:
    """Print the machine and the versions."""
    for name, value in machine.items():
        print(f"{name + ':':<13}{value}")
    print()


def print_table(results: Sequence[Result]) -> None:
    """Print medians with the range of the rounds, and the ratio of the chart's figure."""
    if not results:
        return
    case = results[0].case
    print(f"\n{case.title}")
    heading = ["", *(column.heading for column in case.columns), "ratio", "faults"]
    rows = [heading]
    for result in results:
        cells = [_cell(result, column) for column in case.columns]
        rows += [[result.peer.name, *cells, _ratio(result, results), _faults(result)]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())
    print()


def _cell(result: Result, column: Column) -> str:
    values = result.values(column.key)
    if not values:
        return "-"
    middle = result.median(column.key)
    assert middle is not None
    text = column.show(middle)
    if len(values) > 1:
        text += f" ({column.show(min(values))} to {column.show(max(values))})"
    return text


def _ratio(result: Result, results: Sequence[Result]) -> str:
    """Return how many times better hubthread is, by the figure of the chart."""
    column = result.case.chart
    ours = next((one.median(column.key) for one in results if one.peer.name == SUBJECT), None)
    theirs = result.median(column.key)
    if not ours or not theirs or result.peer.name == SUBJECT:
        return ""
    return f"{ours / theirs if column.more_is_better else theirs / ours:,.2f}"


def _faults(result: Result) -> str:
    if result.unavailable:
        return result.unavailable
    parts = [f"{count:,} {name}" for name, count in result.faults().items()]
    return ", ".join([*parts, *sorted({one.note for one in result.rounds if one.note})])


def write_json(path: Path, machine: Mapping[str, str], results: Sequence[Result]) -> None:
    """Write all figures, including those of each round."""
    document = {
        "machine": dict(machine),
        "results": [
            {
                "work": result.case.work,
                "case": result.case.name,
                "title": result.case.title,
                "peer": result.peer.name,
                "what": result.peer.what,
                "unavailable": result.unavailable or None,
                "faults": result.faults(),
                "medians": {
                    column.key: result.median(column.key) for column in result.case.columns
                },
                "rounds": [
                    {"figures": dict(one.figures), "faults": dict(one.faults), "note": one.note}
                    for one in result.rounds
                ],
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
