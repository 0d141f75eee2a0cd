"""The machine and the versions that the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from benchmarks.peers import Peer

__all__ = ["describe", "load_average", "thread_switch"]


def describe(peers: Iterable[Peer]) -> dict[str, str]:
    """Return the machine, the Python, the versions of the peers, and the date."""
    versions: dict[str, str] = {}
    for peer in peers:
        versions.update(peer.versions() or {})
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": f"{platform.python_implementation()} {platform.python_version()}{_threading()}",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "switch": f"{1e6 * thread_switch():.0f} µs from one thread to another",
        "load before": load_average(),
    }


def load_average() -> str:
    """Return the load averages of the last one and five minutes."""
    one, five, _ = os.getloadavg()
    return f"{one:.1f} {five:.1f}"


def thread_switch() -> float:
    """Return the seconds that one thread of Python takes to wake another, and to wait itself.

    Works with a thread for each connection or room depend on it, so figures of two machines can
    only be compared with it in mind.
    """
    rounds = 1000
    ping, pong = threading.Semaphore(0), threading.Semaphore(0)

    def answer() -> None:
        while True:
            ping.acquire()
            pong.release()
            if over:
                return

    over: list[bool] = []
    other = threading.Thread(target=answer)
    other.start()
    took = []
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(rounds):
            ping.release()
            pong.acquire()
        took.append(time.perf_counter() - began)
    over.append(True)
    ping.release()
    other.join()
    return median(took) / rounds / 2


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _threading() -> str:
    # From 3.13 on.  A free-threaded build may still run with the lock.
    enabled = getattr(sys, "_is_gil_enabled", None)
    return " free-threaded" if enabled is not None and not enabled() else ""
