"""A long day in short: a server in a process of its own, mixed life, and what it costs over time.

    python -m benchmarks.soak [--minutes 30] [--chart soak.svg]

Clients join, chat, stall, leave in order and are killed; a room chats, a room with a clock
ticks, every second client brings a room with a clock of its own, which ends with it; closures
run.  Memory, threads and descriptors of the server are sampled each second.
Exit status: 0 if all three are flat, 1 if one grows or the server fails, 2 for bad arguments.
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

__all__ = ["Sample", "Verdict", "growth_of", "main", "verdict_of"]

_ROOT = Path(__file__).parent.parent
_TALKERS = 40
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@dataclass(frozen=True)
class Sample:
    """The server at one moment."""

    at: float
    """Seconds since the begin."""
    memory: int
    """Bytes resident."""
    threads: int
    descriptors: int


@dataclass(frozen=True)
class Verdict:
    """Of one curve: its middle in the second quarter and in the last one."""

    name: str
    early: float
    late: float
    flat: bool


def verdict_of(samples: Sequence[Sample]) -> list[Verdict]:
    """Whether each curve is flat: from the second quarter, when all have come, to the last.

    Medians, since life is mixed; memory may grow by 5 % and 2 MB, threads and descriptors by
    10 % and 5.
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
    """Bytes of memory that are gained in an hour: the straight line through the last two thirds.

    The first third is left out: caches fill, and the allocator finds its size.
    """
    late = samples[len(samples) // 3 :]
    line = statistics.linear_regression(
        [each.at for each in late], [float(each.memory) for each in late]
    )
    return line.slope * 3600


# The server.


def serve() -> None:
    """Serve until standard input ends: a chat, rooms with a clock, closures."""
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
    """What the clients have done; counted by many threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def count(self, what: str) -> None:
        """One more of these."""
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1


def _frame(text: str) -> bytes:
    body = text.encode()
    small = len(body) <= 125
    head = struct.pack("!BB", 0x81, 0x80 | len(body)) if small else b"\x81\xfe"
    return head + (b"" if small else struct.pack("!H", len(body))) + bytes(4) + body


def _live(port: int, life: Life, seed: int) -> None:
    """Clients, one after another, each of another kind."""
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
    """Talk twice a second and read the rooms, for some seconds; leave as the kind does."""
    says = monotonic()
    until = says + dice.uniform(0.5, 6.0)
    while (now := monotonic()) < until and not life.over.is_set():
        if now >= says:
            sock.sendall(_frame("x" * dice.choice((100, 100, 8_000))))
            life.count("said")
            says = now + dice.uniform(0.2, 0.8)
        if kind == "stall":  # while the rooms push: longer than the system's buffers last
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
    # "kill": the end of a process closes its sockets, without a Close frame.


def _sample(pid: int, began: float) -> Sample:
    """:raises OSError: when the server has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return Sample(
        monotonic() - began,
        int(fields["VmRSS"].split()[0]) * 1024,
        int(fields["Threads"]),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
    )


def soak(seconds: float) -> tuple[list[Sample], dict[str, int], Sample, Sample]:
    """Live for so long: the samples, what was done, and the server idle before and after.

    :raises OSError: when the server ends before its time.
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
        try:
            while monotonic() - began < seconds:
                life.over.wait(1.0)
                samples.append(_sample(server.pid, began))
        finally:
            life.over.set()
            for talker in talkers:
                talker.join(30)
        settled = _settled(server.pid, began, before)
        server.communicate("", timeout=30)
        if server.returncode:
            raise OSError(f"the server ended with status {server.returncode}")
    return samples, life.counts, before, settled


def _settled(pid: int, began: float, before: Sample) -> Sample:
    """The server when everybody has gone; it is given the time of its time-outs for it."""
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
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str]) -> int:
    """Soak, draw, and say what came of it; the exit status."""
    parser = _Parser(prog="python -m benchmarks.soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)g)")
    parser.add_argument("--chart", type=Path, default=Path("soak.svg"), help="(%(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.serve:
        serve()
        return 0
    if not 0.2 <= asked.minutes <= 10_000:
        parser.error(f"--minutes: a number of at least 0.2, not {asked.minutes:g}")
    try:
        samples, counts, before, settled = soak(asked.minutes * 60)
    except OSError as error:
        print(f"the server did not last: {error}")
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
    print(f"memory, in its last two thirds: {growth_of(samples) / 1e6:+.1f} MB an hour")
    left = settled.threads - before.threads, settled.descriptors - before.descriptors
    print(f"when all had gone: {left[0]:+} threads, {left[1]:+} descriptors against the begin")
    write_curves(
        asked.chart,
        f"{asked.minutes:g} minutes of mixed life",
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
