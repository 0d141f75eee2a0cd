"""Programs that exit while rooms run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import TIMEOUT

PROGRAM = """
import os, signal, threading
from hubthread import HotlineFrameOption, Hub, HubSetting

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
ticking = threading.Event()

def logic(frame, obj):
    frame.push("x")
    if frame.tick.index > 5:
        ticking.set()

hub = Hub(HubSetting(dict))
hub.start()
rooms = [
    HotlineFrameOption(
        list,
        logic,
        hz=500,
        on_close=lambda *_: os.write(1, b"closed\\n"),
        own_thread=OWN_THREAD,
    ).run(hub.hotline())
    for _ in range(5)
]
ticking.wait()
"""


@contextmanager
def running(own_thread: bool, more: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", f"OWN_THREAD = {own_thread}\n{PROGRAM}{more}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ticking\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("own_thread", [False, True])
def test_exit_with_rooms_running_is_silent(own_thread: bool) -> None:
    """The hub is not closed: the threads end with the program, and print nothing."""
    with running(own_thread, "print('ticking')") as process:
        out, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, errors) == (0, "", "")


WAIT = """
try:
    print("ticking", flush=True)
    while not rooms[0].join(0.05):  # Python itself may miss a signal before a wait for ever
        pass
finally:
    hub.close()
"""


@pytest.mark.parametrize("own_thread", [False, True])
def test_control_c_while_the_main_thread_joins_a_room_ends_all_rooms(own_thread: bool) -> None:
    """KeyboardInterrupt comes out of ``join``; each room has its last callback."""
    with running(own_thread, WAIT) as process:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=TIMEOUT)
    assert out == "closed\n" * 5
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode != 0
