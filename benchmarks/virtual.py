"""``python -m benchmarks.virtual``: the speed of virtual time in a room with members.

It runs 10,000 ticks; each is pushed to 10 members, which read it.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

from benchmarks.machine import describe
from benchmarks.report import print_machine
from hubthread import HotlineFrameOption, HubSetting
from hubthread.testing import VirtualHub

TICKS = 10_000
MEMBERS = 10
MESSAGE = "x" * 100
ROUNDS = 5


def measure() -> float:
    """Return the seconds of one round."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        room = HotlineFrameOption[Any](
            list, hz=20, logic=lambda frame, obj: frame.push(MESSAGE)
        ).run(hub.hotline())
        clients = [hub.connect() for _ in range(MEMBERS)]
        for client in clients:
            room.answer(client.ctx)
        began = perf_counter()
        hub.tick(room, TICKS)
        inboxes = [client.inbox for client in clients]
        took = perf_counter() - began
        if any(inbox != [MESSAGE] * TICKS for inbox in inboxes):
            raise AssertionError("a member did not get every message")
        return took


if __name__ == "__main__":
    print_machine(describe([]))
    rounds = sorted(measure() for _ in range(ROUNDS))
    print(
        f"{TICKS:,} ticks, {MEMBERS} members: {rounds[0]:.2f} to {rounds[-1]:.2f} s, "
        f"median {rounds[ROUNDS // 2]:.2f}"
    )
