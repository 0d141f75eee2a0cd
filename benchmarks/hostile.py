"""Hostile clients: what one of each kind costs the well-behaved, who are paced.

Fan-out to 1,000 members, 20 messages a second, and an echo of 1,000 messages a second over 100
clients: their p99 alone and beside one hostile client (``intruder``), which is a process of
its own.  Both are taken in one run: it is switched on and off in turns of two seconds (six for
the one that stops reading, whose buffers have to fill), so that whatever else the machine does
hits both.

Caveats: the hostile client and the load client share the machine with the server, so that on
one with few cores it costs by being there at all: its own CPU is shown beside the ratio.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import mean

from benchmarks.case import CPU, Case, Column, Measurement, Options, measure_traffic
from benchmarks.intruder import KINDS
from benchmarks.peers import SUBJECT, Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import ROOT, Unavailable, end, read_line

__all__ = ["cases"]

_RATIO = Column("p99_ratio", "beside / alone", 2)
_COLUMNS = (
    Column("even_p99_ms", "p99 ms alone", 1),
    Column("odd_p99_ms", "p99 ms beside", 1),
    _RATIO,
    Column("even_p50_ms", "p50 ms alone", 1),
    Column("odd_p50_ms", "p50 ms beside", 1),
    Column("hostile_rate", "its deeds/s", 1),
    Column("hostile_cpu", "its CPU", 1),
    CPU,
)


def cases(quick: bool) -> list[Case]:
    """Each kind beside a fan-out, and beside an echo."""
    found = []
    for kind in KINDS:
        # Large ones for who does not read: they are to fill its buffers.
        size, turns = (2000, 6) if kind == "stall" else (100, 2)
        for name, title, job, clients, client in (
            (
                "fan-out",
                "fan-out to 1,000 members, 20 messages/s",
                Job("publish", rate=20, size=size),
                1000,
                (),
            ),
            (
                "echo",
                "echo, 100 clients, 1,000 messages/s in all",
                Job("echo", size=size),
                100,
                ("--rate", "1000"),
            ),
        ):
            found.append(
                Case(
                    "hostile",
                    f"{kind}, {name}",
                    f"One client that {KINDS[kind].what}, beside {title}",
                    replace(job, deflate=kind == "bomb"),
                    job.mode,
                    clients,
                    ("--warmup", "1", "--turns", str(turns), *client),
                    columns=_COLUMNS,
                    chart=_RATIO,
                    measure=partial(_measure, kind, turns),
                    only=(SUBJECT,),
                )
            )
    return found


def _measure(kind: str, turns: float, case: Case, peer: Peer, options: Options) -> Measurement:
    told: list[dict[str, float]] = []
    options = replace(options, seconds=max(options.seconds, 2 * turns))
    measured = measure_traffic(case, peer, options, partial(_intruder, kind, told))
    figures = dict(measured.figures)
    if not told:
        raise Unavailable("the hostile client had no turn")
    for key in ("rate", "cpu"):
        figures[f"hostile_{key}"] = mean(each[key] for each in told)
    if figures["even_p99_ms"]:
        figures["p99_ratio"] = figures["odd_p99_ms"] / figures["even_p99_ms"]
    return Measurement(figures, measured.faults, measured.note)


@contextmanager
def _intruder(
    kind: str, told: list[dict[str, float]], port: int
) -> Iterator[Callable[[str], None]]:
    """It is on in the odd turns; what it says of each goes to ``told``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.intruder", kind, str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    pipe, on = process.stdin, False

    def at(phase: str) -> None:
        nonlocal on
        if (phase == "odd turn") == on:
            return
        on = not on
        pipe.write(b"on\n" if on else b"off\n")
        pipe.flush()
        if not on:
            line = read_line(process, 10.0)
            if not line:
                raise Unavailable("the hostile client has ended")
            told.append(json.loads(line))

    try:
        yield at  # its last turn is ended by "measured"
    finally:
        end(process)
