"""Echo: each message goes back to its sender; 100-byte text.

One client with one message in flight: the way through the server and back, and nothing
else.  100 clients with one in flight: what it costs to change between clients.  100 with
16: what is left when that is spread over many messages.

Messages a second, and p50 and p99 there and back.  A client sends the messages that
follow on one read in one send, as they would come from a network.
"""

from __future__ import annotations

from benchmarks.case import Case
from benchmarks.peers.contract import Job

__all__ = ["cases"]


def cases(quick: bool) -> list[Case]:
    """1 × 1, 100 × 1 and 100 × 16."""
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
