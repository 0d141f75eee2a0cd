"""The processes of the suite's run and of the echo server, whose output is read line by line."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 60.0
"""Seconds until the echo server counts as hung."""


class SuiteError(Exception):
    """The suite could not be installed or did not finish; the text says why in one line."""


class Output:
    """The lines that a process prints, as it prints them, without a thread."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: IO[bytes]) -> None:
        self.process = process
        self._descriptor = stdout.fileno()
        self._read = b""

    def next(self, patience: float) -> str | None:
        """Return the next line, or None at the end.

        :raises TimeoutError: if no line comes for ``patience`` seconds.
        """
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._descriptor], [], [], patience)
            if not ready:
                raise TimeoutError
            chunk = os.read(self._descriptor, 65536)
            if not chunk:
                return None
            self._read += chunk
        line, self._read = self._read.split(b"\n", 1)
        return line.decode("utf-8", "replace").strip()


@contextlib.contextmanager
def started(command: list[str], stderr: int | None = subprocess.STDOUT) -> Iterator[Output]:
    """Run a process during the block; kill it if the block raises."""
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
    ) as process:
        assert process.stdout is not None
        try:
            yield Output(process, process.stdout)
        except BaseException:
            process.kill()
            raise


@contextlib.contextmanager
def echo_server(*, compression: bool) -> Iterator[str]:
    """Run the echo server in a process of its own; yield its URL."""
    command = [sys.executable, "-u", "-m", f"{__package__}.echo_server"]
    if compression:
        command.append("--compression")
    # Its errors go to our own stderr, where the test runner collects them.
    with started(command, stderr=None) as server:
        try:
            line = server.next(TIMEOUT) or ""
        except TimeoutError:
            raise SuiteError("the echo server does not start") from None
        listening = re.fullmatch(r"listening (ws://\S+)", line)
        if listening is None:
            raise SuiteError(f"the echo server does not listen; it says {line!r}")
        yield listening[1]
        if (status := server.process.poll()) is not None:
            raise SuiteError(f"the echo server ended by itself, with status {status}")
        server.process.terminate()
        try:
            status = server.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise SuiteError("the echo server does not stop when told to") from None
        if status != 0:
            raise SuiteError(f"the echo server stopped with status {status}")
