"""No library: blocking sockets, a thread for each, and one send() for each message and member.

After the handshake it trusts the client: messages are whole text frames of the agreed size, with
one mask.  It checks nothing, limits nothing and does not close properly.  It shows the cost of one
system call for each message and member, and so what a library adds.

With ``Job.redis`` it is a bare PUBLISH of redis-py, and a thread that listens for what is
published.  Nothing is numbered, kept or found missing.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
from typing import Any

from benchmarks.peers.contract import JOINED, Job, Publisher, listening

_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
"""The answer to the key of RFC 6455 section 1.3, which the load client sends."""


def _header(size: int) -> bytes:
    if size <= 125:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


class _Bare:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._header = _header(job.size)
        self._lock = threading.Lock()  # one order for all members
        self._members: list[socket.socket] = []
        self._publisher = Publisher(job, self._publish)
        self._redis: Any = None
        if job.redis:
            self._redis = importlib.import_module("redis").Redis.from_url(job.redis)
            pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
            pubsub.subscribe("room")
            threading.Thread(target=self._hear, args=(pubsub,), daemon=True).start()

    def _publish(self, message: str) -> None:
        if self._redis is None:
            self._to_all(message.encode())
        else:
            self._redis.publish("room", message)

    def _hear(self, pubsub: Any) -> None:
        for message in pubsub.listen():
            self._to_all(message["data"])

    def attend(self, sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += sock.recv(4096)
        sock.sendall(_ANSWER)
        if self._job.mode != "echo":
            with self._lock:
                self._members.append(sock)
            sock.sendall(_header(len(JOINED)) + JOINED.encode())
        with contextlib.suppress(OSError):
            if self._job.mode == "publish":
                self._listen(sock)
            else:
                self._read(sock)
        with self._lock, contextlib.suppress(ValueError):
            self._members.remove(sock)
        sock.close()

    def _listen(self, sock: socket.socket) -> None:
        while data := sock.recv(4096):
            if data[0] != 0x81:
                continue
            mask = data[2:6]
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[6:]))
            self._publisher.told(text.decode())

    def _read(self, sock: socket.socket) -> None:
        size, header = self._job.size, self._header
        start = len(header) + 4
        mask, data = 0, b""
        while read := sock.recv(1 << 18):
            data += read
            while len(data) >= start + size:
                if not mask:
                    repeated = (data[start - 4 : start] * (size // 4 + 1))[:size]
                    mask = int.from_bytes(repeated, "little")
                masked = int.from_bytes(data[start : start + size], "little")
                message = (masked ^ mask).to_bytes(size, "little")
                data = data[start + size :]
                if self._job.mode == "echo":
                    sock.sendall(header + message)
                else:
                    self._to_all(message)

    def _to_all(self, message: bytes) -> None:
        frame = self._header + message
        with self._lock:
            for member in self._members:
                # Not sendall: a blocking send() takes all of a small message.
                if member.send(frame) < len(frame):
                    raise OSError("a short write")


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    bare = _Bare(job)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        listening(server.getsockname()[1])
        while True:
            sock, _ = server.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=bare.attend, args=(sock,), daemon=True).start()
