"""Compression: fan-out with permessage-deflate (RFC 7692), messages of 1,000 bytes.

The load client asks for no context takeover on either side.  A server can then compress a message
once for all members.  The messages compress to about a quarter, as chat or JSON does.  ``on the
wire`` is the share of the payload's size that arrives, headers included.

The paced case shows the CPU time, the saturated case the rate.  The load client checks every
message, but inflates equal bytes only once.
"""

from __future__ import annotations

from benchmarks.case import CPU, P50, P99, RATE, RSS, Case, Column
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_ON_WIRE = Column("on_wire", "on the wire", 1)


def cases(quick: bool) -> list[Case]:
    """Return the paced and the saturated case."""
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
