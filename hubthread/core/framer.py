"""From what users write to frames, by a hub's settings.

Layer: hub.  Threads: whichever writes or pushes; there is no state.
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
    """Makes a frame of a message."""

    def __call__(self, data: str | bytes, message_type: MessageType | None = None) -> Frame:
        """``data`` as one message on the wire.

        :param message_type: ``None``: by the hub's settings, or else by the data.
        :raises WrongType: for anything but text or bytes.
        :raises ValueError: for text that UTF-8 cannot carry.
        """


def framer(period: WebsocketPeriod[Any]) -> Framer:
    """The framer for ``write_message_type`` and ``write_newline`` of ``period``."""
    newline = period.write_newline
    fixed = period.write_message_type
    if not newline and fixed is None:
        return _plain

    def frame(data: str | bytes, message_type: MessageType | None = None) -> Frame:
        if newline and isinstance(data, str | bytes):
            data = data + newline.decode() if isinstance(data, str) else data + newline
        return _plain(data, message_type or fixed)

    return frame


# Not a function made in ``framer``, which would be shared by all threads with what it refers
# to: free-threaded CPython counts no references to functions of a module.
def _plain(data: str | bytes, message_type: int | None = None) -> Frame:
    kind = type(data)
    if message_type is None:
        if kind is str:
            return Frame(data, _TEXT)
        if kind is bytes:
            return Frame(data, _BINARY)
    if not isinstance(data, str | bytes):
        raise WrongType(
            f"a message is str (text) or bytes (binary), not {kind.__name__}; "
            f"write_json and write_serialization take objects"
        )
    return Frame(data, message_type or (_TEXT if isinstance(data, str) else _BINARY))
