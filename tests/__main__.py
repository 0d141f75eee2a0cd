"""Run the suite in parts: ``python -m tests [PART ...] [OPTION OF PYTEST ...]``.

light       most tests, several files at a time
interrupts  every public call, interrupted at every line; not under coverage, which traces, too
autobahn    the Autobahn suite, which mostly waits
load        thousands of connections or much traffic: alone, one test at a time

Without a PART all four run.  The parts above ``load`` run at the same time, and the output of a
part comes in one piece; ``load`` runs after them.  Each part ends with the tests that it
skipped and the reasons.  The options go to pytest in every part: ``python -m tests light -x``.
Exit status: 0 if every part passed, 1 otherwise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NO_TESTS_COLLECTED = 5
"""pytest's exit status when the options leave no test; not a failure of a part."""


def workers() -> int:
    """Return how many tests run at a time: most tests wait for a peer most of the time."""
    return max(3, min(8, (os.cpu_count() or 1) + 1))


PARTS = {
    "light": [
        *("-m", "not interrupts and not load and not autobahn"),
        *("-n", str(workers()), "--dist", "loadfile", "--no-loadscope-reorder"),
    ],
    "interrupts": ["-m", "interrupts", "-n", "2", "--dist", "load"],
    "autobahn": ["-m", "autobahn", "-n", "2", "--dist", "load"],
    "load": ["-m", "load"],
}
"""The options of pytest that select and run each part."""

FOLDERS = {"interrupts": "tests/interrupts", "autobahn": "tests/autobahn"}
"""The folder that has all tests of a part, unless the arguments name other places."""


def command(part: str, arguments: list[str]) -> list[str]:
    """Return the command that runs a part."""
    named = any(Path(argument.partition("::")[0]).exists() for argument in arguments)
    places = [FOLDERS[part]] if part in FOLDERS and not named else []
    return [sys.executable, "-m", "pytest", "-rs", *PARTS[part], *places, *arguments]


def run(parts: list[str], arguments: list[str]) -> list[int]:
    """Run parts at the same time; print the output of each when all before it have ended."""
    first, *others = parts
    with contextlib.ExitStack() as stack:
        begun = []
        for part in others:
            output = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                command(part, arguments), stdout=output, stderr=subprocess.STDOUT
            )
            begun.append((part, process, output))
        print(f"-- {first}", flush=True)
        statuses = [subprocess.run(command(first, arguments), check=False).returncode]
        for part, process, output in begun:
            statuses.append(process.wait())
            print(f"-- {part}", flush=True)
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()
    return statuses


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    # A shell may have started this with Ctrl-C ignored, which the tests of Ctrl-C would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
            # Every process of a test would compile everything again.
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ["PYTHONPYCACHEPREFIX"] = folder
        return run_all(arguments)


def run_all(arguments: list[str]) -> int:
    """Run the parts that the arguments begin with, or all; return the exit status."""
    chosen = []
    while arguments and arguments[0] in PARTS:
        chosen.append(arguments.pop(0))
    chosen = chosen or list(PARTS)
    start = time.monotonic()
    told: dict[str, int] = {}
    for group in ([part for part in chosen if part != "load"], ["load"] * ("load" in chosen)):
        if group:
            told.update(zip(group, run(group, arguments), strict=True))
    print()
    for part, status in told.items():
        result = {0: "passed", NO_TESTS_COLLECTED: "no tests"}.get(status, "FAILED")
        print(f"{part:<12}{result}")
    print(f"{'all':<12}{time.monotonic() - start:.0f} s")
    return int(any(status not in (0, NO_TESTS_COLLECTED) for status in told.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
