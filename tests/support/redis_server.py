"""A real Redis server on a socket of its own, and a proxy in front of it that fails on demand."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubthread.backplane.redis import wire
from tests.support.waiting import TIMEOUT

__all__ = ["ACL_RULES", "Proxy", "RedisServer", "patient_connections", "redis_server"]

ACL_RULES = (
    "~shop:* &shop:* -@all +@connection +@pubsub +@scripting +info"
    " +hmget +hset +hincrby +get +set +del +pexpire +xadd +xrange +xrevrange +xtrim"
    " +hget +hgetall +hdel +hlen +hsetnx +sadd +srem +smembers +zadd +zrem +zscore +zrangebyscore"
    " +time"
)
"""The rules that the guide recommends for a user of Redis with the prefix ``shop``."""


def patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no connection count as lost only because the server does not answer for a while."""
    monkeypatch.setattr(wire, "CONNECT", TIMEOUT)
    monkeypatch.setattr(wire, "REPLY", TIMEOUT)
    ask: Any = wire.Wire.ask
    monkeypatch.setitem(ask.__kwdefaults__, "timeout", TIMEOUT)


class RedisServer:
    """One server, which keeps nothing over a restart, or its append-only file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.path = folder / "socket"
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def client(self) -> Any:
        """Return a client of redis-py; close it."""
        import redis

        return redis.Redis(unix_socket_path=str(self.path))

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", "", *self._options]
        process = subprocess.Popen(
            ["redis-server", *options, "--dir", str(self._folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process = process
        assert process.stdout is not None
        for line in process.stdout:
            if "eady to accept connections" in line:
                return
        pytest.fail("redis-server has not started")

    @contextlib.contextmanager
    def replica(self) -> Iterator[RedisServer]:
        """Run a replica that is in step, for a block."""
        with redis_server() as replica, self.client() as client, replica.client() as other:
            place = client.config_get("bind", "port")
            other.replicaof(place["bind"], place["port"])
            while not client.wait(1, 100):
                pass
            yield replica

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill the server, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate(timeout=TIMEOUT)

    def age(self, seconds: float) -> None:
        """Let time pass: keys and leases end that much sooner."""
        with self.client() as client:
            for key in client.scan_iter():
                if client.type(key) == b"hash" and int(client.hget(key, "u") or 0):
                    client.hincrby(key, "u", -int(seconds * 1000))
                left = client.pttl(key) - int(seconds * 1000)
                if left > 0:
                    client.pexpire(key, left)
                else:
                    client.delete(key)

    def restart(self) -> None:
        """Kill the server, and start it again."""
        self.stop()
        self.start()


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a server for a block; skip the test if there is none, and fail in CI."""
    if shutil.which("redis-server") is None:
        reason = "redis-server is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="hubthread-") as folder:
        server = RedisServer(Path(folder), *options)
        try:
            yield server
        finally:
            server.stop()


class _Pair:
    """The two sockets of one connection through a proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.both = near, far
        self.subscribes = False
        """True if it has asked for messages of a channel."""
        self.swallows = False
        """True if answers and messages vanish."""

    def shut_down(self) -> None:
        for each in self.both:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Proxy:
    """A TCP proxy in front of a socket or a port, which cuts connections and swallows answers.

    :param host: the address where it listens; empty for all.
    """

    def __init__(self, path: Path | tuple[str, int], host: str = "127.0.0.1") -> None:
        self._path = path
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[_Pair] = []
        self._threads: list[threading.Thread] = []
        self._swallows_after: bytes | None = None
        self._loses = 0
        self._refuses = False
        self._delay = 0.0
        self._never = threading.Event()
        self._ended: list[_Pair] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            unix = isinstance(self._path, Path)
            far = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            pair = _Pair(near, far)
            try:
                # So that no connection is left that ``cut`` does not see, to a server of before.
                with self._lock:
                    if self._refuses:
                        raise ConnectionError
                    path = self._path
                    far.connect(str(path) if isinstance(path, Path) else path)
                    self._pairs.append(pair)
            except OSError:
                near.close()
                far.close()
                continue
            self._start(self._pump, pair, near, far)
            self._start(self._pump, pair, far, near)

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket) -> None:
        commands = source is pair.both[0]
        last = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if commands:
                    pair.subscribes |= b"SUBSCRIBE" in data
                    after = self._swallows_after
                    if after is not None:
                        last = last[-len(after) :] + data
                        if after in last:
                            self.swallow()
                elif self._loses:
                    self._loses -= 1
                    break
                if commands or not pair.swallows:
                    if self._delay:
                        self._never.wait(self._delay)
                    target.sendall(data)
        pair.shut_down()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.shut_down()
        self._ended += pairs

    def swallow(self, messages_only: bool = False) -> None:
        """Let the answers and messages of the present connections vanish, until ``cut``.

        :param messages_only: only those of connections that have subscribed to a channel.
        """
        with self._lock:
            self._swallows_after = None
            for pair in self._pairs:
                pair.swallows = pair.subscribes or not messages_only

    def swallow_after(self, command: bytes) -> None:
        """Let answers vanish as soon as these bytes of a command go to the server."""
        self._swallows_after = command

    def lose_next(self) -> None:
        """Let the next answer vanish, and its connection end."""
        self._loses = 1

    def delay(self, seconds: float) -> None:
        """Let all bytes take so long from now on, each way."""
        self._delay = seconds

    def refuse(self, refuses: bool) -> None:
        """Refuse connections from now on, or no longer."""
        with self._lock:
            self._refuses = refuses

    def lead_to(self, path: Path) -> None:
        """Lead to another server from now on, as after a failover."""
        with self._lock:
            self._path = path
        self.cut()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(TIMEOUT)  # it may have accepted a connection just now
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(TIMEOUT)
        for pair in self._ended:
            for each in pair.both:
                each.close()
