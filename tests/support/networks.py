"""A network namespace that stands for another machine, with a cable that a test may cut."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["another_machine", "ip"]


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def another_machine() -> Iterator[tuple[str, str]]:
    """Make a network namespace with a virtual cable; yield its name, and our address there.

    ``ip("-n", name, "link", "set", "far", "down")`` cuts the cable.

    Both belong to this process: another one may run the same test.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip(8) for a network namespace")
    name, cable = f"hubthread{os.getpid()}", f"ht{os.getpid()}"
    network = ipaddress.ip_network("10.192.0.0/11")[os.getpid() * 4 % 2**21]
    ours, theirs = network + 1, network + 2
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot make a network namespace: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", cable, "type", "veth", "peer", "name", "far", "netns", name)
        ip("addr", "add", f"{ours}/30", "dev", cable)
        ip("link", "set", cable, "up")
        ip("-n", name, "addr", "add", f"{theirs}/30", "dev", "far")
        ip("-n", name, "link", "set", "far", "up")
        yield name, str(ours)
    finally:
        ip("netns", "del", name)
        # The cable disappears with the namespace, but a moment later.
        subprocess.run(["ip", "link", "del", cable], check=False, capture_output=True)
