"""Make frames of the program's data, by a hub's settings.

Layer: core.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

from typing import Any, Protocol

from hubthread.errors import WrongType
from hubthread.protocol.frames import Frame, MessageType
from hubthread.settings import WebsocketPeriod

__all__ = ["Framer", "framer"]

_TEXT = int(MessageType.TEXT)
_BINARY = int(MessageType.BINARY)


class Framer(Protocol):
    """A function that makes a frame of one message."""

    def __call__(self, data: str | bytes, message_type: MessageType | None = None) -> Frame:
        """Return ``data`` as one message on the wire.

        :param message_type: None takes the type in the hub's settings, or else that of the data.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        :raises WrongValue: for text that UTF-8 cannot encode.
        """


def framer(period: WebsocketPeriod[Any]) -> Framer:
    """Return the framer for ``write_message_type`` and ``write_newline`` of ``period``."""
    newline = period.write_newline
    fixed = period.write_message_type
    if not newline and fixed is None:
        return _plain

    def frame(data: str | bytes, message_type: MessageType | None = None) -> Frame:
        if newline and isinstance(data, str | bytes):
            data = data + newline.decode() if isinstance(data, str) else data + newline
        return _plain(data, message_type or fixed)

    return frame


# A function of the module, not of ``framer``: free-threaded CPython counts no references to it.
def _plain(data: str | bytes, message_type: int | None = None) -> Frame:
    kind = type(data)
    if message_type is None:
        if kind is str:
            return Frame(data, _TEXT)
        if kind is bytes:
            return Frame(data, _BINARY)
    if not isinstance(data, str | bytes):
        raise WrongType(
            f"expected a message of str (text) or bytes (binary), got {kind.__name__}; "
            "send objects with write_json to a client, with push_json or push_splicing to a "
            "room, and with broadcast_json to all"
        )
    return Frame(data, message_type or (_TEXT if isinstance(data, str) else _BINARY))
