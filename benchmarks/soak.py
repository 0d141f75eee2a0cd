"""A soak test: mixed load on one server, and its memory, threads and descriptors over time.

::

    python -m benchmarks.soak [--minutes 30] [--chart soak.svg]

Clients join, chat, stall, leave properly and are killed.  There is a chat room and a ticking room;
every second client has a ticking room of its own, which ends with it; closures run.  The server's
memory, threads and descriptors are sampled each second.

Exit status: 0 if all three are flat, 1 if one grows or the server fails, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn

from benchmarks.curves import write_curves

__all__ = ["Sample", "Verdict", "growth_of", "main", "tell", "verdict_of"]

_ROOT = Path(__file__).parent.parent
_TALKERS = 40
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Sample:
    """The server's resources at one moment."""

    at: float
    """Seconds since the start."""
    memory: int
    """Bytes of resident memory."""
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Verdict:
    """The medians of one curve in its second and in its last quarter."""

    name: str
    early: float
    late: float
    flat: bool


def verdict_of(samples: Sequence[Sample]) -> list[Verdict]:
    """Return a verdict on each curve: flat if its last quarter is like its second.

    In the second quarter all clients have come.  The median of memory may grow by 5 % and 2 MB,
    those of threads and descriptors by 10 % and 5.
    """
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    found = []
    for name, share, more in (
        ("memory", 0.05, 2e6), ("threads", 0.1, 5.0), ("descriptors", 0.1, 5.0)
    ):  # fmt: skip
        before, after = (
            statistics.median(float(getattr(each, name)) for each in part)
            for part in (early, late)
        )
        found.append(Verdict(name, before, after, after <= before * (1 + share) + more))
    return found


def growth_of(samples: Sequence[Sample]) -> float:
    """Return the growth of memory in bytes an hour, by a line through the last two thirds.

    In the first third caches fill and the allocator finds its size.
    """
    late = samples[len(samples) // 3 :]
    line = statistics.linear_regression(
        [each.at for each in late], [float(each.memory) for each in late]
    )
    return line.slope * 3600


# The server.


def serve() -> None:
    """Serve a chat, ticking rooms and closures until standard input ends."""
    from hubthread import HotlineFrameOption, Hub, HubSetting, Overflow, WebsocketPeriod

    counts: dict[str, int] = {}

    def start(ctx: Any, meta: Any) -> None:
        chat.answer(ctx)
        if ctx.connection_id % 2:
            game.answer(ctx)
        else:
            own = hub.hotline()
            own.answer(ctx)
            meta["own"] = HotlineFrameOption(dict[str, int], tick, hz=5).run(own)

    def end(ctx: Any, meta: Any) -> None:
        if "own" in meta:
            meta["own"].close()

    def receive(ctx: Any, meta: Any) -> bool:
        text = str(ctx.payload)
        hub.exec_async(lambda _: counts.update(all=counts.get("all", 0) + 1))
        if text.startswith("leave"):
            ctx.close()
        else:
            chat.push(f"{ctx.connection_id}: {text}")
        return False

    def tick(frame: Any, obj: dict[str, int]) -> None:
        obj["ticks"] = obj.get("ticks", 0) + 1
        frame.push_json(obj)

    hub = Hub(
        HubSetting[Any, Any](
            dict,
            on_connection_start=start,
            on_connection_close=end,
            on_receive_message=receive,
            outbox_bytes=256 * 1024,
            overflow=Overflow.CLOSE,
            websocket_period=WebsocketPeriod(write_wait=5.0),
        )
    )
    chat = hub.hotline()
    with hub, hub.serve() as server:
        game = HotlineFrameOption(dict[str, int], tick, hz=20).run(hub.hotline())
        print(server.address[1], flush=True)
        sys.stdin.read()


# The clients.


@dataclass
class Life:
    """The counts of the clients' actions, by many threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, what: str) -> None:
        """Count one action."""
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1


def _frame(text: str) -> bytes:
    body = text.encode()
    small = len(body) <= 125
    head = struct.pack("!BB", 0x81, 0x80 | len(body)) if small else b"\x81\xfe"
    return head + (b"" if small else struct.pack("!H", len(body))) + bytes(4) + body


def _live(port: int, life: Life, seed: int) -> None:
    """Run clients of random kinds, one after another."""
    dice = random.Random(seed)
    while not life.over.is_set():
        kind = dice.choice(("chat", "chat", "chat", "stall", "kill", "leave", "reset"))
        try:
            with socket.socket() as sock:
                sock.settimeout(20)
                if kind == "stall":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                sock.connect(("127.0.0.1", port))
                sock.sendall(_UPGRADE)
                life.count("came")
                _play(sock, kind, dice, life)
        except OSError:
            life.count("cut")
        life.count(kind)


def _play(sock: socket.socket, kind: str, dice: random.Random, life: Life) -> None:
    """Talk twice a second and read the rooms for some seconds; then leave as the kind says."""
    says = monotonic()
    until = says + dice.uniform(0.5, 6.0)
    while (now := monotonic()) < until and not life.over.is_set():
        if now >= says:
            sock.sendall(_frame("x" * dice.choice((100, 100, 8_000))))
            life.count("said")
            says = now + dice.uniform(0.2, 0.8)
        if kind == "stall":  # longer than the system's buffers last
            life.over.wait(dice.uniform(10.0, 40.0))
            while sock.recv(65536):
                if monotonic() > until + 60 or life.over.is_set():
                    return
            life.count("cut for reading too slowly")
            return
        sock.settimeout(max(0.01, says - now))
        with contextlib.suppress(TimeoutError):
            if not sock.recv(65536):
                return
    if kind == "leave":
        sock.settimeout(20)
        sock.sendall(_frame("leave") + b"\x88\x82\0\0\0\0\x03\xe8")
        while sock.recv(65536):
            pass
    elif kind == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # "kill": like the end of a process, which closes sockets without a close frame.


def _sample(pid: int, began: float) -> Sample:
    """Return the server's resources.

    :raises OSError: if the server has ended.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        monotonic() - began,
        int(fields["VmRSS"].split()[0]) * 1024,
        int(fields["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
    )


def soak(seconds: float) -> tuple[list[Sample], dict[str, int], Sample, Sample]:
    """Run the load; return samples, counts, and the idle server before and after.

    :raises OSError: if the server ends early.
    """
    life = Life()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.soak", "--serve"],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        port, began = int(server.stdout.readline()), monotonic()
        before = _sample(server.pid, began)
        talkers = [
            threading.Thread(target=_live, args=(port, life, number), daemon=True)
            for number in range(_TALKERS)
        ]
        for talker in talkers:
            talker.start()
        samples: list[Sample] = []
        told = 0
        try:
            while monotonic() - began < seconds:
                life.over.wait(1.0)
                samples.append(_sample(server.pid, began))
                told = tell(samples[-1], seconds, told)
        finally:
            life.over.set()
            for talker in talkers:
                talker.join(30)
        settled = _settled(server.pid, began, before)
        server.communicate("", timeout=30)
        if server.returncode:
            raise OSError(f"the server ended with status {server.returncode}")
    return samples, life.counts, before, settled


def tell(sample: Sample, seconds: float, told: int) -> int:
    """Print a line each minute; return the minutes that have their lines."""
    minutes = int(sample.at / 60)
    if minutes > told:
        print(
            f"  {minutes} of {seconds / 60:g} min: {sample.memory / 1e6:.0f} MB, "
            f"{sample.threads} threads, {sample.descriptors} descriptors",
            file=sys.stderr,
            flush=True,
        )
    return minutes


def _settled(pid: int, began: float, before: Sample) -> Sample:
    """Return the server's resources when all clients have left, after 20 s at most."""
    deadline = monotonic() + 20
    pause = threading.Event()
    while True:
        now = _sample(pid, began)
        if (now.threads, now.descriptors) <= (before.threads, before.descriptors):
            return now
        if monotonic() > deadline:
            return now
        pause.wait(0.5)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str]) -> int:
    """Run the soak test, draw and print the result; return the exit status."""
    parser = _Parser(prog="python -m benchmarks.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)g)")
    parser.add_argument("--chart", type=Path, default=Path("soak.svg"), help="(%(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.serve:
        serve()
        return 0
    if not 0.2 <= asked.minutes <= 10_000:
        parser.error(f"--minutes: expected a number of at least 0.2, got {asked.minutes:g}")
    try:
        samples, counts, before, settled = soak(asked.minutes * 60)
    except OSError as error:
        print(f"the server failed: {error}")
        return 1
    done = ", ".join(f"{what} {count:,}" for what, count in sorted(counts.items()))
    print(f"{asked.minutes:g} minutes, {_TALKERS} at a time: {done}")
    flat = True
    for one in verdict_of(samples):
        print(
            f"{one.name:<12} {one.early:>14,.0f} → {one.late:>14,.0f}  "
            f"{'flat' if one.flat else 'GROWS'}"
        )
        flat &= one.flat
    print(f"growth of memory in the last two thirds: {growth_of(samples) / 1e6:+.1f} MB an hour")
    left = settled.threads - before.threads, settled.descriptors - before.descriptors
    print(f"after the last client: {left[0]:+} threads, {left[1]:+} descriptors")
    write_curves(
        asked.chart,
        f"{asked.minutes:g} minutes of mixed load",
        [sample.at for sample in samples],
        {
            "memory, MB": [sample.memory / 1e6 for sample in samples],
            "threads": [float(sample.threads) for sample in samples],
            "descriptors": [float(sample.descriptors) for sample in samples],
        },
    )
    print(asked.chart)
    return 0 if flat and max(left) <= 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
