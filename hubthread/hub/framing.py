"""From what users write to frames, by a hub's settings.

Layer: hub.  Threads: whichever writes or pushes; there is no state.
"""

from __future__ import annotations

from typing import Any, Protocol

from hubthread.errors import UsageError
from hubthread.protocol.frames import Frame, MessageType
from hubthread.settings import WebsocketPeriod

__all__ = ["Framer", "framer"]


class Framer(Protocol):
    """Makes a frame of a message."""

    def __call__(self, data: str | bytes, message_type: MessageType | None = None) -> Frame:
        """``data`` as one message on the wire.

        :param message_type: ``None``: by the hub's settings, or else by the data.
        :raises UsageError: for anything but text or bytes.
        :raises ValueError: for text that UTF-8 cannot carry.
        """


def framer(period: WebsocketPeriod[Any]) -> Framer:
    """The framer for ``write_message_type`` and ``write_newline`` of ``period``."""
    newline = period.write_newline
    fixed = period.write_message_type
    # Called for each message: a look at the type is all that most of them need.
    plain = {str: MessageType.TEXT, bytes: MessageType.BINARY} if fixed is None else {}

    def frame(data: str | bytes, message_type: MessageType | None = None) -> Frame:
        kind = plain.get(type(data))
        if kind is None:
            if not isinstance(data, str | bytes):
                raise UsageError(
                    f"a message is str (text) or bytes (binary), not {type(data).__name__}; "
                    f"write_json and write_serialization take objects"
                )
            kind = MessageType.TEXT if isinstance(data, str) else MessageType.BINARY
            if fixed is not None:
                kind = MessageType(fixed)
        if newline:
            data = data + newline.decode() if isinstance(data, str) else data + newline
        return Frame(data, message_type or kind)

    return frame
