"""The command that runs the tests of the faults and prints a table of the results.

::

    python -m tests.faults [--list] [NAME ...]

A NAME is a part of a fault's name, such as "TLS".  Exit status: 0 if every promise was kept,
1 if one was not, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

import pytest

from tests.faults.table import FAULTS, Fault

TESTS = Path(__file__).parents[1]
_WIDTHS = (26, 44, 58)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


class Seen:
    """The results of the tests; a plugin of pytest."""

    def __init__(self) -> None:
        self.passed: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.skipped: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        path, _, name = report.nodeid.partition("::")
        test = f"{path.removeprefix('tests/')}::{name.partition('[')[0]}"
        self.seconds[test] = self.seconds.get(test, 0.0) + report.duration
        if report.failed:
            self.failed[test] = self.failed.get(test, 0) + 1
        elif report.skipped:
            told = report.longrepr
            self.skipped[test] = str(told[2]) if isinstance(told, tuple) else str(told)
        elif report.when == "call":
            self.passed[test] = self.passed.get(test, 0) + 1
            figures = self.figures.setdefault(test, [])
            for key, value in report.user_properties:
                if key == "seen" and str(value) not in figures:
                    figures.append(str(value))

    def row(self, fault: Fault) -> tuple[str, bool]:
        """Return the text of a fault's row, and True if its promise was kept."""
        failed = sum(self.failed.get(test, 0) for test in fault.tests)
        passed = sum(self.passed.get(test, 0) for test in fault.tests)
        skipped = [self.skipped[test] for test in fault.tests if test in self.skipped]
        seconds = sum(self.seconds.get(test, 0.0) for test in fault.tests)
        kept = failed == 0 and (passed > 0 or bool(skipped))
        told = [f"{'kept' if kept else 'BROKEN'}: {passed} passed, {seconds:.1f} s"]
        if failed:
            told.append(f"{failed} failed")
        figures = [figure for test in fault.tests for figure in self.figures.get(test, [])]
        return "; ".join([*told, *skipped, *figures]), kept


def chosen(names: list[str], parser: argparse.ArgumentParser) -> list[Fault]:
    """Return the faults whose names contain one of ``names``; all faults without names."""
    found = [
        fault
        for fault in FAULTS
        if not names or any(name.lower() in fault.name.lower() for name in names)
    ]
    for name in names:
        if not any(name.lower() in fault.name.lower() for fault in found):
            parser.error(f"no fault {name!r}; --list shows all")
    return found


def main(arguments: list[str]) -> int:
    """List or run the faults; return the exit status."""
    parser = _Parser(prog="python -m tests.faults", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names (all)")
    parser.add_argument("--list", action="store_true", help="list the faults and the promises")
    asked = parser.parse_args(arguments)
    faults = chosen(asked.names, parser)
    if asked.list:
        for fault in faults:
            print(f"{fault.name:<40} {fault.promise}")
        return 0
    seen = Seen()
    tests = dict.fromkeys(str(TESTS / test) for fault in faults for test in fault.tests)
    status = pytest.main(["-q", *tests], plugins=[seen])
    print_row("fault", "promised", "seen")
    all_kept = True
    for fault in faults:
        told, kept = seen.row(fault)
        print_row(fault.name, fault.promise, told)
        all_kept &= kept
    return 0 if all_kept and status == 0 else 1


def print_row(*cells: str) -> None:
    """Three columns, each wrapped."""
    columns = [textwrap.wrap(cell, width) for cell, width in zip(cells, _WIDTHS, strict=True)]
    for line in range(max(map(len, columns))):
        parts = [column[line] if line < len(column) else "" for column in columns]
        row = "  ".join(f"{part:<{width}}" for part, width in zip(parts, _WIDTHS, strict=True))
        print(row.rstrip())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
