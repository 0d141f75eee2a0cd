"""The runner, which alternates between the peers round by round."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.case import Case, Measurement, Options
from benchmarks.peers import Peer
from benchmarks.processes import Unavailable

__all__ = ["WORKS", "Result", "cases_of", "run"]

WORKS = (
    "fanout",
    "storm",
    "echo",
    "stalled",
    "hostile",
    "idle",
    "blocking",
    "closures",
    "large",
    "compression",
    "tls",
    "ticks",
    "cluster",
)


@dataclass
class Result:
    """The measurements of one case for one peer."""

    case: Case
    peer: Peer
    rounds: list[Measurement] = field(default_factory=list)
    unavailable: str = ""

    def values(self, key: str) -> list[float]:
        """Return the values of a figure, one for each round."""
        return [one.figures[key] for one in self.rounds if key in one.figures]

    def median(self, key: str) -> float | None:
        """Return the median of a figure; None without a round."""
        values = self.values(key)
        return median(values) if values else None

    def faults(self) -> dict[str, int]:
        """Return the faults of all rounds together."""
        total: dict[str, int] = {}
        for one in self.rounds:
            for name, count in one.faults.items():
                total[name] = total.get(name, 0) + count
        return total


def cases_of(works: Sequence[str], quick: bool) -> list[Case]:
    """Return the cases of these works, in order."""
    found: list[Case] = []
    for work in works:
        found.extend(importlib.import_module(f"benchmarks.{work}").cases(quick))
    return found


def run(case: Case, peers: Sequence[Peer], options: Options) -> list[Result]:
    """Run all rounds of one case; each round runs all peers, each with a fresh server."""
    results = [Result(case, peer) for peer in peers if _takes_part(peer, case)]
    results += [Result(case, peer) for peer in case.beside]
    for number in range(1, options.rounds + 1):
        for result in results:
            if result.unavailable:
                continue
            place = f"{case.work} {case.name}, round {number}/{options.rounds}"
            print(f"  {place}: {result.peer.name:<20}", end=" ", flush=True)
            start = time.monotonic()
            try:
                measured = case.run(result.peer, options)
            except Unavailable as error:
                result.unavailable = str(error)
                print(f"not measured: {error}")
                continue
            result.rounds.append(measured)
            print(_one_line(case, measured), f"({time.monotonic() - start:.0f} s)")
    return results


def _takes_part(peer: Peer, case: Case) -> bool:
    return case.work not in peer.without and (not case.only or peer.name in case.only)


def _one_line(case: Case, measured: Measurement) -> str:
    figures: Mapping[str, float] = measured.figures
    shown = [
        f"{column.heading} {column.show(figures[column.key])}"
        for column in case.columns
        if column.key in figures
    ]
    faults = [f"{count} {name}" for name, count in measured.faults.items()]
    return ", ".join([*shown, *faults, *([measured.note] if measured.note else [])])
