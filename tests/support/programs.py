"""Programs that each run in a process of their own, and share the time of the imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.waiting import TIMEOUT

__all__ = ["Outcome", "outcomes"]

# Forks for each program, before any thread runs.  A child leaves the loop and ends as a program.
_FORKS = """
import json, os, sys, tempfile
given = json.load(sys.stdin)
exec(given["imports"])
told = []
for program in given["programs"]:
    output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    child = os.fork()
    if child == 0:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for file in (output, errors):
        file.seek(0)
    told.append((output.read().decode(), errors.read().decode(), status))
else:
    print(json.dumps(told))
    program = ""
exec(program, {"__name__": "__main__"})
"""


class Outcome(NamedTuple):
    """The end of a program."""

    out: str
    err: str
    status: int


def outcomes(imports: str, programs: Sequence[str]) -> list[Outcome]:
    """Run programs one after the other; return how each has ended.

    :param imports: runs first, once for all; it must start no thread.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            given = json.dumps({"imports": imports, "programs": programs})
            told, _ = process.communicate(given, TIMEOUT * len(programs))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a program that does not end, too
            raise
    assert process.returncode == 0
    return [Outcome(*each) for each in json.loads(told)]
