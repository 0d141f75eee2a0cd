"""Compression: fan-out with permessage-deflate (RFC 7692), messages of 1,000 bytes.

All agree on no context takeover, on either side, which the load client asks for.  So the
compressed message could be the same bytes for all members: who compresses it once for all,
and who for each?  The words compress to about a quarter, as chat or JSON does; ``on the
wire`` is what arrives, headers included, as a share of the payload.

Paced shows the CPU time, saturated the rate.  The load client checks every message, but
inflates those with the same bytes once.
"""

from __future__ import annotations

from benchmarks.case import CPU, P50, P99, RATE, RSS, Case, Column
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_ON_WIRE = Column("on_wire", "on the wire", 1)


def cases(quick: bool) -> list[Case]:
    """Paced and saturated."""
    return [
        Case(
            "compression",
            "paced",
            "Fan-out with compression: 500 members, 20 messages/s of 1,000 bytes",
            Job("publish", rate=20, size=1000, deflate=True),
            "publish",
            500,
            ("--deflate",),
            columns=(P50, P99, CPU, RSS, _ON_WIRE),
            chart=CPU,
        ),
        Case(
            "compression",
            "saturated",
            "Fan-out with compression: 500 members, as fast as it goes, 1,000 bytes",
            Job("publish", size=1000, deflate=True),
            "publish",
            500,
            ("--deflate",),
            columns=(RATE, P50, P99, CPU, RSS, _ON_WIRE),
        ),
    ]
