"""``python -m benchmarks``, from the root of the repository."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NoReturn

from benchmarks.case import Options
from benchmarks.charts import write_charts
from benchmarks.check import check
from benchmarks.machine import describe, load_average
from benchmarks.peers import PEERS, SUBJECT, Peer
from benchmarks.processes import Unavailable, compiled_load
from benchmarks.report import print_machine, print_table, write_json
from benchmarks.runner import WORKS, Result, cases_of, run


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _names(known: tuple[str, ...], what: str, text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are {', '.join(known)}")
    return names


def _at_least(low: float, kind: type[float] | type[int]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not low <= value < 1e6:
            raise argparse.ArgumentTypeError(
                f"expected a number of at least {low:g}, got {text!r}"
            )
        return value

    return convert


def _parser() -> _Parser:
    parser = _Parser(prog="benchmarks", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--work", type=lambda text: _names(WORKS, "work", text), default=list(WORKS),
        help=f"works to measure, comma-separated: {', '.join(WORKS)} (all)")  # fmt: skip
    add("--peer", type=lambda text: _names(tuple(PEERS), "peer", text), default=list(PEERS),
        help=f"peers to compare: {', '.join(PEERS)} (all that are installed)")  # fmt: skip
    add("--rounds", type=_at_least(1, int), help="rounds of each case (3; 1 if --quick)")
    add("--seconds", type=_at_least(0.2, float), help="seconds of each round (4; 1 if --quick)")
    add("--quick", action="store_true", help="a short run, to see that everything works")
    add("--check", action="store_true", help="for CI: compare hubthread with the bare loop only")
    add("--json", type=Path, metavar="FILE", help="write all figures to this file")
    add(
        "--charts",
        type=Path,
        metavar="DIR",
        help="write a chart of each case to this folder (SVG)",
    )
    return parser


def _installed(names: list[str]) -> list[Peer]:
    found = []
    for name in names:
        if PEERS[name].versions() is None:
            print(f"{name}: not installed (needs {', '.join(PEERS[name].needs)}); left out")
        else:
            found.append(PEERS[name])
    return found


def main(arguments: list[str]) -> int:
    """Measure and print the tables; return 1 if a stream of hubthread had a fault."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.json is not None and not asked.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder for {asked.json}")
    options = Options(
        asked.seconds or (1.0 if asked.quick else 4.0),
        asked.rounds or (1 if asked.quick else 3),
        asked.quick,
    )
    try:
        compiled_load()
    except Unavailable as error:
        parser.error(str(error))
    if asked.check:
        print_machine(describe([PEERS[SUBJECT]]))
        return check()
    peers = _installed(asked.peer)
    machine = describe(peers)
    print_machine(machine)
    results: list[Result] = []
    cases = cases_of(asked.work, options.quick)
    began = monotonic()
    for number, case in enumerate(cases, 1):
        minutes = (monotonic() - began) / 60
        print(f"case {number} of {len(cases)}, after {minutes:.0f} min: {case.title}")
        measured = run(case, peers, options)
        print_table(measured)
        results += measured
    machine["load after"] = load_average()
    if asked.json is not None:
        write_json(asked.json, machine, results)
    if asked.charts is not None:
        where = ", ".join(machine[key] for key in ("CPU", "Python", "date"))
        for path in write_charts(asked.charts, where, results):
            print(path)
    ours = [result for result in results if result.peer.name == SUBJECT]
    return int(any(result.faults() or result.unavailable for result in ours))


def _terminated(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
