"""Several processes that are one through Redis: latency, rate, many rooms, and recovery.

*Processes*: one server has a publisher and no members; one other, or three others, have ten
members each.  At 10,000 messages a second the figures are the latency from the push to the bytes
at a member of another process, and the CPU time of each process.  *As fast as it goes* is the
same without a rate: hubthread's publisher waits for its batches of 16, the others for each answer
of Redis.

*Script*: hubthread's script alone.  One connection sends a pipeline of 16 batches, one of 16
messages for each of 16 rooms, and reads the answers; nobody subscribes.

*16 a batch*: hubthread alone.  16 messages for each of 16 rooms in turn, as fast as Redis places
them: the backplane without a hub around it.  Two turns of a room may leave together, so the table
has the size of the batches.  *Hubs* are the same with a hub that pushes, and one
in another process that receives; there are no members.  *Placed* is until Redis has placed all.

*Rooms*: hubthread alone, with 10,000 rooms.  All connections to Redis are killed; *back* is the
time until each room is subscribed, and was looked into for what it had missed.  The commands that
Redis gets are counted in ten seconds in which nothing happens.  *bare* subscribes to as many
channels with redis-py, and does nothing else.

*Herd*: hubthread alone: 1,000 clients come to a process that has none of the room's history, and
recover 100 pushes each.  *Newcomers* are as many clients that recover nothing.

``bare`` is PUBLISH with redis-py.  Neither it nor python-socketio's Redis manager numbers, keeps
or finds what is lost.

Caveats: all processes and Redis share the machine.  The load client reads for all members.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module, metadata
from typing import Any

from benchmarks.case import CPU, FAULTS, P50, P99, Case, Column, Measurement, Options
from benchmarks.peers import BARE, SUBJECT, Peer
from benchmarks.peers.contract import Job, Stamper
from benchmarks.processes import ROOT, Server, Unavailable, end, run_load, serving, usage_of
from hubthread.publisher import Publisher

__all__ = ["cases"]

_ALL = (SUBJECT, "socketio", BARE)
_RATE = Column("rate", "messages/s", more_is_better=True)
_PLACED = Column("placed", "placed/s", more_is_better=True)
_PUBLISHER = Column("publisher_cpu", "publisher CPU", 2)
_REDIS = Column("redis_cpu", "Redis CPU", 2)
_BATCH = Column("batch", "a batch", 1, more_is_better=True)
_ATTACHED = Column("attached", "attached s", 2)
_BACK = Column("back", "back s", 2)
_COMMANDS = Column("commands", "idle commands/s", 2)
_OPEN = Column("open_s", "all in after s", 2)
_MEMBERS = 10
_HERD = 1000
_MISSED = 100


def cases(quick: bool) -> list[Case]:
    """Return the cases: latency and rate of two and four processes, rooms, and a herd."""
    flow = (_RATE, P50, P99, CPU, _PUBLISHER, _REDIS)
    paced = Job("publish", rate=10_000)
    rooms = 1000 if quick else 10_000
    made = [
        _case("2 processes", "2 processes, 10,000 messages/s", paced, 2, flow, P99),
        _case("4 processes", "4 processes, 10,000 messages/s", paced, 4, flow, P99),
        _case("2 saturated", "2 processes, as fast as it goes", Job("publish"), 2, flow, _RATE),
        _case("script", "16 rooms, 16 messages a batch, the script alone", Job(), 16,
              (_RATE, _BATCH, _PUBLISHER, _REDIS), _RATE, (SUBJECT,)),
        _case("16 a batch", "16 rooms, 16 messages a batch", Job(), 16,
              (_RATE, _BATCH, _PUBLISHER, _REDIS), _RATE, (SUBJECT,)),
        _case("hubs", "The same with hubs", Job(), 16,
              (_RATE, _PLACED, _BATCH, CPU, _PUBLISHER, _REDIS), _RATE, (SUBJECT,)),
        _case("rooms", f"{rooms:,} rooms after a reconnect", Job(), rooms,
              (_ATTACHED, _BACK, _COMMANDS), _BACK, (SUBJECT, BARE)),
        _case("herd", f"{_HERD:,} clients recover {_MISSED} pushes", Job("publish", since="?"),
              _HERD, (_OPEN, CPU, _REDIS), _OPEN, (SUBJECT,)),
        _case("newcomers", f"{_HERD:,} clients come", Job("publish"), _HERD,
              (_OPEN, CPU, _REDIS), _OPEN, (SUBJECT,)),
    ]  # fmt: skip
    return [made[0], made[4], made[6]] if quick else made


def _case(
    name: str,
    title: str,
    job: Job,
    clients: int,
    columns: tuple[Column, ...],
    chart: Column,
    only: tuple[str, ...] = _ALL,
) -> Case:
    return Case(
        "cluster",
        name,
        f"{title} ({_versions()})",
        job,
        name,
        clients,
        columns=columns,
        chart=chart,
        measure=_measure,
        only=only,
    )


@functools.cache
def _versions() -> str:
    found = []
    if shutil.which("redis-server") is not None:
        told = subprocess.run(["redis-server", "-v"], capture_output=True, text=True, check=False)
        found += [f"Redis {part[2:]}" for part in told.stdout.split() if part.startswith("v=")]
    for name in ("redis", "hiredis"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found) or "no Redis"


class _Redis:
    """A Redis server on a port of its own, which keeps nothing on disk."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def cpu(self) -> float:
        return usage_of(self.process).cpu_s


@contextlib.contextmanager
def _redis() -> Iterator[_Redis]:
    if shutil.which("redis-server") is None:
        raise Unavailable("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(
            ["redis-server", *options], stdout=subprocess.DEVNULL, stdin=subprocess.PIPE
        )
        try:
            for _ in range(500):
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", port)) as asked,
                ):
                    asked.sendall(b"PING\r\n")
                    if asked.recv(5) == b"+PONG":
                        break
                time.sleep(0.01)
            else:
                raise Unavailable("redis-server does not answer")
            yield _Redis(process, f"redis://127.0.0.1:{port}")
        finally:
            end(process)


def _measure(case: Case, peer: Peer, options: Options) -> Measurement:
    with _redis() as redis:
        if case.job.mode != "publish":
            return _of_rooms(case, peer, options, redis)
        if case.name in ("herd", "newcomers"):
            return _of_herd(case, peer, redis)
        return _of_flow(case, peer, options, redis)


def _of_flow(case: Case, peer: Peer, options: Options, redis: _Redis) -> Measurement:
    job = replace(case.job, redis=redis.url)
    with contextlib.ExitStack() as stack:
        publisher = stack.enter_context(serving(peer, job))
        servers = [stack.enter_context(serving(peer, job)) for _ in range(case.clients - 1)]
        usages: dict[str, list[float]] = {}
        all_in = threading.Barrier(len(servers), lambda: publisher.tell("go"))

        def load(server: Server) -> dict[str, object]:
            def at(phase: str) -> None:
                if phase == "opened":
                    all_in.wait(60)
                elif server is servers[0]:
                    cpus = [each.usage().cpu_s for each in (publisher, *servers)]
                    usages[phase] = [*cpus, redis.cpu()]
                    if phase == "measured":
                        publisher.tell("stop")

            arguments = [
                *("--mode", "publish", "--clients", str(_MEMBERS)),
                *("--size", str(job.size), "--seconds", str(options.seconds)),
                *("--warmup", "1.5", *peer.client),
            ]
            return run_load(server.port, arguments, options.seconds, at)

        with ThreadPoolExecutor(len(servers)) as pool:
            results = list(pool.map(load, servers))
    figures = [_figures(result) for result in results]
    faults: dict[str, int] = {}
    for found in figures:
        for name in FAULTS:
            if found[name]:
                faults[name] = faults.get(name, 0) + int(found[name])
    seconds = figures[0]["seconds"]
    used = [
        (after - before) / seconds
        for before, after in zip(usages["measuring"], usages["measured"], strict=True)
    ]
    return Measurement(
        {
            "rate": min(found["rate"] for found in figures) / _MEMBERS,
            "p50_ms": max(found["p50_ms"] for found in figures),
            "p99_ms": max(found["p99_ms"] for found in figures),
            "publisher_cpu": used[0],
            "cpu": sum(used[1:-1]) / len(servers),
            "redis_cpu": used[-1],
        },
        faults,
    )


def _figures(result: dict[str, object]) -> dict[str, float]:
    if "error" in result:
        raise Unavailable(str(result["error"]))
    return {key: float(v) for key, v in result.items() if isinstance(v, (int, float))}


def _of_herd(case: Case, peer: Peer, redis: _Redis) -> Measurement:
    with Publisher(redis.url) as publisher:
        stamper = Stamper(case.job.size)
        for _ in range(_MISSED):
            place = publisher.push("room", stamper.next())
    since = place.epoch if case.job.since else ""
    job = replace(case.job, redis=redis.url, since=since)
    with serving(peer, job) as server:
        before = server.usage().cpu_s, redis.cpu()
        used: list[float] = []

        def at(phase: str) -> None:
            if phase == "opened":
                used.extend((server.usage().cpu_s, redis.cpu()))

        arguments = [
            *("--mode", "publish", "--clients", str(case.clients), "--size", str(job.size)),
            *("--seconds", "0.2", "--warmup", "0.2", "--drain", "0"),
        ]
        found = _figures(run_load(server.port, arguments, 0.2, at))
    figures = {
        "open_s": found["open_s"],
        "cpu": used[0] - before[0],
        "redis_cpu": used[1] - before[1],
    }
    names = ("lost", "missing", "repeated", "broken", "failed")
    return Measurement(figures, {name: int(found[name]) for name in names if found[name]})


def _of_rooms(case: Case, peer: Peer, options: Options, redis: _Redis) -> Measurement:
    if peer.name == BARE:
        client: Any = import_module("redis").Redis.from_url(redis.url)
        channels = [f"room {number}" for number in range(case.clients)]
        pubsub = client.pubsub()
        begin = time.monotonic()
        pubsub.subscribe(*channels)
        for _ in channels:
            pubsub.get_message(timeout=10.0)
        return Measurement({"back": time.monotonic() - begin})
    program = {"16 a batch": "place"}.get(case.name, case.name)
    arguments = [program, redis.url, str(case.clients), str(options.seconds)]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.cluster_rooms", *arguments],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=120,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise Unavailable(said[-1] if said else str(error)) from None
    except subprocess.SubprocessError as error:
        raise Unavailable(str(error)) from None
    figures = json.loads(run.stdout)
    return Measurement(figures["figures"], figures["faults"])
