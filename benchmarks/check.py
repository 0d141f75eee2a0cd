"""The short check for CI: ``python -m benchmarks --check``, in about half a minute.

It compares hubthread with the bare loop, and a room with a history with one without, in the same
minute on the same machine, so that a slow machine alone does not fail.  The check fails if a ratio
is far too low twice in a row, or if a stream has lost, repeated or disordered messages.

The floors are about half of the lowest ratio seen on 2 cores, idle and busy: the noise between two
runs reaches a factor of 1.5.
"""

from __future__ import annotations

from benchmarks.case import Case, Options
from benchmarks.peers import BARE, HISTORY, PEERS, SUBJECT
from benchmarks.runner import Result, cases_of, run

__all__ = ["check"]

FLOORS = {
    ("fanout", "saturated"): [(SUBJECT, BARE, 8.0)],
    ("storm", "200 clients"): [(SUBJECT, BARE, 5.5), (HISTORY, SUBJECT, 0.45)],
    ("echo", "100 x 16"): [(SUBJECT, BARE, 0.4)],
}
"""Two peers, and the lowest ratio that passes: frames a second of the first to those of the
second."""

_OPTIONS = Options(seconds=1.0, rounds=2, quick=True)


def check() -> int:
    """Return 0 if every ratio is high enough and every stream was whole, else 1."""
    failed = 0
    for case in cases_of(["fanout", "storm", "echo"], quick=True):
        for one, other, floor in FLOORS.get((case.work, case.name), ()):
            if not (_holds(case, one, other, floor) or _holds(case, one, other, floor)):
                failed = 1
    print("FAILED" if failed else "ok")
    return failed


def _holds(case: Case, one: str, other: str, floor: float) -> bool:
    ours, theirs = run(case, [PEERS[one], PEERS[other]], _OPTIONS)
    if ours.unavailable or ours.faults():
        print(f"  {case.work} {case.name}: {ours.unavailable or ours.faults()}")
        return False
    if not (_best(ours) and _best(theirs)):
        print(f"  {case.work} {case.name}: no figure of {other}: {theirs.unavailable}")
        return False
    ratio = _best(ours) / _best(theirs)
    print(f"  {case.work} {case.name}: {one} is {ratio:.2f} times {other}, at least {floor:g}")
    return ratio >= floor


def _best(result: Result) -> float:
    # The best of the rounds: other load on the machine can only lower a figure.
    return max(result.values("rate"), default=0.0)
