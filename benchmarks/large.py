"""Large messages: 1 MiB of text, echoed by four clients, and fanned out to 20 members.

The figures are megabytes of payload a second, and latency.  The size is the default limit of
hubthread and websockets (1 MiB).

Caveats: simple-websocket sends each message with one call of ``socket.send`` and ignores how much
was sent.  If its stream breaks, the table says so.
"""

from __future__ import annotations

from benchmarks.case import CPU, P50, P99, RSS, Case, Column
from benchmarks.peers.contract import Job

__all__ = ["cases"]

_SIZE = 1 << 20
_RATE = Column("mb_s", "MB/s", more_is_better=True)
_COLUMNS = (_RATE, P50, P99, CPU, RSS)


def cases(quick: bool) -> list[Case]:
    """Return the echo and the fan-out."""
    return [
        Case(
            "large",
            "echo",
            "Messages of 1 MiB: echo, 4 clients, 1 in flight each",
            Job("echo", size=_SIZE),
            "echo",
            4,
            columns=_COLUMNS,
            chart=_RATE,
        ),
        Case(
            "large",
            "fan-out",
            "Messages of 1 MiB: fan-out to 20 members, as fast as it goes",
            # A batch of 16 messages would not fit into a member's outbox.
            Job("publish", size=_SIZE, window=2),
            "publish",
            20,
            columns=_COLUMNS,
            chart=_RATE,
        ),
    ]
