"""Functions that are called at the end of a process."""

from __future__ import annotations

import subprocess
import sys

from tests.support import TIMEOUT

PROGRAM = """
import atexit, threading
from hubthread.concurrency.ending import at_end, forget
atexit.register(print, "atexit")
done = lambda: print("forgotten")
at_end(lambda: print(pool.submit(lambda: "first")))
at_end(lambda: print(pool.submit(lambda: "last").result()))
at_end(done)
forget(done)
forget(done)
# Imported last: an executor ends before the functions that were registered before its import.
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
pool.submit(lambda: None)
"""


def test_at_end_functions_run_before_executors_and_atexit_end() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    last, first, at_exit = ended.stdout.split("\n")[:3]
    assert (last, first[:7], at_exit) == ("last", "<Future", "atexit"), ended.stderr
    assert ended.stderr == ""
