"""Push into shared rooms from a program that has no hub: a task, a script, another web worker.

``Publisher("redis://localhost", prefix="shop").push("table 7", "hello")``

Layer: publisher.  Threads: any thread may call every method, and waits there for the server.  A
publisher starts no threads.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict

from hubthread.backplane.interfaces import Message
from hubthread.backplane.letters import encode_letter, user_box
from hubthread.backplane.redis.boxes import box_channel
from hubthread.backplane.redis.publisher import place_command
from hubthread.backplane.redis.scripts import PUBLISH, keys_of
from hubthread.backplane.redis.wire import Connector, Lost, ReplyError, Wire, command, pack
from hubthread.checks import check_kind, check_number
from hubthread.errors import BackplaneDown, PublishUnknown
from hubthread.history import Position
from hubthread.matcher.compile import marshal_json
from hubthread.protocol.frames import Frame, MessageType
from hubthread.room_option import check_room_name
from hubthread.types import Key, check_key

__all__ = ["Publisher"]

MOST_ROOMS = 1024
"""The most rooms whose last number is kept."""


class Publisher:
    """Pushes into the shared rooms of all hubs with the same Redis server and prefix.

    The first push makes a connection, and a later push makes a new one if it is lost.  If the
    answer to a push is lost, the push is sent a second time, and still gets one place.
    ``with Publisher(…) as publisher:`` closes the connection at the end.

    Threads: every method may be called on any thread, and waits for the server.  A process that
    was forked makes a connection of its own.

    :param url: the URL of the server, as for ``RedisBackplane``.
    :param prefix: the prefix of the hubs' ``RedisBackplane``.
    :param timeout: seconds that a push may take.
    :raises SettingError: for a value out of range.
    :raises UsageError: if redis-py is not installed.
    """

    def __init__(self, url: str, *, prefix: str = "hubthread", timeout: float = 5.0) -> None:
        check_kind("prefix", prefix, str, "a string")
        check_number("timeout", timeout, 0)
        self._connector = Connector(url)
        self._prefix = prefix
        self._timeout = timeout
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()  # guards what follows; held while a push waits
        self._wire: Wire | None = None
        self._run_id = b""
        self._rooms: OrderedDict[str, tuple[str, int]] = OrderedDict()  # origin, last number

    def push(self, room: str, data: str | bytes, *, key: Key | None = None) -> Position:
        """Send a text (``str``) or binary (``bytes``) message to all members of a shared room.

        The room need not be open in any hub.

        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :returns: the push's place in the room's order.
        :raises BackplaneDown: if the server cannot be reached; nothing was pushed.
        :raises PublishUnknown: if the push was sent, and no answer has come in time.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        :raises WrongValue: for text that UTF-8 cannot encode.
        """
        check_room_name(room)
        body = _packed(data, key)
        if self._process != os.getpid():  # the connection is the parent's
            self._begin()
        with self._lock:
            return self._push(room, body)

    def push_json(self, room: str, obj: object) -> Position:
        """Push ``obj`` as JSON text; see ``push``.

        :param obj: anything that ``marshal_json`` takes.
        """
        return self.push(room, marshal_json(obj))

    def tell(self, user: str, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a message to all clients of a user, in all hubs, as ``hub.tell`` does.

        The message reaches the clients that are connected now, once or not at all.

        :param user: the name that ``HubSetting.user`` has returned.
        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :returns: the number of hubs that the message has gone to; 0 if the user has no clients.
        :raises BackplaneDown: if the server cannot be reached; nothing was sent.
        :raises PublishUnknown: if the message was sent, and no answer has come in time.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        """
        check_kind("user", user, str, "the name of a user")
        letter = encode_letter({"user": user}, _packed(data, key))
        channel = box_channel(self._prefix, user_box(user))
        if self._process != os.getpid():  # the connection is the parent's
            self._begin()
        with self._lock:
            try:
                wire = self._connected(f"user {user!r}")
                try:
                    (reply,) = wire.ask(
                        command(b"PUBLISH", channel, letter), timeout=self._timeout
                    )
                except Lost as error:
                    raise PublishUnknown(f"user {user!r}: {error}; no answer has come") from None
                if isinstance(reply, ReplyError):
                    raise BackplaneDown(f"user {user!r}: {reply}; nothing was sent")
            except BaseException:
                self._disconnect()
                raise
        return int(reply)

    def tell_json(self, user: str, obj: object) -> int:
        """Send ``obj`` as JSON text to all clients of a user; see ``tell``."""
        return self.tell(user, marshal_json(obj))

    def close(self) -> None:
        """Close the connection.  A later push makes another one."""
        with self._lock:
            self._disconnect()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _push(self, room: str, body: bytes) -> Position:
        # After an error the next push begins a new origin, with numbers from 1.
        origin, last = self._rooms.pop(room, (secrets.token_hex(6), 0))
        number = last + 1
        try:
            try:
                reply = self._place(room, origin, number, body)
            except PublishUnknown as unknown:  # often the end of a connection that was idle long
                self._disconnect()
                try:
                    reply = self._place(room, origin, number, body)
                except BackplaneDown:
                    raise unknown from None
        except BaseException:
            self._disconnect()
            raise
        self._rooms[room] = origin, number
        if len(self._rooms) > MOST_ROOMS:
            self._rooms.popitem(last=False)
        return reply

    def _place(self, room: str, origin: str, number: int, body: bytes) -> Position:
        wire = self._connected(f"room {room!r}")
        server = self._run_id, secrets.token_hex(4).encode()
        keys = keys_of(self._prefix, room)
        placing = place_command(keys, None, server, origin, range(number, number + 1))
        try:
            (reply,) = wire.ask(
                command(b"EVAL", PUBLISH.source, *placing, body), timeout=self._timeout
            )
        except Lost as error:
            raise PublishUnknown(f"room {room!r}: {error}; no answer has come") from None
        if isinstance(reply, ReplyError):
            raise BackplaneDown(f"room {room!r}: {reply}; nothing was sent")
        _, epoch, top = reply
        return Position(epoch.decode(), int(top))

    def _connected(self, what: str) -> Wire:
        """Return the connection; make one first if there is none.

        :raises BackplaneDown: if the server cannot be reached.
        """
        try:
            wire = self._wire
            if wire is None:
                wire = self._wire = self._connector.connect()
                self._run_id = wire.run_id()
        except Lost as error:
            raise BackplaneDown(f"{what}: {error}; nothing was sent") from None
        return wire

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def _packed(data: str | bytes, key: Key | None) -> bytes:
    """Return the bytes of a message, as hubs send it."""
    check_kind("data", data, str | bytes, "text or bytes")
    check_key(key)
    kind = MessageType.TEXT if isinstance(data, str) else MessageType.BINARY
    return pack(Message(Frame(data, kind), key))
