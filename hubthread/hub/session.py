"""One session: a client that may come back, the connection that it is on, and its hello.

Layer: hub.  Threads: the lock of the ``SessionTable`` guards a session, unless an attribute says
otherwise.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from hubthread.clients.client import Client
from hubthread.concurrency.timers import Timer
from hubthread.core.core import Core
from hubthread.net.lasting import AwayLink, LastingConnection
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.hub_messages import VERSION, encode_message, reply_to

__all__ = [
    "HELLO",
    "ComeAgain",
    "Move",
    "Session",
    "TakenOver",
    "encode_frame",
    "hello_answer",
    "key_of",
    "link_of",
]

HELLO = "hub:hello"


class TakenOver(Exception):
    """A connection asks for a session that a later connection, or another hub, has got."""


class ComeAgain(Exception):
    """A connection asks for a session that only a new connection can get."""


class Move:
    """A session on its way here from another hub, and the latest connection that asks for it."""

    __slots__ = ("client", "is_given", "is_over", "record", "session", "sink")

    def __init__(self, client: Client[Any, Any], sink: Any) -> None:
        self.client = client
        self.sink = sink
        self.is_given = False
        """True if another hub has asked for the session meanwhile."""
        self.is_over = False
        self.record: bytes | None = None
        """The client's record, from the other hub; None if there is no such session."""
        self.session: Session | None = None
        """The session here, if the move has succeeded."""


class Session:
    """One client that may come back."""

    __slots__ = (
        "absence", "client", "ended", "key", "latest", "line", "noted", "peer", "record", "timer",
        "told",
    )  # fmt: skip

    def __init__(self, client: Client[Any, Any], line: Any, key: str) -> None:
        self.client = client
        self.latest: int = line.number
        """The number of the latest connection that the client has been on."""
        self.key = key
        """The hash of the token, in hexadecimal digits."""
        self.line = line
        """The ``SessionSink`` of the connection that the client is on, or comes back on; or the
        ``AwayLink`` while it is away."""
        self.ended = False
        self.absence: object = None
        """Stands for the time that the client is away now; each time has its own."""
        self.timer: Timer | None = None
        """The end of the grace, while the client is away."""
        self.peer: tuple[str, int] | str = ""
        """The address under which the client counts while it is away."""
        self.told = False
        """True if the program was told that the client is away.  Only the client's callbacks, in
        their order, touch it."""
        self.noted = False
        """True while the record is to be kept anew.  Any thread."""
        self.record: bytes | None = None
        """The client's record for other hubs.  Written in the order of the client's callbacks."""


def hello_answer(
    core: Core[Any, Any],
    hello: dict[str, Any],
    client: Client[Any, Any],
    token: str,
    resumed: bool,
    lost: int,
    number: int,
) -> bytes:
    """Return the frame of the hello that a client gets.

    :param hello: the hello that the client has sent.
    :param number: the number of the returned message, from which the client counts.
    """
    fields = {
        "type": HELLO,
        **reply_to(hello.get("id")),
        "v": VERSION,
        "id": client.connection_id,
        "now": int(core.clock.wall() * 1000),
        **({} if client.admission is None else client.admission.fields()),
        "session": token,
        "resumed": resumed,
        "at": number,
    }
    if lost:
        fields["lost"] = lost
    if client.returning is not None and not resumed:
        fields["moved"] = True
    return encode_frame(fields)


def encode_frame(fields: dict[str, Any]) -> bytes:
    """Return the frame of a message of the hub's own."""
    return Frame(encode_message(fields), MessageType.TEXT).wire


def key_of(token: str) -> str:
    """Return the key of the session with that token: its hash, in hexadecimal digits."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def link_of(client: Client[Any, Any]) -> LastingConnection | AwayLink:
    """Return the connection of a client that has a session, or the link that stands for it."""
    return cast("LastingConnection | AwayLink", client.ws_conn)
