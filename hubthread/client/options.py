"""The options of a link.

Layer: client.  Threads: immutable values; any thread reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_callable, check_has, check_kind, check_number
from hubthread.errors import SettingError, SettingTypeError
from hubthread.matcher.matcher import MatcherMap, SubMatcher
from hubthread.protocol.client_handshake import Address, upgrade_fields

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["LinkOption"]


@dataclass(frozen=True)
class LinkOption:
    """The options of a link: ``connect(url, token=fetch_token)``.

    :raises SettingError: for a value out of range.
    """

    token: str | Callable[[bool], str | None] | None = field(default=None, repr=False)
    """The token for the hub's hello, or a function that fetches a token: ``token(again)``.
    ``again`` is True if the server has refused the last token.  If the function returns None,
    nobody is logged in, and the link ends.  The link's thread calls the function for each attempt.
    The function may block."""
    matcher: MatcherMap[Any, Any] | SubMatcher[Any, Any] | None = None
    """Handlers by header, as on the server: ``handler(link, room, message)``.  ``room`` is None
    for messages outside of a room."""
    plain: bool = False
    """True for a server that does not speak ``hubthread.1``.  Then send with ``link.raw``, and
    take messages as text or bytes."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further header fields of the handshake, such as ``Authorization``."""
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The cookies of the handshake, by name."""
    ssl: tls.SSLContext | None = None
    """The TLS of ``wss``; None verifies the server with the system's certificates."""
    proxy: str | None = field(default=None, repr=False)
    """The URL of an HTTP proxy, ``http://user:password@host:port``, that tunnels with CONNECT."""
    timeout: float = 10.0
    """Seconds for the answer to a request."""
    messages: int = 64
    """The most messages that may wait for a connection."""
    message_bytes: int = 256 * 1024
    """The most bytes of messages that may wait for a connection."""
    inbox: int = 1024
    """The most messages without a listener that are kept for ``receive`` and iteration."""
    max_message: int = 4 << 20
    """The most bytes of one message.  A longer message ends the link."""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("hubthread"))
    """Gets the exceptions of callbacks."""

    def __post_init__(self) -> None:
        if self.token is not None and not isinstance(self.token, str):
            check_callable("token", self.token, "again")
        wanted = "a MatcherMap, a SubMatcher or None"
        check_kind("matcher", self.matcher, (MatcherMap, SubMatcher, type(None)), wanted)
        check_kind("plain", self.plain, bool, "True or False")
        if self.ssl is not None:
            check_has("ssl", self.ssl, "wrap_bio", "an SSLContext or None")
        check_kind("logger", self.logger, (logging.Logger, logging.LoggerAdapter), "a logger")
        for name in ("headers", "cookies"):
            check_kind(name, getattr(self, name), Mapping, "a mapping of names to values")
        if self.proxy is not None:
            try:
                Address.of(self.proxy, ("http",))
            except ValueError as error:
                kind = SettingTypeError if isinstance(error, TypeError) else SettingError
                raise kind("proxy", str(error)) from None
        check_number("timeout", self.timeout, 0)
        check_number("max_message", self.max_message, 1, whole=True)
        for name in ("messages", "message_bytes", "inbox"):
            check_number(name, getattr(self, name), 1, whole=True)
        upgrade_fields(Address(False, "x", 80, "/"), "", (), self.fields())  # raises

    def fields(self) -> list[tuple[str, str]]:
        """Return the header fields of the program, with its cookies."""
        fields = [*self.headers.items()]
        if self.cookies:
            pairs = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            fields.append(("Cookie", pairs))
        return fields
