"""A connection to a Redis server, and the bytes of batches.

redis-py makes the connection: URLs, TLS, passwords, Sentinel.  Everything after that is done here,
because redis-py silently repeats commands after an error, and silently renews subscriptions.

Layer: backplane.  Threads: one thread reads a connection, and any thread may send or end it.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from hubthread.backplane.interfaces import Message
from hubthread.checks import check_kind
from hubthread.errors import HubThreadError, SettingError, UsageError, WrongValue
from hubthread.protocol.frames import Frame

__all__ = [
    "Connector",
    "Lost",
    "ReplyError",
    "Wire",
    "command",
    "encode",
    "pack",
    "unpack",
]

REPLY = 5.0
"""Seconds that a server may take to answer, and that one call of a socket may block."""

CONNECT = 3.0
"""Seconds for the connect, and for each answer of the handshake."""

OLDEST = (6, 2)
"""The first version of Redis that has all that the scripts use."""

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


class Lost(HubThreadError):
    """The connection is lost, or cannot be made."""


class ReplyError(HubThreadError):
    """The server has answered with an error."""


def command(*parts: bytes | int) -> bytes:
    """Return the bytes of a command."""
    return b"*%d\r\n%b" % (len(parts), encode(*parts))


def encode(*parts: bytes | int) -> bytes:
    """Return the bytes of parts of a command."""
    pieces = []
    for part in parts:
        data = b"%d" % part if isinstance(part, int) else part
        pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)


class Connector:
    """Makes connections to the server of a URL.

    :raises SettingError: for a URL that is not the URL of a Redis server.
    :raises UsageError: if redis-py is not installed.
    """

    def __init__(self, url: str) -> None:
        check_kind("url", url, str, "a string")
        scheme = url.partition(":")[0].lower()
        if scheme not in SCHEMES:  # the rest of the URL may have a password
            names = ", ".join(f"{name}://" for name in SCHEMES)
            raise SettingError("url", f"expected a URL with {names}, got {scheme!r:.40}")
        try:
            self._redis: Any = importlib.import_module("redis")
        except ImportError:
            raise UsageError(
                "RedisBackplane needs redis-py: pip install hubthread[redis]"
            ) from None
        self._connecting: set[Any] = set()
        self._sentinels: list[Any] = []
        retry = importlib.import_module("redis.retry").Retry
        none = importlib.import_module("redis.backoff").NoBackoff
        self._options: dict[str, Any] = {
            "socket_timeout": CONNECT,
            "socket_connect_timeout": CONNECT,
            "retry": retry(none(), 0),
            "health_check_interval": 0,
            "decode_responses": False,
            "protocol": 2,
        }
        try:
            self._pool = self._sentinel(url) if "sentinel" in scheme else self._direct(url)
            self._make()  # it refuses options that redis-py does not know
        except (ValueError, TypeError, self._redis.RedisError) as error:
            raise SettingError("url", f"expected a URL of Redis: {error}") from None

    def _direct(self, url: str) -> Any:
        pool = self._redis.ConnectionPool.from_url(url, **self._options)
        pool.connection_kwargs.update(self._options)  # these go before options in the URL
        return pool

    def _sentinel(self, url: str) -> Any:
        parts = urlsplit(url)
        servers = []
        for server in parts.netloc.rpartition("@")[2].split(","):
            host, _, port = server.rpartition(":") if ":" in server else (server, "", "26379")
            servers.append((host.strip("[]"), int(port)))
        service, _, database = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError("the path has no name of a service")
        options = importlib.import_module("redis.connection").parse_url(f"redis://?{parts.query}")
        options |= dict(self._options, db=int(database or 0))
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        if password:
            options |= {"username": unquote(user) or None, "password": unquote(password)}
        if parts.scheme.startswith("rediss"):
            options["ssl"] = True
        sentinel = importlib.import_module("redis.sentinel").Sentinel(
            servers, sentinel_kwargs=dict(self._options)
        )
        self._sentinels = sentinel.sentinels
        return sentinel.master_for(service, **options).connection_pool

    def connect(self) -> Wire:
        """Return a new connection.

        :raises Lost: if no connection is made within ``CONNECT`` seconds.
        """
        connection = self._make()
        self._connecting.add(connection)
        try:
            connection.connect()
            return Wire(connection, _make_reader())
        except (self._redis.RedisError, OSError, AttributeError, ValueError) as error:
            # AttributeError: ``cut`` came in between.  ValueError: a host that cannot be.
            raise Lost(f"{error}") from None
        finally:
            self._connecting.discard(connection)

    def _make(self) -> Any:
        # Made without the pool, which counts its connections and expects them back.
        return self._pool.connection_class(**self._pool.connection_kwargs)

    def cut(self) -> None:
        """End the connections that are being made, and those to Sentinel.  Any thread."""
        for sentinel in self._sentinels:
            sentinel.close()
        for connection in list(self._connecting):
            cut = connection._sock
            if cut is not None:
                with contextlib.suppress(OSError):
                    cut.shutdown(socket.SHUT_RDWR)


class Wire:
    """One connection.  A lost connection stays lost: a new ``Wire`` takes its place."""

    def __init__(self, connection: Any, reader: Any) -> None:
        self._connection = connection  # closes its socket when it is collected
        self._socket: socket.socket = connection._sock
        self._socket.settimeout(REPLY)
        with contextlib.suppress(OSError):  # a Unix socket, or TLS, has no such option
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._reader = reader
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """Send commands.

        :raises Lost: if the connection is lost.
        """
        with self._sending:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise Lost(f"{error}") from None

    def read(self) -> Any:
        """Return the next reply.  An error of the server is returned as a ``ReplyError``.

        :raises Lost: if the connection is lost, or nothing came for ``REPLY`` seconds.
        """
        reader = self._reader
        while (reply := reader.gets()) is False:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                raise Lost(f"{error}") from None
            if not data:
                raise Lost("the server has closed the connection")
            reader.feed(data)
        return reply

    def ask(self, *commands: bytes, timeout: float = REPLY) -> list[Any]:
        """Send commands, and return their replies.

        :param timeout: seconds without a byte after which the connection counts as lost.
        :raises Lost: if the connection is lost.
        """
        self._socket.settimeout(timeout)
        self.send(b"".join(commands))
        return [self.read() for _ in commands]

    def run_id(self) -> bytes:
        """Return the ``run_id`` of the server; empty if it does not say.

        :raises Lost: if the connection is lost, or the server refuses to say, or is too old.
        """
        (info,) = self.ask(command(b"INFO", b"server"))
        if not isinstance(info, bytes):
            raise Lost(f"INFO: {info}")
        lines = dict(line.split(b":", 1) for line in info.splitlines() if b":" in line)
        version = lines.get(b"redis_version", b"").decode("utf-8", "replace")
        found = re.match(r"(\d+)\.(\d+)\.", version)
        # In an older one the script of a push would fail half done.
        if found and tuple(map(int, found.groups())) < OLDEST:
            raise Lost(f"Redis {version} is too old, expected {OLDEST[0]}.{OLDEST[1]} or later")
        return lines.get(b"run_id", b"")

    def cut(self) -> None:
        """End the connection.  Any thread: one that reads gets ``Lost``."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket.  The thread that reads it."""
        self._connection.disconnect()


def _make_reader() -> Any:
    try:
        hiredis = importlib.import_module("hiredis")
    except ImportError:
        return _Reader()
    return hiredis.Reader(protocolError=Lost, replyError=ReplyError)


class _Reader:
    """A reader of the protocol RESP2 in plain Python."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take some bytes."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def gets(self) -> Any:
        """Return the next reply, or False if it is not complete."""
        at = self._at
        try:
            return self._next()
        except IndexError:
            self._at = at
            return False

    def _next(self) -> Any:
        end = self._data.find(b"\r\n", self._at)
        if end < 0:
            raise IndexError
        kind, line = self._data[self._at : self._at + 1], self._data[self._at + 1 : end]
        self._at = end + 2
        if kind == b"+":
            return line
        if kind == b"-":
            return ReplyError(line.decode("utf-8", "replace"))
        if kind not in b":$*":
            raise Lost(f"expected a reply of Redis, got {kind + line!r:.80}")
        number = int(line)
        if kind == b":":
            return number
        if number < 0:
            return None
        if kind == b"*":
            return [self._next() for _ in range(number)]
        begin = self._at
        if len(self._data) < begin + number + 2:
            raise IndexError
        self._at = begin + number + 2
        return self._data[begin : begin + number]


# The format of a batch.  For each message: its opcode, the kind of its key, the size of the
# payload, the size of the key and the key (if there is one), and the payload.

_HEAD = struct.Struct("!BBI")
_SIZE = struct.Struct("!I")
_KEYS: tuple[tuple[type, Callable[[Any], bytes], Callable[[bytes], Any]], ...] = (
    (
        str,
        lambda key: key.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
    ),
    (bytes, bytes, bytes),
    (int, lambda key: b"%d" % key, int),
)


def pack(message: Message) -> bytes:
    """Return the bytes of a message in a batch."""
    body = message.frame.body
    if message.key is None:  # nearly always
        return _HEAD.pack(message.frame.message_type, 0, len(body)) + body
    for kind, (key_type, encode, _) in enumerate(_KEYS, 1):
        if isinstance(message.key, key_type):
            key = encode(message.key)
            head = _HEAD.pack(message.frame.message_type, kind, len(body))
            return head + _SIZE.pack(len(key)) + key + body
    return _HEAD.pack(message.frame.message_type, 0, len(body)) + body


def unpack(batch: bytes) -> Sequence[Message]:
    """Return the messages of a batch.

    :raises ValueError: if the bytes are not a batch of this version of the library.
    """
    try:
        return _unpack(batch)
    except (struct.error, IndexError, WrongValue) as error:
        raise ValueError(f"expected a batch of messages: {error}") from None


def _unpack(batch: bytes) -> Sequence[Message]:
    messages = []
    at = 0
    while at < len(batch):
        message_type, kind, size = _HEAD.unpack_from(batch, at)
        at += _HEAD.size
        key = None
        if kind:
            (length,) = _SIZE.unpack_from(batch, at)
            at += _SIZE.size
            key = _KEYS[kind - 1][2](batch[at : at + length])
            at += length
        body = batch[at : at + size]
        at += size
        if at > len(batch):
            raise IndexError("the last message is not whole")
        payload = body.decode() if message_type == 1 else body
        messages.append(Message(Frame(payload, message_type), key))
    return messages
