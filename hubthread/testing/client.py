"""A client in memory, which speaks WebSocket to a virtual hub, well or badly.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_function, check_kind, check_number, checked
from hubthread.errors import ClientClosed, SettingError
from hubthread.protocol.frames import MessageType
from hubthread.testing.transport import MemoryTransport
from hubthread.testing.wire import FrameReader, client_close, client_frame, close_of

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.testing.clock import FakeClock
    from hubthread.testing.reader import Reader

__all__ = ["VirtualClient"]

ABNORMAL = 1006
MOST_CODE = 0xFFFF
"""The highest close code: a Close frame has two bytes for it (RFC 6455 section 5.5.1)."""


class VirtualClient:
    """The other end of a connection.  Made by ``hub.connect``.

    It reads messages, answers pings, and answers a Close, as a good client does.  ``stall``,
    ``vanish`` and ``drop`` make a bad client of it.  When one of its methods returns, the
    effect is complete: handlers have run, and their messages are in the inboxes.  If a
    callback of the hub calls a method, the effect comes after the callback.
    """

    def __init__(self, clock: FakeClock, transport: MemoryTransport) -> None:
        self._clock = clock
        self._transport = transport
        self._frames = FrameReader()
        self._inbox: list[str | bytes] = []
        self._said_close = False
        self._over = False
        self._code: int | None = None
        self._reason = ""
        self._reader: Reader
        self._on_message: Callable[[VirtualClient, str | bytes], object] | None = None
        self._on_end: Callable[[], object] = lambda: None
        self._awaits_hello = False
        self._got: int | None = None
        self._hello: dict[str, Any] = {}
        transport.peer = clock.job(self._read)

    @property
    def ctx(self) -> Client[Any, Any]:
        """The hub's client of this connection, the one that handlers see."""
        client = self._reader.client
        assert client is not None
        return client

    # The session, for a client that ``hub.connect`` has given one.

    @property
    def session(self) -> str | None:
        """The token of the session; ``None`` without one."""
        return self._hello.get("session")

    @property
    def resumed(self) -> bool:
        """True if the client goes on with the session of ``hub.connect(resume=…)``."""
        return bool(self._hello.get("resumed"))

    @property
    def lost(self) -> int:
        """The number of messages that the hub has told to be lost, when the client came back."""
        return int(self._hello.get("lost", 0))

    def _say_hello(self, before: VirtualClient | None) -> None:
        """Ask for a session, or for that of an earlier connection."""
        hello: dict[str, Any] = {"type": "hub:hello", "v": 1}
        if before is not None:
            before._read_frames()
            hello |= {"resume": before.session, "got": before._got}
        self._awaits_hello = True
        self.send_json(hello)
        self._read_frames()

    # Messages from the hub.

    @property
    def on_message(self) -> Callable[[VirtualClient, str | bytes], object] | None:
        """A function that is called with ``(client, message)`` for each message, after the
        message is in the inbox.  It may play for the client, or answer ``ctx.request``.  It
        can be set at any time."""
        return self._on_message

    @on_message.setter
    def on_message(self, do: Callable[[VirtualClient, str | bytes], object] | None) -> None:
        check_function("on_message", do, "client", "message")
        self._on_message = do
        self._transport.heard_at_once = do is not None

    @property
    def inbox(self) -> list[str | bytes]:
        """The messages that were not taken yet, the oldest first.

        A text message is a ``str``, a binary message is ``bytes``.  Reading this property does
        what is due now.
        """
        self._clock.settle()
        self._read_frames()
        return self._inbox

    def take(self) -> str | bytes:
        """Take the oldest message out of the inbox, and return it.

        :raises LookupError: if the inbox is empty.
        """
        if not self.inbox:
            raise LookupError(f"the inbox of {self!r} is empty")
        return self._inbox.pop(0)

    def messages(self) -> list[str | bytes]:
        """Take all messages out of the inbox, and return them."""
        taken = self.inbox.copy()
        self._inbox.clear()
        return taken

    # Messages and errors of this client.

    def send(self, data: str | bytes) -> None:
        """Send a text message (``str``) or a binary message (``bytes``).

        :raises ClientClosed: if the client has closed, or has seen the server close.
        """
        check_kind("data", data, str | bytes, "text or bytes")
        if isinstance(data, str):
            self._put(client_frame(MessageType.TEXT, data.encode()))
        else:
            self._put(client_frame(MessageType.BINARY, data))

    def send_json(self, obj: object) -> None:
        """Send ``obj`` as JSON text; see ``send``."""
        self.send(json.dumps(obj))

    def send_wire(self, data: bytes) -> None:
        """Send raw bytes, such as a broken frame; see ``send``."""
        check_kind("data", data, bytes, "bytes")
        self._put(data)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection as RFC 6455 says; see ``send``.

        :param code: a number from 1 to 65535, also one that RFC 6455 does not allow.
        :raises SettingError: for another number.
        """
        check_number("code", code, 1, whole=True)
        check_kind("reason", reason, str, "text")
        if code > MOST_CODE:
            raise SettingError("code", f"expected an integer of at most {MOST_CODE}, got {code!r}")
        self._put(client_close(code, reason), closes=True)

    def drop(self) -> None:
        """Break the connection: both ends see it end without a Close."""
        self._transport.ended = True
        self._transport.shutdown()
        self._clock.settle()

    def vanish(self) -> None:
        """Lose every byte from now on, in both directions, as a phone without a network does.

        Only the keepalive of the hub finds out.
        """
        self._read_frames()  # bytes that arrived before
        self._transport.vanished = True
        self._transport.changed()
        self._clock.settle()

    def stall(self) -> None:
        """Read nothing from now on, pings included, until ``resume``.  It may still send."""
        self._transport.stalled = True

    def resume(self) -> None:
        """Read again."""
        self._transport.stalled = False
        self._transport.changed()
        self._clock.settle()

    # The end of the connection.

    @property
    def closed(self) -> bool:
        """True if the connection has ended, for whatever reason."""
        self._clock.settle()
        return self._over

    @property
    def close_code(self) -> int | None:
        """The code of the server's Close: 1005 for a Close without a code, 1006 for no Close.

        ``None`` while the connection is open.
        """
        self._clock.settle()
        return self._code

    @property
    def close_reason(self) -> str:
        """The reason of the server's Close."""
        self._clock.settle()
        return self._reason

    def __repr__(self) -> str:
        return f"<VirtualClient {'closed' if self._over else 'open'}, {len(self._inbox)} messages>"

    def _put(self, data: bytes, *, closes: bool = False) -> None:
        if self._said_close or self._over:
            raise ClientClosed(f"{self!r} has closed and can send nothing more")
        self._said_close = closes
        if not self._transport.vanished:
            self._transport.put(data)
        self._clock.settle()

    # The job that reads.

    def _read(self) -> float | None:
        transport = self._transport
        self._read_frames()
        if transport.cut or (transport.finished and not transport.vanished):
            self._end()
            return None
        return math.inf

    def _read_frames(self) -> None:
        transport = self._transport
        if transport.outgoing and not transport.vanished:
            pieces = transport.outgoing.copy()
            transport.outgoing.clear()
            for opcode, payload in self._frames.read(pieces):
                self._take_frame(opcode, payload)

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == MessageType.TEXT or opcode == MessageType.BINARY:
            message = payload.decode() if opcode == MessageType.TEXT else payload
            if self._awaits_hello:
                self._awaits_hello = False
                self._hello = json.loads(message)
                self._got = self._hello.get("at")
                return
            if self._got is not None:
                self._got += 1
            self._inbox.append(message)
            if self._on_message is not None:
                checked(self._on_message(self, message))
        elif opcode == MessageType.PING:
            self._answer(client_frame(MessageType.PONG, payload))
        elif opcode == MessageType.CLOSE:
            self._code, self._reason = close_of(payload)
            self._answer(client_frame(MessageType.CLOSE, payload))
            self._said_close = True

    def _answer(self, frame: bytes) -> None:
        if not self._said_close:
            self._transport.put(frame)

    def _end(self) -> None:
        self._over = True
        if self._code is None:
            self._code = ABNORMAL
        self._transport.end()
        self._on_end()
