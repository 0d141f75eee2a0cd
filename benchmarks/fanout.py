"""Fan-out: one publisher, 1,000 members, 100-byte text.

Paced: 20 messages a second, so 20,000 frames a second.  The figures are the latency (p50 and p99,
one way, over all members) and the server's CPU time.  A loop over the members reaches the last
member after all others: p99 is about the time of one loop.

Saturated: frames a second, as fast as the server lets a publisher go (see each peer).  A server
without backpressure buffers instead; p99 shows how much.

Caveats: client and server share the machine.  Each frame wakes the client, which slows both
down on a machine with few cores.
"""

from __future__ import annotations

from benchmarks.case import CPU, P50, P99, RATE, RSS, Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_MEMBERS = 1000


def cases(quick: bool) -> list[Case]:
    """Return the paced and the saturated case."""
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
