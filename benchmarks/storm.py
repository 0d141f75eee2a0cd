"""Storm: 200 clients in one room; each sends its next message when its last came back.

Every message goes to all 200 clients, so a message waits behind those of the others.  The figures
are frames a second over all members, and p50 and p99, one way, over all frames.

Every member's stream is checked: the messages of each sender must be complete and in order, and
all members must see one order (a rolling hash, compared every 64 messages and at the end).

Caveats: the faster a server is, the more its clients send; the latency is that of saturation
and shows the length of the queue.  Threads compete for the GIL very differently on an idle and
on a busy machine: compare figures of one run.
"""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_MEMBERS = 200


def cases(quick: bool) -> list[Case]:
    """Return the one case."""
    title = f"Storm: {_MEMBERS} clients that all talk in one room"
    return [Case("storm", f"{_MEMBERS} clients", title, Job("room"), "storm", _MEMBERS)]
