"""The default settings as functions, and the ready-made preprocessing of messages.

Layer: defaults.  Threads: pure functions; any thread may call them.
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
"""The end of a line, for ``WebsocketPeriod.write_newline``."""

DEFAULT_SPACE = b" "
"""The separator between a prefix and its payload."""


def default_upgrader() -> Upgrader:
    """Return an ``Upgrader`` with its defaults.

    Unlike the specification's, it accepts browsers only from pages of the same host;
    ``Upgrader(check_origin="any")`` accepts all.
    """
    return Upgrader()


def default_websocket_period() -> WebsocketPeriod[Any]:
    """Return a ``WebsocketPeriod`` for text protocols such as JSON.

    It has the defaults and ``read_buffer_preprocessing_text``.  Do not use it for binary
    messages: the last byte of one may have the value of a newline.
    """
    return WebsocketPeriod(read_buffer_preprocessing=read_buffer_preprocessing_text)


def default_ping_handler(ctx: IOContext, meta: object, payload: bytes) -> None:
    """Do nothing: a ping handler for code that wants to name the default.

    The connection sends the pong before it calls a handler, and every byte that arrives counts
    as a sign of life.  The specification's handler moves a deadline; here there is none to move.
    """


@overload
def read_buffer_preprocessing_text(data: str) -> str: ...
@overload
def read_buffer_preprocessing_text(data: bytes) -> bytes: ...
def read_buffer_preprocessing_text(data: str | bytes) -> str | bytes:
    """Return ``data`` without the newlines, tabs and spaces at both ends.

    It is for text protocols whose clients end their messages with a newline.
    """
    return data.strip(" \t\r\n") if isinstance(data, str) else data.strip(b" \t\r\n")


def read_buffer_preprocessing_binary(data: AnyStr) -> AnyStr:
    """Return ``data`` unchanged, for binary protocols."""
    return data
