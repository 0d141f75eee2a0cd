"""A stalled member: a paced fan-out to 1,000 members, with and without one that stops reading.

The messages have 2,000 bytes.  The stalled member has the smallest buffers that the system gives,
so that the server notices it within the warm-up.  The figures are those of the other members: the
p99 with and without the stalled member, and the share of the frames that they get.

A server that blocks on a full socket delivers nothing more to any member.  Then ``delivered`` is
below 100 %, and the p99 is that of the few frames before.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.case import CPU, Case, Column, Measurement, Options, measure_traffic
from benchmarks.peers import Peer
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_MEMBERS = 1000
_RATE = 20
_DELIVERED = Column("delivered", "delivered %", 0, more_is_better=True)
_COLUMNS = (
    Column("p99_without", "p99 ms without", 1),
    Column("p99_ms", "p99 ms with", 1),
    Column("p99_ratio", "with / without", 1),
    _DELIVERED,
    CPU,
)


def cases(quick: bool) -> list[Case]:
    """Return the one case; it has both runs, so that they follow each other directly."""
    return [
        Case(
            "stalled",
            "1 of 1,000",
            f"Fan-out to {_MEMBERS:,} members, {_RATE} messages/s of 2,000 bytes: "
            "one stops reading",
            Job("publish", rate=_RATE, size=2000),
            "publish",
            _MEMBERS,
            ("--warmup", "2", "--drain", "5"),
            columns=_COLUMNS,
            chart=_DELIVERED,
            measure=_both,
        )
    ]


def _both(case: Case, peer: Peer, options: Options) -> Measurement:
    without = measure_traffic(case, peer, options)
    stalled = replace(case, client=(*case.client, "--stalled", "1"))
    measured = measure_traffic(stalled, peer, options)
    figures = dict(measured.figures)
    due = (_MEMBERS - 1) * _RATE * figures["seconds"]
    figures["delivered"] = min(100.0, 100.0 * figures["frames"] / due)
    if "p99_ms" in without.figures:
        figures["p99_without"] = without.figures["p99_ms"]
    if "p99_ms" in figures and figures.get("p99_without"):
        figures["p99_ratio"] = figures["p99_ms"] / figures["p99_without"]
    return Measurement(figures, {**without.faults, **measured.faults}, measured.note)
