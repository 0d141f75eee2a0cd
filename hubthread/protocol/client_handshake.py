"""The opening handshake of a client: its request, and the check of the answer.

Layer: protocol.  Threads: an ``Exchange`` belongs to one thread; the functions are pure.
Source: RFC 6455 section 4.1, RFC 9110 section 9.3.6 (CONNECT).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import h11

from hubthread.errors import HubThreadError, WrongType, WrongValue
from hubthread.protocol.handshake import accept_token
from hubthread.protocol.http import MAX_HEAD
from hubthread.protocol.request import Headers, checked_headers

__all__ = ["Address", "Answer", "Exchange", "WrongAnswer", "check_upgrade", "upgrade_fields"]

_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_OWN_FIELDS = frozenset(
    {
        *("upgrade", "connection", "host", "content-length", "transfer-encoding"),
        *("sec-websocket-key", "sec-websocket-version", "sec-websocket-accept"),
        *("sec-websocket-extensions", "sec-websocket-protocol"),
    }
)
_HOST = re.compile(r"[A-Za-z0-9._~:-]+")
_SECONDS = re.compile(r"[0-9]{1,9}")
_SWITCHING = 101
_NO_ANSWER = "the server has closed the connection without an answer"


class WrongAnswer(HubThreadError):
    """The answer does not make a WebSocket; the text says why."""

    def __init__(self, text: str, status: int | None = None, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        """The status of the answer; ``None`` for an answer that is broken."""
        self.retry_after = retry_after
        """The seconds that the server asks its client to wait; 0.0 for none."""


@dataclass(frozen=True)
class Address:
    """The place of a server."""

    secure: bool
    """True for TLS."""
    host: str
    port: int
    target: str
    """The path and the query."""

    @classmethod
    def of(cls, url: object, schemes: Iterable[str] = _PORTS) -> Address:
        """Return the address in a URL.

        :param schemes: the schemes that are allowed.
        :raises WrongValue: for anything else.
        """
        names = ", ".join(schemes)
        if not isinstance(url, str):
            raise WrongType(f"expected an address of {names}, got {url!r}")
        wanted = f"expected an address of {names}, such as ws://localhost:8000/ws, got {url!r}"
        try:
            parts = urlsplit(url)
            port = parts.port
            host = (parts.hostname or "").encode("idna").decode()
        except ValueError as error:
            raise WrongValue(f"{wanted}: {error}") from None
        if parts.scheme not in schemes or not _HOST.fullmatch(host):
            raise WrongValue(wanted)
        if parts.username is not None and parts.scheme in ("ws", "wss"):
            raise WrongValue("the address has a user: give headers={'Authorization': …} instead")
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
        return cls(
            parts.scheme in ("wss", "https"),
            host,
            _PORTS[parts.scheme] if port is None else port,
            f"{path}?{query}" if query else path,
        )

    @property
    def authority(self) -> str:
        """The host and the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_field(self) -> str:
        """The value of ``Host``: without the port that the scheme implies."""
        usual = self.port == (443 if self.secure else 80)
        return self.authority.rpartition(":")[0] if usual else self.authority


@dataclass(frozen=True)
class Answer:
    """The answer to the one request of a connection."""

    status: int
    headers: Headers
    rest: bytes
    """The bytes behind it: the first frames, perhaps."""


class Exchange:
    """A request and the answer to it.

    :param target: a path, or for ``CONNECT`` a host and a port.
    :param fields: header fields, with ``Host``.
    """

    def __init__(self, method: str, target: str, fields: Sequence[tuple[str, str]]) -> None:
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self.request: bytes = self._parser.send(
            h11.Request(
                method=method,
                target=target,
                headers=[(name.encode(), value.encode("latin-1")) for name, value in fields],
            )
        ) + (self._parser.send(h11.EndOfMessage()) or b"")
        """The bytes to send."""

    def receive(self, data: bytes) -> Answer | None:
        """Take received bytes, ``b""`` at the end; return the answer once its head is complete.

        :raises WrongAnswer: for anything but HTTP.
        :raises ConnectionResetError: if the stream ends before the answer.
        """
        try:
            self._parser.receive_data(data)
            while True:
                event = self._parser.next_event()
                if event is h11.NEED_DATA:
                    return None
                if isinstance(event, h11.Response) or (
                    isinstance(event, h11.InformationalResponse)
                    and event.status_code == _SWITCHING
                ):
                    fields = [*event.headers]
                    return Answer(
                        event.status_code, Headers(fields), self._parser.trailing_data[0]
                    )
                if isinstance(event, h11.ConnectionClosed):
                    raise ConnectionResetError(_NO_ANSWER)
        except h11.RemoteProtocolError as error:
            if not data:
                raise ConnectionResetError(_NO_ANSWER) from None
            raise WrongAnswer(f"the server does not speak HTTP/1.1: {error}") from None


def upgrade_fields(
    address: Address, key: str, subprotocols: Sequence[str], more: Iterable[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the header fields of a handshake.

    :param key: 16 bytes that nobody can foresee, in base64.
    :param more: fields of the program.
    :raises SettingError: for a field that cannot be sent, or that the handshake writes itself.
    """
    fields = [
        ("Host", address.host_field),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    return fields + checked_headers(more, reserved=_OWN_FIELDS)


def check_upgrade(answer: Answer, key: str, subprotocols: Sequence[str]) -> str | None:
    """Return the subprotocol that the server has chosen, if any.

    :raises WrongAnswer: if the answer does not accept the handshake.
    """
    headers = answer.headers
    if answer.status != _SWITCHING:
        after = headers.get("retry-after", "")
        wait = float(after) if _SECONDS.fullmatch(after) else 0.0
        raise WrongAnswer(f"the server answers {answer.status}", answer.status, wait)
    if headers.get("sec-websocket-accept", "").strip() != accept_token(key):
        raise WrongAnswer(
            "the server does not accept the handshake: Sec-WebSocket-Accept is wrong"
        )
    if headers.get("upgrade", "").lower() != "websocket":
        raise WrongAnswer("the server switches to another protocol than websocket")
    if "sec-websocket-extensions" in headers:
        raise WrongAnswer("the server uses an extension that was not offered")
    chosen = headers.get("sec-websocket-protocol")
    if chosen is not None and chosen not in subprotocols:
        raise WrongAnswer("the server uses a subprotocol that was not offered")
    return chosen
