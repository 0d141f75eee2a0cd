"""The short check for CI: ``python -m benchmarks --check``, in about half a minute.

It compares hubthread with the bare loop in the same minute on the same machine, so that a slow
machine alone does not fail.  The check fails if a ratio is far too low twice in a row, or if a
stream has lost, repeated or disordered messages.

The floors are about half of the lowest ratio seen on 2 cores, idle and busy: the noise between two
runs reaches a factor of 1.5.
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
"""The lowest ratio that passes: frames a second of hubthread to those of the bare loop."""

_OPTIONS = Options(seconds=1.0, rounds=2, quick=True)


def check() -> int:
    """Return 0 if every ratio is high enough and every stream was whole, else 1."""
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
        print(f"  {case.work} {case.name}: no figure of the bare loop: {bare.unavailable}")
        return False
    ratio = _best(ours) / _best(bare)
    print(
        f"  {case.work} {case.name}: {ratio:.2f} times the bare loop, expected at least {floor:g}"
    )
    return ratio >= floor


def _best(result: Result) -> float:
    # The best of the rounds: other load on the machine can only lower a figure.
    return max(result.values("rate"), default=0.0)
