"""Echo: each message goes back to its sender; 100-byte text.

One client with one message in flight shows the way through the server and back.  100 clients with
one message in flight add the cost of switching between clients.  100 clients with 16 messages in
flight spread that cost over many messages.

The figures are messages a second, and p50 and p99 of the round trip.  After each read, a client
sends its next messages in one send, as they would arrive from a network.
"""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]


def cases(quick: bool) -> list[Case]:
    """Return the cases 1 × 1, 100 × 1 and 100 × 16."""
    return [
        Case(
            "echo",
            f"{clients} x {window}",
            f"Echo: {clients} client{'s' * (clients > 1)}, {window} in flight"
            + " each" * (clients > 1),
            Job("echo"),
            "echo",
            clients,
            ("--window", str(window)),
        )
        for clients, window in ((1, 1), (100, 1), (100, 16))
    ]
