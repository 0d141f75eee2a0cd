"""The short lane for CI: ``python -m benchmarks --check``, in about half a minute.

It holds hubthread against the bare loop in the same minute on the same machine, so a slow
machine fails nothing: only a ratio far below what it was does, twice in a row, or a stream
with something lost, repeated or out of order.

The floors are about half of the lowest ratio seen on 2 cores with CPython 3.11, idle and
busy alike: noise between two neighbours in time reaches a factor of 1.5.
"""

from __future__ import annotations

from benchmarks.case import Case, Options
from benchmarks.peers import BARE, PEERS, SUBJECT
from benchmarks.runner import Result, cases_of, run

__all__ = ["check"]

FLOORS = {
    ("fanout", "saturated"): 8.0,
    ("storm", "200 clients"): 5.5,
    ("echo", "100 x 16"): 0.4,
}
"""Frames a second of hubthread over those of the bare loop: the least that passes."""

_OPTIONS = Options(seconds=1.0, rounds=2, quick=True)


def check() -> int:
    """0 when every ratio holds and every stream was whole, else 1."""
    failed = 0
    for case in cases_of(["fanout", "storm", "echo"], quick=True):
        floor = FLOORS.get((case.work, case.name))
        if floor is not None and not (_holds(case, floor) or _holds(case, floor)):
            failed = 1
    print("FAILED" if failed else "ok")
    return failed


def _holds(case: Case, floor: float) -> bool:
    ours, bare = run(case, [PEERS[SUBJECT], PEERS[BARE]], _OPTIONS)
    if ours.unavailable or ours.faults():
        print(f"  {case.work} {case.name}: {ours.unavailable or ours.faults()}")
        return False
    if not (_best(ours) and _best(bare)):
        print(f"  {case.work} {case.name}: no figure to compare with: {bare.unavailable}")
        return False
    ratio = _best(ours) / _best(bare)
    print(f"  {case.work} {case.name}: {ratio:.2f} times the bare loop, at least {floor:g} wanted")
    return ratio >= floor


def _best(result: Result) -> float:
    # The best of the rounds: what else a machine does only ever takes something away.
    return max(result.values("rate"), default=0.0)
