"""Fan-out: one publisher, 1,000 members, 100-byte text.

Paced: 20 messages a second, so 20,000 frames a second.  What counts is when they arrive
(p50 and p99, one way, over all members) and what it costs the server.  A loop over the
members cannot reach the last before it has served the others: p99 is about one loop.

Saturated: as fast as the server lets a publisher go (see each peer), frames delivered a
second.  A server without back-pressure buffers instead, and p99 says how much.

Caveats: client and server share the machine, and each frame that the server sends wakes
the client, on a machine with few cores at the cost of both.
"""

from __future__ import annotations

from benchmarks.case import CPU, P50, P99, RATE, RSS, Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_MEMBERS = 1000


def cases(quick: bool) -> list[Case]:
    """Paced and saturated."""
    return [
        Case(
            "fanout",
            "paced",
            f"Fan-out to {_MEMBERS:,} members, 20 messages/s",
            Job("publish", rate=20),
            "publish",
            _MEMBERS,
            columns=(P50, P99, CPU, RSS),
            chart=P99,
        ),
        Case(
            "fanout",
            "saturated",
            f"Fan-out to {_MEMBERS:,} members, as fast as it goes",
            Job("publish"),
            "publish",
            _MEMBERS,
            columns=(RATE, P50, P99, CPU, RSS),
        ),
    ]
