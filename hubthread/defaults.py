"""What the specification makes by calling functions, and its ready-made preprocessing.

Layer: base.  Pure functions: any thread.
Source: the specification's ``DefaultUpgrader``, ``DefaultWebsocketPeriod``,
``DefaultPingHandler``, ``DefaultNewline``, ``DefaultSpace``, ``ReadBufferPreprocessingText``
and ``ReadBufferPreprocessingBinary``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, AnyStr, overload

from hubthread.settings import Upgrader, WebsocketPeriod

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext

__all__ = [
    "DEFAULT_NEWLINE",
    "DEFAULT_SPACE",
    "default_ping_handler",
    "default_upgrader",
    "default_websocket_period",
    "read_buffer_preprocessing_binary",
    "read_buffer_preprocessing_text",
]

DEFAULT_NEWLINE = b"\n"
"""Ends a line: for ``WebsocketPeriod.write_newline``."""

DEFAULT_SPACE = b" "
"""Stands between words: what a prefix and its payload are told apart by."""


def default_upgrader() -> Upgrader:
    """An ``Upgrader`` as it is without arguments.

    Unlike the specification's it lets a browser in only from a page of the same host:
    ``Upgrader(check_origin="any")`` takes all.
    """
    return Upgrader()


def default_websocket_period() -> WebsocketPeriod[Any]:
    """A ``WebsocketPeriod`` for text protocols such as JSON.

    As without arguments, but with ``read_buffer_preprocessing_text``: not for binary
    messages, whose last byte may well be that of a newline.
    """
    return WebsocketPeriod(read_buffer_preprocessing=read_buffer_preprocessing_text)


def default_ping_handler(ctx: IOContext, meta: object, payload: bytes) -> None:
    """A ping handler that adds nothing to what each ping gets anyway.

    The connection has answered it before any handler is called, and any byte that arrives
    counts as a sign of life: there is no deadline to move, as the specification's has to.
    """


@overload
def read_buffer_preprocessing_text(data: str) -> str: ...
@overload
def read_buffer_preprocessing_text(data: bytes) -> bytes: ...
def read_buffer_preprocessing_text(data: str | bytes) -> str | bytes:
    """``data`` without the newlines, tabs and spaces around it; those inside stay.

    For text protocols, whose clients end their messages with a newline.
    """
    return data.strip(" \t\r\n") if isinstance(data, str) else data.strip(b" \t\r\n")


def read_buffer_preprocessing_binary(data: AnyStr) -> AnyStr:
    """``data`` as it came: for binary protocols, where every byte may matter."""
    return data
