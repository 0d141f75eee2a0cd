"""One case of a work, and the measurement of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from benchmarks.peers import Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import Unavailable, run_load, serving

__all__ = ["FAULTS", "Case", "Column", "Measurement", "Options", "measure_traffic"]

FAULTS = ("lost", "missing", "repeated", "broken", "disordered", "incomplete", "failed")
"""Counts of the load client that must be zero."""


@dataclass(frozen=True)
class Column:
    """One figure of a case."""

    key: str
    heading: str
    digits: int = 0
    more_is_better: bool = False

    def show(self, value: float) -> str:
        """Return the value as text; values below 1 have one digit more."""
        digits = self.digits + 1 if self.digits and value < 1 else self.digits
        return f"{value:,.{digits}f}"


RATE = Column("rate", "frames/s", more_is_better=True)
P50 = Column("p50_ms", "p50 ms", 1)
P99 = Column("p99_ms", "p99 ms", 1)
CPU = Column("cpu", "server CPU", 1)
RSS = Column("rss_mb", "RSS MB", 0)


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    seconds: float = 4.0
    rounds: int = 3
    quick: bool = False


@dataclass(frozen=True)
class Measurement:
    """The figures of one run, and the faults of its streams."""

    figures: Mapping[str, float]
    faults: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Case:
    """One thing to measure, for each peer.

    :param client: options of the load client.
    :param columns: the figures of ``measure`` that the table shows.
    :param chart: the figure that the chart shows.
    :param only: the peers that take part, if not all.
    :param beside: peers of this case alone, which always take part.
    """

    work: str
    name: str
    title: str
    job: Job
    mode: str
    clients: int
    client: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (RATE, P50, P99, CPU, RSS)
    chart: Column = RATE
    measure: Callable[[Case, Peer, Options], Measurement] | None = None
    only: tuple[str, ...] = ()
    beside: tuple[Peer, ...] = ()

    def run(self, peer: Peer, options: Options) -> Measurement:
        """Measure once.

        :raises Unavailable: if the case cannot be measured here; the text says why.
        """
        return (self.measure or measure_traffic)(self, peer, options)


@contextmanager
def _nobody(port: int) -> Iterator[Callable[[str], None]]:
    yield lambda phase: None


def measure_traffic(
    case: Case,
    peer: Peer,
    options: Options,
    beside: Callable[[int], AbstractContextManager[Callable[[str], None]]] = _nobody,
) -> Measurement:
    """Run a server and the load client; return the figures of both.

    :param beside: makes another participant, from the server's port; it is told each phase.
    """
    with serving(peer, case.job) as server, beside(server.port) as tell:
        arguments = [
            *("--mode", case.mode, "--clients", str(case.clients)),
            *("--size", str(case.job.size), "--seconds", str(options.seconds)),
            *(*case.client, *peer.client),
        ]
        before = after = server.usage()

        def at(phase: str) -> None:
            nonlocal before, after
            if phase == "measuring":
                before = server.usage()
            elif phase == "measured":
                after = server.usage()
            tell(phase)

        result = run_load(server.port, arguments, options.seconds, at)
        if "error" in result:
            raise Unavailable(str(result["error"]))
        figures = {key: float(v) for key, v in result.items() if isinstance(v, (int, float))}
        if not figures["frames"]:  # no frame, no latency
            figures = {key: v for key, v in figures.items() if not key.endswith("_ms")}
        figures["cpu"] = (after.cpu_s - before.cpu_s) / figures["seconds"]
        figures["rss_mb"] = after.rss / 1e6
        figures["mb_s"] = figures["rate"] * case.job.size / 1e6
        figures["on_wire"] = figures["bytes"] / max(1.0, figures["frames"] * case.job.size)
        faults = {name: int(figures[name]) for name in FAULTS if figures[name]}
        note = str(result["fault"])
        if peer.name.endswith("unlocked"):
            faults.pop("disordered", None)
            note = "no common order"
        return Measurement(figures, faults, note)
