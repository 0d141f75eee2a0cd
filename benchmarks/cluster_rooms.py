"""Programs of the work ``cluster`` whose rooms have no members; see ``cluster``.

``python -m benchmarks.cluster_rooms PROGRAM URL ROOMS SECONDS``; PROGRAM is ``script``, ``place``,
``hubs``, ``receive`` or ``rooms``.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.processes import ROOT, end, read_line
from hubthread import (
    BackplaneState,
    History,
    HotlineOption,
    Hub,
    HubSetting,
    Position,
    RedisBackplane,
)
from hubthread.backplane.interfaces import Message
from hubthread.backplane.redis.backplane import RedisLink
from hubthread.backplane.redis.publisher import place_command
from hubthread.backplane.redis.scripts import PUBLISH, keys_of
from hubthread.backplane.redis.wire import Connector, command, pack
from hubthread.protocol.frames import Frame

_BATCH = 16
_IN_FLIGHT = 8
"""Batches of a hub's room that may wait for their places."""
_QUIET_S = 10.0
_PAYLOAD = "x" * 100
_PATIENCE_S = 60.0


def _hub(url: str) -> Hub[Any, Any]:
    return Hub(HubSetting[Any, Any](dict, backplane=RedisBackplane(url)))


def _rooms(hub: Hub[Any, Any], count: int) -> list[Any]:
    return [
        hub.hotline(HotlineOption(f"room {number}", shared=True, history=History()))
        for number in range(count)
    ]


def script(url: str, count: int, seconds: float) -> dict[str, float]:
    """Place a batch for each room in one pipeline, and read the answers; again and again."""
    redis: Any = import_module("redis").Redis.from_url(url)
    wire = Connector(url).connect()
    server = wire.run_id(), secrets.token_hex(4).encode()
    wire.ask(command(b"SCRIPT", b"LOAD", PUBLISH.source))
    rooms = [keys_of("benchmark", f"room {number}") for number in range(count)]
    origin = secrets.token_hex(6)
    message = Message(Frame(_PAYLOAD, 1))
    before, cpu, redis_cpu = _scripts(redis), time.process_time(), _cpu(redis)
    begin = time.monotonic()
    given = 0
    while time.monotonic() - begin < seconds:
        numbers = range(given + 1, given + _BATCH + 1)
        commands = []
        for keys in rooms:
            head = place_command(keys, History(), server, origin, numbers)
            body = b"".join(pack(message) for _ in numbers)
            commands.append(command(b"EVALSHA", PUBLISH.sha, *head, body))
        if any(reply[0] != b"ok" for reply in wire.ask(*commands)):
            raise RuntimeError("Redis has not placed all")
        given += _BATCH
    took = time.monotonic() - begin
    return {
        "rate": given * count / took,
        "batch": given * count / (_scripts(redis) - before),
        "publisher_cpu": (time.process_time() - cpu) / took,
        "redis_cpu": (_cpu(redis) - redis_cpu) / took,
    }


def place(url: str, count: int, seconds: float) -> dict[str, float]:
    """Give the backplane batches for each room in turn, without a hub around it."""
    redis: Any = import_module("redis").Redis.from_url(url)
    link: RedisLink = RedisBackplane(url).open("node")
    arrived, moved = [0] * count, threading.Event()

    class Receiver(_Receiver):
        def __init__(self, number: int) -> None:
            super().__init__(lambda: None)
            self._number = number

        def arrived(
            self, first: Position, messages: Sequence[Message], number: int | None
        ) -> None:
            arrived[self._number] += len(messages)
            moved.set()

    host = _Host()
    link.start(host)
    for number in range(count):
        link.attach(f"room {number}", History(), Receiver(number))
    if not host.up.wait(_PATIENCE_S):
        raise RuntimeError("the backplane is not up")
    message = Message(Frame(_PAYLOAD, 1))
    before = _scripts(redis)
    begin, cpu, redis_cpu = time.monotonic(), time.process_time(), _cpu(redis)
    given = 0
    while time.monotonic() - begin < seconds:
        for number in range(count):
            for _ in range(_BATCH):
                link.publish(f"room {number}", message)
        given += _BATCH
        while given - min(arrived) > _BATCH:  # one is placed while the next one is given
            moved.clear()
            moved.wait(0.01)
    while min(arrived) < given:
        time.sleep(0.001)
    took = time.monotonic() - begin
    sent = given * count
    return {
        "rate": sent / took,
        "batch": sent / (_scripts(redis) - before),
        "publisher_cpu": (time.process_time() - cpu) / took,
        "redis_cpu": (_cpu(redis) - redis_cpu) / took,
    }


def hubs(url: str, count: int, seconds: float) -> dict[str, float]:
    """Push batches to each room in turn, to a process of its own that receives them."""
    redis: Any = import_module("redis").Redis.from_url(url)
    receiver = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cluster_rooms", "receive", url, str(count), "0"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        if read_line(receiver, _PATIENCE_S) != "ready":
            raise RuntimeError("the receiver has not started")
        with _hub(url) as hub:
            rooms = _rooms(hub, count)
            for room in rooms:
                room.wait_push_consumed(room.push("begin"), _PATIENCE_S)
            before = _scripts(redis)
            begin, cpu, redis_cpu = time.monotonic(), time.process_time(), _cpu(redis)
            sent = 0
            while time.monotonic() - begin < seconds:
                for room in rooms:
                    for _ in range(_BATCH):
                        number = room.push(_PAYLOAD)
                    if number > _IN_FLIGHT * _BATCH:
                        room.wait_push_consumed(number - _IN_FLIGHT * _BATCH, _PATIENCE_S)
                    sent += _BATCH
            for room in rooms:
                room.wait_push_consumed(sent // count + 1, _PATIENCE_S)
            took = time.monotonic() - begin
            used, redis_used = time.process_time() - cpu, _cpu(redis) - redis_cpu
            scripts = _scripts(redis) - before
        assert receiver.stdin is not None
        receiver.stdin.write(b"%d\n" % (sent + count))
        receiver.stdin.flush()
        received = json.loads(read_line(receiver, _PATIENCE_S) or "{}")
    finally:
        end(receiver)
    if received.get("pushes") != sent + count:
        raise RuntimeError(f"{sent + count} pushes were sent, and {received} have arrived")
    return {
        "rate": sent / (received["last"] - begin),
        "placed": sent / took,
        "batch": sent / scripts,
        "publisher_cpu": used / took,
        "cpu": received["cpu"] / took,
        "redis_cpu": redis_used / took,
    }


def _scripts(redis: Any) -> int:
    told = redis.info("commandstats").get("cmdstat_evalsha")
    return 0 if told is None else int(told["calls"])


def _cpu(redis: Any) -> float:
    told = redis.info("cpu")
    return float(told["used_cpu_sys"] + told["used_cpu_user"])


def receive(url: str, count: int, seconds: float) -> None:
    """Have the rooms, until a line on standard input says how many pushes must have come."""
    with _hub(url) as hub:
        rooms = _rooms(hub, count)
        up = threading.Event()
        while hub.statistics().backplane.state != "up":  # type: ignore[union-attr]
            up.wait(0.01)
        print("ready", flush=True)
        cpu = time.process_time()
        last, seen = time.monotonic(), -1
        wanted: list[int] = []
        threading.Thread(
            target=lambda: wanted.append(int(sys.stdin.readline() or 0)), daemon=True
        ).start()
        while not wanted or seen < wanted[0]:
            now = sum(room.statistics().pushes for room in rooms)
            if now != seen:
                last, seen = time.monotonic(), now
            elif wanted and time.monotonic() - last > _PATIENCE_S / 2:
                break
            up.wait(0.02)
        told = {"pushes": seen, "last": last, "cpu": time.process_time() - cpu}
        print(json.dumps(told), flush=True)


class _Receiver:
    """One room of a hub that has nothing else."""

    has_presence = False

    def __init__(self, attached: Callable[[], None]) -> None:
        self._attached = attached

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        self._attached()

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        pass

    def refused(self, number: int) -> None:
        raise RuntimeError("nobody owns the room here")

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        raise RuntimeError("nothing is lost here")

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        raise RuntimeError("the server is here")

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        pass

    def counted(self, count: int) -> None:
        pass


class _Host:
    """The hub of the rooms."""

    def __init__(self) -> None:
        self.up = threading.Event()

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        threading.Thread(target=target, name=what, daemon=True).start()

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        if state is BackplaneState.UP:
            self.up.set()

    def log_bug(self, error: Exception, part: str) -> None:
        raise error

    def describe(self) -> dict[str, Any]:
        return {}


def rooms(url: str, count: int, seconds: float) -> dict[str, float]:
    """Attach rooms, do nothing for a while, and lose all connections."""
    redis: Any = import_module("redis").Redis.from_url(url)
    link: RedisLink = RedisBackplane(url).open("node")
    host, left, all_in = _Host(), [count], threading.Event()

    def attached() -> None:
        left[0] -= 1
        if not left[0]:
            all_in.set()

    begin = time.monotonic()
    link.start(host)
    for number in range(count):
        link.attach(f"room {number}", History(), _Receiver(attached))
    if not all_in.wait(_PATIENCE_S):
        raise RuntimeError(f"{left[0]} rooms have no position")
    made = time.monotonic() - begin
    _wait_back(link, 0, count)
    commands = _commands(redis)
    time.sleep(_QUIET_S)
    idle = (_commands(redis) - commands) / _QUIET_S
    looks = link.repaired
    begin = time.monotonic()
    redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    _wait_back(link, looks, count)
    return {"attached": made, "back": time.monotonic() - begin, "commands": idle}


def _commands(redis: Any) -> int:
    told = redis.info("commandstats")
    return sum(each["calls"] for name, each in told.items() if name != "cmdstat_info")


def _wait_back(link: RedisLink, looks: int, count: int) -> None:
    """Wait until each room is subscribed, and was looked into since ``looks``."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.01)
        subscribed = link.has("subscriber") and not link.subscriber.unconfirmed
        if subscribed and link.has("publisher") and link.repaired - looks >= count:
            return
    raise RuntimeError("the rooms do not come back")


def main(program: str, url: str, count: str, seconds: str) -> None:
    """Run a program, and print its figures."""
    if program == "receive":
        receive(url, int(count), float(seconds))
        return
    run = {"script": script, "place": place, "hubs": hubs, "rooms": rooms}[program]
    print(json.dumps({"figures": run(url, int(count), float(seconds)), "faults": {}}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
