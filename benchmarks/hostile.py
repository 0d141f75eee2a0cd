"""Hostile clients: what one of each kind costs the well-behaved, who are paced.

Fan-out to 1,000 members, 20 messages a second, and an echo of 1,000 messages a second over 100
clients: their p99 alone and beside one hostile client (``intruder``), which is a process of
its own.  Both are taken in one run, in turns of three seconds, so that whatever else the machine
does hits both.

The hostile client and the load client share the machine with the server, so that on one with
few cores it costs by being there at all.  So there are turns of a third kind, in which it does
the same to another server, a process of its own on the same machine: what it costs then is the
machine's, and no server could do better by anything but spending less time on it.
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
from benchmarks.processes import ROOT, Unavailable, end, read_line, serving

__all__ = ["cases"]

_TURN_S = 3.0
_RATIO = Column("p99_ratio", "beside / alone", 2)
_COLUMNS = (
    Column("turn0_p99_ms", "p99 ms alone", 1),
    Column("turn1_p99_ms", "elsewhere", 1),
    Column("turn2_p99_ms", "beside", 1),
    Column("machine_ratio", "elsewhere / alone", 2),
    _RATIO,
    Column("turn0_p50_ms", "p50 ms alone", 1),
    Column("turn1_p50_ms", "elsewhere", 1),
    Column("turn2_p50_ms", "beside", 1),
    Column("hostile_rate", "its deeds/s", 1),
    Column("hostile_cpu", "its CPU", 1),
    CPU,
)


def cases(quick: bool) -> list[Case]:
    """Each kind beside a fan-out, and beside an echo."""
    found = []
    for kind in KINDS:
        # Large ones for who does not read: they are to fill its buffers.
        size = 4000 if kind == "stall" else 100
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
                    ("--warmup", "1", "--turns", str(_TURN_S), *client),
                    columns=_COLUMNS,
                    chart=_RATIO,
                    measure=partial(_measure, kind),
                    only=(SUBJECT,),
                )
            )
    return found


def _measure(kind: str, case: Case, peer: Peer, options: Options) -> Measurement:
    told: list[dict[str, float]] = []
    options = replace(options, seconds=max(options.seconds, 3 * _TURN_S))
    with serving(peer, case.job) as other:
        beside = partial(_intruders, kind, told, other.port)
        measured = measure_traffic(case, peer, options, beside)
    figures = dict(measured.figures)
    if not told:
        raise Unavailable("the hostile client had no turn")
    for key in ("rate", "cpu"):
        figures[f"hostile_{key}"] = mean(each[key] for each in told)
    if alone := figures.get("turn0_p99_ms"):  # none where no frame came
        figures["machine_ratio"] = figures["turn1_p99_ms"] / alone
        figures["p99_ratio"] = figures["turn2_p99_ms"] / alone
    return Measurement(figures, measured.faults, measured.note)


@contextmanager
def _intruders(
    kind: str, told: list[dict[str, float]], other: int, port: int
) -> Iterator[Callable[[str], None]]:
    """One for the other server, in turn 1, and one in turn 2, of whom ``told`` is told."""
    with _intruder(kind, other) as elsewhere, _intruder(kind, port) as beside:

        def at(phase: str) -> None:
            elsewhere(phase == "turn 1")
            if said := beside(phase == "turn 2"):
                told.append(said)

        yield at  # the last turn is ended by "measured"


@contextmanager
def _intruder(kind: str, port: int) -> Iterator[Callable[[bool], dict[str, float] | None]]:
    """Switches it on and off; gives what it says when it was switched off."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.intruder", kind, str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    pipe, is_on = process.stdin, False

    def switch(on: bool) -> dict[str, float] | None:
        nonlocal is_on
        if on == is_on:
            return None
        is_on = on
        pipe.write(b"on\n" if on else b"off\n")
        pipe.flush()
        if on:
            return None
        line = read_line(process, 10.0)
        if not line:
            raise Unavailable("the hostile client has ended")
        said: dict[str, float] = json.loads(line)
        return said

    try:
        yield switch
    finally:
        end(process)
