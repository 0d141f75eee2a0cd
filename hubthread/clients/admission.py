"""Clients that show a token in their first message, ``HubSetting.check_token``.

A browser cannot send headers with its handshake, and an address with a token in it ends up in
logs.  So the token comes in the ``hub:hello`` after the handshake.  Until the token is checked the
client is in no list of the hub: no callback runs, and no room and no broadcast reaches it.  Its
first message has to be the hello, within the time for the handshake.

Layer: clients.  Threads: ``begin`` and ``__call__`` run on the thread that runs the client's
callbacks.  Deadlines fire on the timer thread.  ``end`` may be called on any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hubthread.checks import checked
from hubthread.concurrency.timers import Timer
from hubthread.core.core import Core
from hubthread.protocol.close_codes import CloseCode
from hubthread.protocol.hub_messages import load_message

if TYPE_CHECKING:
    from hubthread.net.interfaces import Link

__all__ = ["Admission"]

REFUSED: Final = "the token was refused"
LONGEST = 30 * 24 * 3600.0
"""The most seconds that a token is valid, whatever ``check_token`` has returned."""


class Admission:
    """The token of one client: awaited, checked, and valid for a time.

    :param core: the core of a hub with ``check_token``.
    :param client: the client, whose ``intercept`` is this object until it is admitted.
    """

    __slots__ = ("_client", "_core", "_timer", "ttl", "welcome")

    def __init__(self, core: Core[Any, Any], client: Any) -> None:
        self._core = core
        self._client = client
        self._timer: Timer | None = None
        self.ttl: float | None = None
        """Seconds for which the last token is valid; ``None`` if it never expires."""

        self.welcome: Callable[[], bool] | None = None
        """Answers the first message before the client begins; ``None``: the client answers it."""

    def begin(self) -> None:
        """Wait for the first message.

        :raises Closed: when the hub is closing.
        """
        self._core.registry.expect(self._client)
        seconds = self._core.setting.websocket_period.upgrader.handshake_timeout
        self._close_after(seconds, f"no token came in {seconds:g} s")

    def __call__(self, client: Any, meta: Any) -> bool:
        """Check the token of the first message, and let the client begin."""
        message = load_message(client.payload)
        if message is None or message["type"] != "hub:hello":
            client.ws_conn.close(CloseCode.TOKEN_REFUSED, "send hub:hello with a token first")
        elif self.check(message):
            client.intercept = self._core.client_messages
            welcome, self.welcome = self.welcome, None
            if client.start(welcome) and welcome is None:
                client.intercept(client, meta)  # answers the hello
        return False

    def check(self, message: dict[str, Any], connection: Link | None = None) -> bool:
        """Return True if the token of a message is good; otherwise close the client.

        :param connection: the connection to close, if the client has not changed to it yet.
        """
        self.end()
        client, hook = self._client, self._core.setting.check_token
        if connection is None:
            connection = client.ws_conn
            assert connection is not None
        token = message.get("token")
        if not isinstance(token, str):
            connection.close(CloseCode.TOKEN_REFUSED, "expected a token, a text")
            return False
        assert hook is not None
        client._ahead(hook)
        try:
            with self._core.registry.busy(client):
                verdict: object = checked(hook(client, client.meta, token))
        except BaseException as error:  # noqa: BLE001 - logged; and the client is not let in
            client.note(error)
            self._core.incidents.log_exception(error, "check_token raised for %r", client)
            connection.close(CloseCode.INTERNAL_ERROR, "the server failed to check the token")
            return False
        if verdict is True:
            self.ttl = None
            return True
        if isinstance(verdict, (int, float)) and verdict > 0:
            self.ttl = min(float(verdict), LONGEST)
            self._close_after(self.ttl, "the token has expired")
            return True
        reason = verdict if isinstance(verdict, str) else REFUSED
        connection.close(CloseCode.TOKEN_REFUSED, reason)
        return False

    def renew(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Answer a ``hub:token``, which brings the next token before the last one expires."""
        return self.fields() if self.check(message) else None

    def fields(self) -> dict[str, Any]:
        """Return the fields of an answer for the time that the token is valid."""
        return {} if self.ttl is None else {"token_ttl": self.ttl}

    def end(self) -> None:
        """Stop the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_after(self, seconds: float, reason: str) -> None:
        connection = self._client.ws_conn
        self._timer = self._core.timers.set(
            seconds, lambda: connection.close(CloseCode.TOKEN_REFUSED, reason)
        )
