"""Ticks: the lateness of ticking rooms (``HotlineFrameOption``).

``hubthread`` has rooms that share tick threads, ``own-threads`` has rooms with a thread each
(``HotlineFrameOption(own_thread=True)``).  ``bare`` is one thread for each room that sleeps until
an absolute deadline: the limit.  At 60 Hz there are also the usual loops: sleep a whole period
after the work, sleep the rest of the period, a new ``threading.Timer`` for each tick.

A tick is late by the time from its deadline to its begin.  The deadlines form a grid of equal
periods.  A loop that drifts falls further behind with each tick.  A room that is late by a period
or more skips the missed ticks and counts them.

*60 Hz*: 4 ms of work in each tick.  *Beside*: the same, and the lateness of 200 rooms at 20 Hz
without work beside it.  *Stall*: one tick a second takes 300 ms; the skipped ticks must be counted
exactly, and later ticks must keep the grid.  *Rooms*: the lateness of 1,000 and of 3,000 rooms
without work, the time to make them, and the lateness of 100 rooms that compute.  (3,000 rooms with
a thread each take minutes to start.)  *Hub busy*: the hub thread computes for a second, while a
room at 20 Hz pushes to a client; no tick may be missed, and no push may wait.

Everything runs in one process of its own (``tick_loops``); there is no load client.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.case import Case, Column, Measurement, Options
from benchmarks.peers import BARE, SUBJECT, Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import Unavailable
from benchmarks.tick_loops import LOOPS, OWN

__all__ = ["cases"]

_RATE = Column("rate", "ticks/s", 3, more_is_better=True)
_P50 = Column("late_p50_ms", "late p50 ms", 2)
_P99 = Column("late_p99_ms", "p99 ms", 2)
_WORST = Column("late_max_ms", "worst ms", 1)
_CPU = Column("cpu", "CPU", 2)
_SKIPPED = Column("skipped", "skipped")
_OFF_GRID = Column("off_grid_ms", "off the grid ms", 2)
_PUSH = Column("push_p99_ms", "push p99 ms", 2)

_MADE = Column("made_s", "made in s", 2)
_QUIET = Column("quiet_p99_ms", "quiet rooms' p99 ms", 2)

_OWN = Peer(OWN, "hubthread, rooms with a thread each", "")
MOST_OWN = 1000
"""Rooms that have a thread each, at the most."""

_PEERS = tuple(Peer(name, what, "") for name, what in LOOPS.items() if name != BARE)
"""The usual loops, which take part at 60 Hz only."""


def cases(quick: bool) -> list[Case]:
    """Return the cases: one rate, a stall, many rooms, rooms with work, a busy hub."""
    loops = (_P50, _P99, _WORST, _SKIPPED, _CPU)
    return [
        _case("60 Hz", "A room at 60 Hz with 4 ms of work", 1, (_RATE, *loops), beside=_PEERS),
        _case("beside", "The same beside 200 rooms at 20 Hz", 200, (_RATE, _QUIET, *loops)),
        _case("stall", "A tick that takes 300 ms at 60 Hz", 1, (_SKIPPED, _OFF_GRID, _CPU)),
        _case("rooms", "1,000 rooms at 20 Hz", 1000, (_MADE, *loops), chart=_P99),
        _case("3,000 rooms", "3,000 rooms at 20 Hz", 3000, (_MADE, *loops), chart=_P99),
        _case("work", "100 rooms at 20 Hz, 0.5 ms of Python each", 100, loops, chart=_P99),
        _case("hub busy", "A room at 20 Hz while the hub thread computes", 1, (*loops, _PUSH)),
    ]


def _case(
    name: str,
    title: str,
    rooms: int,
    columns: tuple[Column, ...],
    *,
    chart: Column | None = None,
    beside: tuple[Peer, ...] = (),
) -> Case:
    alone = name in ("beside", "stall", "hub busy") or rooms > MOST_OWN
    only = (SUBJECT,) if alone else (SUBJECT, BARE)
    return Case(
        "ticks",
        name,
        title,
        Job(),
        name,
        rooms,
        columns=columns,
        chart=chart or columns[0],
        measure=_measure,
        only=only,
        beside=beside if rooms > MOST_OWN else (_OWN, *beside),
    )


def _measure(case: Case, peer: Peer, options: Options) -> Measurement:
    # A minute in three rounds, which is long enough to show drift.
    seconds = options.seconds * (1 if options.quick else 5)
    arguments = [case.mode, peer.name, str(case.clients), str(seconds)]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.tick_loops", *arguments],
            cwd=Path(__file__).parent.parent,
            check=True,
            capture_output=True,
            timeout=seconds + 60,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(said[-1] if said else str(error)) from None
    except subprocess.SubprocessError as error:
        raise Unavailable(str(error)) from None
    result = json.loads(run.stdout)
    return Measurement(result["figures"], result["faults"])
