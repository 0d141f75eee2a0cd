"""The processes of a run: the load client, compiled at the first use, and one server at a time.

None outlives the runner.  The runner ends them in ``finally``; a server ends with its standard
input, and the load client when its parent dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers import Peer
from benchmarks.peers.contract import Job

__all__ = [
    "CACHE",
    "ROOT",
    "Server",
    "Unavailable",
    "Usage",
    "compiled_load",
    "end",
    "read_line",
    "run_load",
    "serving",
    "usage_of",
]

_HERE = Path(__file__).parent
ROOT = _HERE.parent
CACHE = _HERE / ".cache"
_START_S = 30.0
_SOURCES = ("load.c", "frames.c", "wire.c", "load.h")
_LIBRARIES = {
    "--tls": ("-DWITH_TLS", ("-lssl", "-lcrypto"), "the headers of OpenSSL"),
    "--deflate": ("-DWITH_ZLIB", ("-lz",), "the headers of zlib"),
}


class Unavailable(Exception):
    """Something cannot be measured here; the text says why in one line."""


@dataclass(frozen=True)
class Usage:
    """The resources that a process uses, from /proc."""

    cpu_s: float
    rss: int
    threads: int


class Server:
    """A server under test, in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def usage(self) -> Usage:
        """Return the CPU time since its start, and its memory and threads now.

        :raises Unavailable: if the server has ended.
        """
        return usage_of(self._process)


def usage_of(process: subprocess.Popen[bytes]) -> Usage:
    """Return the CPU time of a process since its start, and its memory and threads now.

    :raises Unavailable: if it has ended.
    """
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:
        raise Unavailable("the server ended") from None
    fields = text.rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / ticks,
        rss=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        threads=int(fields[17]),
    )


@contextlib.contextmanager
def serving(peer: Peer, job: Job) -> Iterator[Server]:
    """Run the server of a peer during the block.

    :raises Unavailable: if it does not start to listen.
    """
    command = [sys.executable, "-m", "benchmarks.peers", peer.name, json.dumps(asdict(job))]
    # To a file, because a pipe would not be read while the load runs.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C reaches only the runner, which ends the server
        )
        try:
            line = read_line(process, _START_S)
            if not line.startswith("listening "):
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                raise Unavailable(said[-1] if said else "did not start to listen")
            yield Server(process, int(line.split()[1]))
        finally:
            end(process)


def run_load(
    port: int, arguments: Sequence[str], seconds: float, at: Callable[[str], None]
) -> dict[str, object]:
    """Run the load client to its end and return its result.

    :param at: called with the name of each phase as it begins.
    :raises Unavailable: if it cannot be built, fails, or does not end.
    """
    process = subprocess.Popen(
        [str(compiled_load(arguments)), "--port", str(port), *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            line = read_line(process, seconds + 120)
            if not line:
                raise Unavailable("the load client ended early, or did not end")
            said: dict[str, object] = json.loads(line)
            phase = str(said["phase"])
            if phase == "result":
                return said
            at(phase)
    finally:
        end(process)


def compiled_load(arguments: Sequence[str] = ()) -> Path:
    """Return the load client with the libraries that the arguments need; compile it once.

    :raises Unavailable: without a compiler or the headers of a library.
    """
    flags = ["-O2", "-Wall", "-Wextra", "-std=gnu11"]
    libraries: list[str] = []
    needs = ["a C compiler (cc)"]
    for option, (flag, library, name) in _LIBRARIES.items():
        if option in arguments:
            flags.append(flag)
            libraries.extend(library)
            needs.append(name)
    sources = [_HERE / name for name in _SOURCES]
    content = b"".join(path.read_bytes() for path in sources) + repr(flags).encode()
    program = CACHE / f"load-{hashlib.sha256(content).hexdigest()[:16]}"
    if program.exists():
        return program
    CACHE.mkdir(exist_ok=True)
    # Under another name first: another runner may look for the program.
    fresh = program.with_suffix(f".{os.getpid()}")
    units = [str(path) for path in sources if path.suffix == ".c"]
    command = ["cc", *flags, *units, "-o", str(fresh), *libraries]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or b""
        reason = said.decode(errors="replace").strip().splitlines()[:1] or [str(error)]
        raise Unavailable(f"the load client needs {' and '.join(needs)}: {reason[0]}") from None
    fresh.replace(program)
    return program


def read_line(process: subprocess.Popen[bytes], timeout: float) -> str:
    """Return the next line that it prints; ``""`` if it ends or the time is up."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(timeout):
            return ""
    return _read_line(process.stdout.fileno())


def _read_line(descriptor: int) -> str:
    # Unbuffered, because select does not see the lines that are in a buffer.
    parts = bytearray()
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        parts += byte
    return parts.decode()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
