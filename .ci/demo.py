"""Run README's demo command, fetch the page at the printed address, and press Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import NoReturn

LIMIT_S = 90
"""Seconds for everything, including the installation."""


def main(command: str) -> None:
    """Fail unless ``command`` serves its page and its health, and ends after Ctrl-C."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.signal(signal.SIGTERM, _too_late)
    signal.alarm(LIMIT_S)
    demo = subprocess.Popen(
        ["bash", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to a whole process group
    )
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            print(line, end="")
            if address := re.search(r"http://[\w.:\[\]-]+", line):
                break
        else:
            sys.exit("the demo ended without printing an address")
        page = _get(f"{address[0]}/")
        if "<html" not in page:
            sys.exit(f"no page at {address[0]}/: {page[:200]!r}")
        print(f"{len(page)} characters of page; health:", _get(f"{address[0]}/healthz"))
        os.killpg(demo.pid, signal.SIGINT)
        rest = demo.communicate()[0]
        print(rest, end="")
        if "Traceback" in rest:
            sys.exit("the demo ended with a traceback")
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def _too_late(signum: int, frame: object) -> NoReturn:
    sys.exit(f"the demo did not finish within {LIMIT_S} s")


if __name__ == "__main__":
    main(sys.argv[1])
