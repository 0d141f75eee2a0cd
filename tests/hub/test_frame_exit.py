"""A program that ends with rooms at work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import TIMEOUT

PROGRAM = """
import threading
from hubthread import HotlineFrameOption, Hub, HubSetting

ticking = threading.Event()

def logic(frame, obj):
    frame.push("x")
    if frame.tick.index > 5:
        ticking.set()

hub = Hub(HubSetting(dict))
hub.start()
rooms = [
    HotlineFrameOption(
        list, logic, hz=500, on_close=lambda *_: print("closed", flush=True)
    ).run(hub.hotline())
    for _ in range(5)
]
ticking.wait()
"""


@contextmanager
def running(more: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ticking\n"
        yield process


def test_an_interpreter_exits_with_rooms_running() -> None:
    """Nobody has closed the hub: the threads end with the program, without a word."""
    with running("print('ticking')") as process:
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, errors) == (0, "", "")


def test_control_c_ends_the_rooms_in_order() -> None:
    """It strikes where the main thread waits for a room; each room has its last callback."""
    with running(
        "try:\n    print('ticking', flush=True)\n    rooms[0].join()\nfinally:\n    hub.close()"
    ) as process:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=TIMEOUT)
    assert out == "closed\n" * 5
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode != 0
