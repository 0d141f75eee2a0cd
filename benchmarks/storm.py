"""Storm: 200 clients in one room, each sends its next message when its last came back.

Every message goes to all 200, so a client's message stands behind those of the others.
Frames delivered a second over all members; p50 and p99 one way, over all frames.

Every member's stream is checked: each sender's messages without a gap and in order, and
all members in the same order (a rolling hash, compared every 64 messages and at the end).

Caveats: the faster a server, the more its clients say; latency is that of saturation, and
says how long the queue is.  Threads that fight for one interpreter lock do so very
differently on an idle and on a busy machine: compare within one run.
"""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_MEMBERS = 200


def cases(quick: bool) -> list[Case]:
    """The one storm."""
    title = f"Storm: {_MEMBERS} clients that all talk in one room"
    return [Case("storm", f"{_MEMBERS} clients", title, Job("room"), "storm", _MEMBERS)]
