"""Idle connections: 1,000, 10,000 and 19,000 that send nothing after their handshake.

The figures are the connections opened a second (64 handshakes at a time), the memory of each
(growth of the server's resident memory), and the CPU time while they are idle.

Caveats: the figures leave out the kernel's memory (sockets, kernel stacks of threads).  They
leave out pings, because the measured seconds are fewer than any keepalive period.  10,000
connections need as many descriptors in two processes, and a server with a thread for each needs
as many threads; if a limit of the system is lower, the table has the connections that were opened.
"""

from __future__ import annotations

from benchmarks.case import Case, Column, Measurement, Options
from benchmarks.peers import Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import run_load, serving

__all__ = ["cases"]

_OPEN_RATE = Column("open_rate", "connections/s", more_is_better=True)
_COLUMNS = (
    Column("opened", "held", more_is_better=True),
    _OPEN_RATE,
    Column("kb_each", "KB each", 1),
    Column("threads", "threads"),
    Column("cpu", "idle CPU", 2),
)


def cases(quick: bool) -> list[Case]:
    """Return the cases; a quick run has only the first."""
    return [
        Case(
            "idle",
            f"{count:,}",
            f"{count:,} idle connections",
            Job("echo"),
            "idle",
            count,
            columns=_COLUMNS,
            chart=_OPEN_RATE,
            measure=_measure,
        )
        for count in ((1000,) if quick else (1000, 10_000, 19_000))
    ]


def _measure(case: Case, peer: Peer, options: Options) -> Measurement:
    with serving(peer, case.job) as server:
        usages = [server.usage()]
        result = run_load(
            server.port,
            [
                *("--mode", case.mode, "--clients", str(case.clients), "--warmup", "0.5"),
                *("--seconds", str(options.seconds), *case.client, *peer.client),
            ],
            options.seconds,
            lambda phase: usages.append(server.usage()),
        )
    before, _, idle, after = usages  # at the start, and at the three phases
    opened, lost = float(str(result["opened"])), float(str(result["lost"]))
    held = opened - lost
    figures = {
        "opened": held,
        "open_rate": opened / max(1e-9, float(str(result["open_s"]))),
        # Not of the last phase, whose announcement the clients follow by leaving.
        "kb_each": (idle.rss - before.rss) / 1024 / max(1.0, held),
        "threads": idle.threads,
        "cpu": (after.cpu_s - idle.cpu_s) / options.seconds,
    }
    missing = case.clients - int(held)
    return Measurement(figures, {"not held": missing} if missing else {})
