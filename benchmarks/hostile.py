"""Hostile clients: the latency of well-behaved clients beside one hostile client of each kind.

The well-behaved clients are a fan-out to 1,000 members with 20 messages a second, and an echo of
1,000 messages a second over 100 clients.  The hostile client (``intruder``) has a process of its
own.

One run alternates three phases of three seconds, so that other load on the machine affects all
three: no hostile client; the hostile client attacks another server on the same machine (its CPU
cost alone); the hostile client attacks the measured server.
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
from benchmarks.peers import SHARED, SUBJECT, Peer
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
    """Return a fan-out and an echo for each kind of hostile client."""
    found = []
    for kind in KINDS:
        # Large messages fill the buffers of a client that does not read.
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
                    only=(SUBJECT, SHARED),
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
    """Run one intruder at the other server in turn 1, and one at ``port`` in turn 2.

    :param told: gets the figures of the second.
    """
    with _intruder(kind, other) as elsewhere, _intruder(kind, port) as beside:

        def at(phase: str) -> None:
            elsewhere(phase == "turn 1")
            if said := beside(phase == "turn 2"):
                told.append(said)

        yield at  # "measured" ends the last turn


@contextmanager
def _intruder(kind: str, port: int) -> Iterator[Callable[[bool], dict[str, float] | None]]:
    """Run an intruder; yield a switch that returns its figures when it is switched off."""
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
