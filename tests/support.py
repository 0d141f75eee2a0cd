"""What the tests of a running hub share: a served hub, a bare peer, gates instead of sleeps.

``RawPeer`` speaks just enough WebSocket to send what no library would, and to read
exactly when told to.  Where a well-behaved peer will do, tests use libraries by others.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Generic, TypeVar

from hubthread import Client, Hub, HubSetting, Server, SocketServer, Upgrader, WebsocketPeriod
from hubthread.concurrency.incidents import Incidents

T = TypeVar("T")

TIMEOUT = 20.0
"""Seconds for what should come at once: never waited out, unless the test fails."""

AnyHub = Hub[Any, Any]
AnyClient = Client[Any, Any]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Items(Generic[T]):
    """A list that threads append to and a test waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: list[T] = []

    def add(self, item: T) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def now(self) -> list[T]:
        with self._changed:
            return list(self._items)

    def until(self, enough: Callable[[list[T]], bool]) -> list[T]:
        """Wait until ``enough(items)``; the items."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: enough(self._items), TIMEOUT)
            assert arrived, f"only {self._items!r}"
            return list(self._items)

    def wait(self, count: int) -> list[T]:
        """Wait for ``count`` items; all of them."""
        return self.until(lambda items: len(items) >= count)


class Logs(logging.Logger):
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("test")
        self.records: Items[logging.LogRecord] = Items()

    def handle(self, record: logging.LogRecord) -> None:
        self.records.add(record)

    def at_least(self, level: int) -> list[str]:
        """The messages of that level and above, tracebacks included."""
        return [
            logging.Formatter().format(record)
            for record in self.records.now()
            if record.levelno >= level
        ]

    def warnings(self) -> list[str]:
        """All that a user is to see."""
        return self.at_least(logging.WARNING)

    def wait(self, text: str) -> str:
        """Wait for a record with ``text`` in it; the whole of it."""

        def found() -> list[str]:
            return [each for each in self.at_least(logging.DEBUG) if text in each]

        self.records.until(lambda _: bool(found()))
        return found()[0]


def telling(logger: logging.Logger) -> Incidents:
    """What tells ``logger`` of a hub's incidents."""
    return Incidents(logger, monotonic)


class Serving:
    """A hub that runs and listens, and the clients it has got."""

    def __init__(self, hub: AnyHub, server: Server, logs: Logs, came: queue.Queue[Any]) -> None:
        self.hub = hub
        self.server = server
        self.logs = logs
        self._came = came
        self._peers: list[RawPeer] = []

    def came(self) -> AnyClient:
        """The next client that came, after its start callback."""
        client: AnyClient = self._came.get(timeout=TIMEOUT)
        return client

    def peer(self, *, receive_buffer: int | None = None, **kwargs: Any) -> RawPeer:
        """A bare peer, connected."""
        peer = RawPeer(connect(self.server, receive_buffer), **kwargs)
        self._peers.append(peer)
        return peer

    def pair(self, **kwargs: Any) -> tuple[RawPeer, AnyClient]:
        """A bare peer, and the hub's client that is its other end."""
        peer = self.peer(**kwargs)
        return peer, self.came()

    def pairs(self, count: int) -> list[tuple[RawPeer, AnyClient]]:
        """Several, one after another."""
        return [self.pair() for _ in range(count)]

    def close_peers(self) -> None:
        for peer in self._peers:
            peer.close()


@contextlib.contextmanager
def serving(
    *,
    close_timeout: float = TIMEOUT,
    upgrader: Upgrader | None = None,
    period: WebsocketPeriod[Any] | None = None,
    serve: dict[str, Any] | None = None,
    **fields: Any,
) -> Iterator[Serving]:
    """A hub with these settings, served on a free port of this machine.

    What is to be told of its end, warnings included, stands in ``logs``.
    """
    logs = Logs()
    came: queue.Queue[Any] = queue.Queue()
    on_start = fields.pop("on_connection_start", None)

    def start(ctx: Any, meta: Any) -> None:
        try:
            if on_start is not None:
                on_start(ctx, meta)
        finally:
            came.put(ctx)

    fields.setdefault("meta_gen", dict)
    fields.setdefault("logger", logs)
    if upgrader is not None:
        period = WebsocketPeriod(upgrader=upgrader)
    setting = HubSetting[Any, Any](
        on_connection_start=start,
        websocket_period=WebsocketPeriod() if period is None else period,
        **fields,
    )
    hub = Hub(setting)
    hub.start()
    try:
        served = Serving(hub, hub.serve(**(serve or {})), logs, came)
        try:
            yield served
        finally:
            served.close_peers()
    finally:
        hub.close(close_timeout)


def connect(server: Server | SocketServer, receive_buffer: int | None = None) -> socket.socket:
    """A connected socket, nothing sent.

    :param receive_buffer: bytes; a small one is full soon.  Much below 64 KiB the system
        lets a stream only trickle.
    """
    address = server.address
    if isinstance(address, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT)
        if receive_buffer is not None:  # before the window is agreed on
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def raw_handshake(path: str = "/", *fields: str, host: str = "localhost") -> bytes:
    """The request of a WebSocket client; ``fields`` are lines of its head."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def masked_frame(
    payload: bytes | str = b"", opcode: int = TEXT, *, fin: bool = True, rsv: int = 0
) -> bytes:
    """A client's frame."""
    body = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if len(body) <= 125:
        head = struct.pack("!BB", first, 0x80 | len(body))
    elif len(body) <= 0xFFFF:
        head = struct.pack("!BBH", first, 0x80 | 126, len(body))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(body))
    mask = b"\x11\x22\x33\x44"
    whole = (mask * (len(body) // 4 + 1))[: len(body)]
    masked = int.from_bytes(body, "big") ^ int.from_bytes(whole, "big")
    return head + mask + masked.to_bytes(len(body), "big")


def ask(server: Server, request: bytes) -> bytes:
    """Send bytes to a server and read to the end of what it says."""
    with connect(server) as sock:
        sock.sendall(request)
        return read_to_end(sock)


def read_to_end(sock: socket.socket) -> bytes:
    """All that comes, until the other side ends or resets the stream."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status_of(answer: bytes) -> int:
    """The status of an HTTP answer."""
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


class RawPeer:
    """A client that does what it is told, and nothing else: no pong, no close of its own.

    :param behind: sent in one segment with the request.
    """

    def __init__(
        self,
        sock: socket.socket,
        path: str = "/",
        *fields: str,
        behind: bytes = b"",
    ) -> None:
        self.sock = sock
        self._buffer = b""
        try:
            sock.sendall(raw_handshake(path, *fields) + behind)
            self.head = self._until(b"\r\n\r\n")
            assert status_of(self.head) == 101, self.head
        except BaseException:
            sock.close()
            raise

    def send(self, *payloads: bytes | str) -> None:
        """Send messages, text for ``str`` and binary for ``bytes``, in one segment."""
        frames = [
            masked_frame(each, TEXT if isinstance(each, str) else BINARY) for each in payloads
        ]
        self.sock.sendall(b"".join(frames))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.sock.sendall(masked_frame(struct.pack("!H", code) + reason.encode(), CLOSE))

    def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        first, size = self._take(2)
        assert not size & 0x80, "a server does not mask"
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(size)

    def message(self) -> str | bytes:
        """The next message, pings left out."""
        while True:
            opcode, payload = self.frame()
            if opcode in (TEXT, BINARY):
                return payload.decode() if opcode == TEXT else payload
            assert opcode == PING, (opcode, payload)

    def messages(self, count: int) -> list[str | bytes]:
        """The next messages."""
        return [self.message() for _ in range(count)]

    def rest(self) -> tuple[list[str | bytes], int | None, str]:
        """What comes until the server closes: messages, close code and reason."""
        found: list[str | bytes] = []
        while True:
            try:
                opcode, payload = self.frame()
            except EOFError:
                return found, None, ""
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                return found, code, payload[2:].decode()
            if opcode in (TEXT, BINARY):
                found.append(payload.decode() if opcode == TEXT else payload)

    def closed(self) -> tuple[int | None, str]:
        """Wait for the server's Close, nothing before it; code and reason."""
        found, code, reason = self.rest()
        assert not found, found
        return code, reason

    def at_end(self) -> bool:
        """Wait for the end of the stream; false when more comes before it."""
        return not self._buffer and not read_to_end(self.sock)

    def reset(self) -> None:
        """Vanish without a word: the server's socket is reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def _take(self, size: int) -> bytes:
        parts, have = [self._buffer], len(self._buffer)
        while have < size:
            self._buffer = b""
            self._receive()
            parts.append(self._buffer)
            have += len(self._buffer)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data


def fence(hub: AnyHub) -> None:
    """Wait until the hub has done all that was submitted and pushed before."""
    hub.exec_sync(lambda _: None, TIMEOUT)


def in_thread(work: Callable[[], T]) -> Callable[[], T]:
    """Run ``work`` on a thread; the function that is returned waits for its result."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> T:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "it has not come to an end"
        if errors:
            raise errors[0]
        return results[0]

    return result


def together(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(0)`` to ``work(count - 1)`` on threads that start at the same time."""
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(TIMEOUT)
        work(number)

    waits = [in_thread(lambda number=number: run(number)) for number in range(count)]  # type: ignore[misc]
    for wait in waits:
        wait()
