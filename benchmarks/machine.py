"""The machine and the versions that the figures were measured on."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.peers import Peer

__all__ = ["describe", "load_average"]


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
        "load before": load_average(),
    }


def load_average() -> str:
    """Return the load averages of the last one and five minutes."""
    one, five, _ = os.getloadavg()
    return f"{one:.1f} {five:.1f}"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _threading() -> str:
    # From 3.13 on.  A free-threaded build may still run with the lock.
    enabled = getattr(sys, "_is_gil_enabled", None)
    return " free-threaded" if enabled is not None and not enabled() else ""
