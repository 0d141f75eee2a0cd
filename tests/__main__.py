"""Run the suite in parts: ``python -m tests [PART ...] [OPTION OF PYTEST ...]``.

light       everything that can share the machine, several files at a time
interrupts  every public call, interrupted at every line; not under coverage, which traces, too
load        thousands of connections or much traffic: alone, one test at a time
autobahn    the Autobahn suite: alone

Without a PART all four run, one after another.  Each part ends with the tests that it
skipped and the reasons.  The options go to pytest in every part: ``python -m tests light -x``.
Exit status: 0 if every part passed, 1 otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

NO_TESTS_COLLECTED = 5
"""pytest's exit status when the options leave no test; not a failure of a part."""


def workers() -> int:
    """Return how many tests run at a time: most tests wait for a peer most of the time."""
    return max(3, min(8, (os.cpu_count() or 1) + 1))


PARTS = {
    "light": [
        "-m",
        "not interrupts and not load and not autobahn",
        "-n",
        str(workers()),
        "--dist",
        "loadfile",
    ],
    "interrupts": ["-m", "interrupts", "-n", str(workers()), "--dist", "load"],
    "load": ["-m", "load"],
    "autobahn": ["-m", "autobahn"],
}
"""The options of pytest that select and run each part."""


def main(arguments: list[str]) -> int:
    """Run the parts that the arguments begin with, or all; return the exit status."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    chosen = []
    while arguments and arguments[0] in PARTS:
        chosen.append(arguments.pop(0))
    told = []
    failed = False
    for part in chosen or PARTS:
        print(f"-- {part}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-rs", *PARTS[part], *arguments]
        status = subprocess.run(command, check=False).returncode
        failed |= status not in (0, NO_TESTS_COLLECTED)
        result = {0: "passed", NO_TESTS_COLLECTED: "no tests"}.get(status, "FAILED")
        told.append(f"{part:<12}{result:<10}{time.monotonic() - start:.0f} s")
    print("\n".join(["", *told]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
