"""A hub's side of a shared room in Redis, in a process of its own that a test may stop.

``node_program.py`` is the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from hubthread.history import Position
from tests.support.backplanes import Event
from tests.support.waiting import TIMEOUT, Items

__all__ = ["RemoteNode", "remote_node"]

PROGRAM = Path(__file__).with_name("node_program.py")


class RemoteNode:
    """The process, as the test sees it.

    :param command: what runs the interpreter, if not the test's own system.
    :param patience: the seconds without a word after which it counts its connection as lost, and
        after which the others count it as dead.
    """

    def __init__(
        self, url: str, prefix: str, command: Sequence[str] = (), patience: float = TIMEOUT
    ) -> None:
        self.prefix = prefix
        self.process = subprocess.Popen(
            [*command, sys.executable, str(PROGRAM), url, prefix, f"{patience}"],
            env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.states: Items[str] = Items()
        self.events: Items[Event] = Items()
        self.changes: Items[str] = Items()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            kind, *told = json.loads(line)
            if kind == "state":
                self.states.add(told[0])
            elif kind == "change":
                self.changes.add(told[0])
            else:
                self.events.add((Position(told[0], told[1]), told[2]))

    def _say(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def push(self, *texts: str) -> None:
        self._say("push", *texts)

    def came(self, user: str) -> None:
        self._say("came", user)

    def up(self, times: int = 1) -> None:
        """Wait until all is well, so many times since the begin."""
        self.states.until(lambda states: states.count("up") >= times)

    def heard(self, *texts: str) -> None:
        """Wait until these have arrived."""
        self.events.until(lambda events: set(texts) <= {text for _, text in events})

    def gaps(self) -> int:
        return sum(text is None for _, text in self.events.now()) - 1

    def order(self) -> list[Event]:
        return self.events.now()

    def close(self) -> None:
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        # Not ``communicate``: it would read beside the reader, and close what that reads.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TIMEOUT)
        process.kill()
        process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        process.stdout.close()


@contextlib.contextmanager
def remote_node(
    url: str, prefix: str, command: Sequence[str] = (), patience: float = TIMEOUT
) -> Iterator[RemoteNode]:
    """Run a node for a block."""
    node = RemoteNode(url, prefix, command, patience)
    try:
        yield node
    finally:
        node.close()
