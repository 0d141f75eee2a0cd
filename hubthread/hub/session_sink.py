"""The receiver of one connection, before and after it has a client.

A connection of ``hubthread.1`` has no client before its first message; see ``session_table``.

Layer: hub.  Threads: the connection's reader, but for ``refuse_closing`` and ``_switch``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from hubthread.clients.client import Client
from hubthread.concurrency.timers import Timer
from hubthread.core.core import Core
from hubthread.errors import ClientClosed
from hubthread.hub.session import HELLO, ComeAgain, Session, TakenOver, encode_frame, hello_answer
from hubthread.limits import HANDSHAKE
from hubthread.net.connection import GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION
from hubthread.net.lasting import Greeting, LastingConnection
from hubthread.protocol.close_codes import CloseCode
from hubthread.protocol.hub_messages import (
    Refusal,
    check_hello,
    load_message,
    reply_to,
)
from hubthread.protocol.request import Request

__all__ = ["SessionSink"]


class Sessions(Protocol):
    """The methods of ``SessionTable`` that its connections use; see their docstrings there."""

    def arrive(self, sink: SessionSink) -> bool: ...
    def arrived(self, sink: SessionSink) -> None: ...
    def open(self, client: Client[Any, Any], sink: SessionSink) -> tuple[Session, str]: ...
    def note(self, session: Session) -> None: ...
    def claim(self, token: str, got: int | None, sink: SessionSink) -> Session | None: ...
    def fetch(self, client: Client[Any, Any], sink: SessionSink, token: str) -> Session | None: ...
    def count_resume(self, *, resumed: bool) -> None: ...
    def switch(self, session: Session, sink: SessionSink, greeting: Greeting) -> bool: ...
    def lose(self, session: Session, sink: SessionSink) -> bool: ...
    def end(self, session: Session, code: int, reason: str) -> None: ...


class SessionSink:
    """The receiver of one connection, before and after it has a client.

    Threads: the connection's reader, but for ``refuse_closing`` and ``_switch``.
    """

    __slots__ = (
        "_core", "_inside", "_make", "_share", "_table", "_timer", "client", "connection",
        "ended", "number", "request", "session", "switched",
    )  # fmt: skip

    connection: LastingConnection

    def __init__(
        self,
        table: Sessions,
        core: Core[Any, Any],
        number: int,
        request: Request,
        make: Callable[..., Client[Any, Any]],
        share: Callable[[Client[Any, Any]], object],
    ) -> None:
        self._table = table
        self._core = core
        self._make = make
        self._share = share
        self._timer: Timer | None = None
        self._inside: Client[Any, Any] | None = None
        self.number = number
        """The number of the connection: later connections have higher ones."""
        self.request = request
        """The request that has opened the connection."""
        self.client: Client[Any, Any] | None = None
        """The client; None until the first message."""
        self.session: Session | None = None
        """The client's session, if it has one."""
        self.switched = False
        """True once the client uses this connection."""
        self.ended = False
        """True if the client ends with this connection."""

    def begin(self) -> None:
        """Wait for the first message, as long as a handshake may take."""
        if self._table.arrive(self):
            seconds = self._core.setting.websocket_period.upgrader.handshake_timeout
            self._timer = self._core.timers.set(seconds, self._refuse_silent)
        else:
            self.refuse_closing()

    def refuse_closing(self) -> None:
        """Close a connection that has no client, because the hub closes.  Any thread."""
        self.connection.close(GOING_AWAY, "the server is going away")

    def _refuse_silent(self) -> None:
        if self.client is None:
            reason = "expected hub:hello"
            self.connection.close(POLICY_VIOLATION, reason, ended_by="violation", limit=HANDSHAKE)

    # As ``Sink``.

    def enter(self) -> None:
        """See ``Sink``."""
        client = self.client
        if client is not None:
            client.enter()
            self._inside = client

    def leave(self) -> None:
        """See ``Sink``."""
        inside, self._inside = self._inside, None
        if inside is not None:
            inside.leave()

    def on_message(self, message: str | bytes) -> None:
        """See ``Sink``."""
        client = self.client
        if client is None:
            self._take_first(message)
        elif self._is_line():
            self._enter_late(client)
            client.on_message(message)

    def on_ping(self, payload: bytes) -> None:
        """See ``Sink``."""
        if self.client is not None and self._is_line():
            self._enter_late(self.client)
            self.client.on_ping(payload)

    def on_pong(self, payload: bytes) -> None:
        """See ``Sink``."""
        if self.client is not None and self._is_line():
            self._enter_late(self.client)
            self.client.on_pong(payload)

    def on_leaving(self) -> None:
        """See ``Sink``."""
        client = self.client
        if client is None:
            self._table.arrived(self)
            self._stop_timer()
            if self.connection.limit is not None:
                self._core.incidents.count_limit(self.connection.limit)
            return
        session = self.session
        self.ended = session is None or self._table.lose(session, self)
        if self.ended:
            client.on_leaving()

    def on_closed(self) -> None:
        """See ``Sink``."""
        if self.client is not None and self.ended:
            self.client.on_closed()

    def _is_line(self) -> bool:
        session = self.session
        return session is None or session.line is self

    def _enter_late(self, client: Client[Any, Any]) -> None:
        """Enter the client's order, if its first message came in the same read."""
        if self._inside is None:
            client.enter()
            self._inside = client

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # The first message.

    def _take_first(self, message: str | bytes) -> None:
        hello = load_message(message)
        if hello is None or hello["type"] != HELLO:  # a client that wants no session
            client = self._make()
            self._settle(client)
            client.ws_conn = self.connection
            self._share(client)
            client.begin()
            self.on_message(message)
            return
        try:
            self._greet(message, hello)
        except TakenOver:
            self.connection.take_over()
        except Refusal as refusal:
            answer = {"type": HELLO, **reply_to(hello.get("id")), "error": str(refusal)}
            self.connection.outbox.send_control(encode_frame(answer))

    def _greet(self, text: str | bytes, hello: dict[str, Any]) -> None:
        check_hello(hello, takes_token=self._core.setting.check_token is not None)
        token, got = hello.get("resume"), hello.get("got")
        if not isinstance(token, str | None):
            raise Refusal("resume: expected a text")
        if got is not None and (type(got) is not int or got < 0):
            raise Refusal("got: expected an integer from 0")
        if token is not None:
            session = self._table.claim(token, got, self)
            if session is not None:
                answer = partial(hello_answer, self._core, hello, session.client, token, True)
                switch = partial(self._switch, session, hello, Greeting(answer, got))
                with suppress(ClientClosed):  # it has ended meanwhile: a new client follows
                    session.client._strand.post(switch, essential=True)
                    self.session = session
                    self._settle(session.client)
                    self._table.count_resume(resumed=True)
                    return
        client = self._make()
        client.ws_conn = self.connection
        self._share(client)
        self._settle(client)
        welcome = partial(self._welcome, hello, client, token)
        if client.admission is not None:  # checks its token first; only then another hub is asked
            client.admission.welcome = welcome
            client.begin()
            self.on_message(text)
        elif welcome():
            client.begin()
            if self.session is not None:
                self._table.note(self.session)

    def _welcome(self, hello: dict[str, Any], client: Client[Any, Any], token: str | None) -> bool:
        """Give a new client its session; return False if the session has gone on elsewhere.

        :param token: the token of a session that may be in another hub; None for a new session.
        """
        session = None
        if token is not None:
            try:
                session = self._table.fetch(client, self, token)
            except TakenOver:
                self.connection.take_over()
                return False
            except ComeAgain:
                self.connection.close(CloseCode.COME_BACK, "connected elsewhere just now")
                return False
            self._table.count_resume(resumed=session is not None)
        if session is None or token is None:
            session, token = self._table.open(client, self)
        self.session = session
        self.switched = True
        self.connection.close_later = partial(self._table.end, session)
        self.connection.outbox.open(hello_answer(self._core, hello, client, token, False, 0, 1))
        if client.admission is not None:  # the record waits in the client's order for its start
            self._table.note(session)
        return True

    def _settle(self, client: Client[Any, Any]) -> None:
        """Note the client of the connection."""
        del self._make  # it would keep the handshake's answer in memory
        self._stop_timer()
        if self.session is not None:
            self.connection.close_later = partial(self._table.end, self.session)
        self.client = client
        self._table.arrived(self)

    def _switch(self, session: Session, hello: dict[str, Any], greeting: Greeting) -> None:
        """Let the client use this connection from now on.  In the order of its callbacks."""
        client = session.client
        admission = client.admission
        if admission is not None:
            check = partial(admission.check, hello, self.connection)
            if not (self._is_line() and client.decide(check)):
                self.connection.close(INTERNAL_ERROR, "the server failed to check the token")
                return
        if self._table.switch(session, self, greeting):
            session.told = False
            self._share(client)
            client.tell_resumed()
