"""Run one server: ``python -m benchmarks.peers NAME JOB``; see ``contract``."""

from __future__ import annotations

import importlib
import json
import logging
import sys

from benchmarks.peers import PEERS
from benchmarks.peers.contract import Job, open_files, watch_stdin


def main(name: str, job: str) -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.ERROR)
    open_files()
    watch_stdin()
    module = importlib.import_module(f"benchmarks.peers.{PEERS[name].module}")
    module.serve(Job(**json.loads(job)), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
