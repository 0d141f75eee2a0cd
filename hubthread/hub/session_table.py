"""The sessions of one hub: clients that come back after a lost connection (G13).

A connection of ``hubthread.1`` has no client before its first message.  If that is a ``hub:hello``
with the token of a session, the client of the session goes on, on this connection::

    → {"type":"hub:hello","v":1,"resume":"gu4…","got":41}
    ← {"type":"hub:hello","v":1,"id":17,"now":1764…,"session":"gu4…","resumed":true,"at":42}
    ← … the messages after number 41, then live …

A hub that does not know the token may ask others; see ``session_moves``.

``at`` is the number of the hello itself: a client counts every message from there on.  ``lost``
says how many messages are gone, if any.  A client that does not count leaves ``got`` out.  It
gets what has waited, but not what the socket had taken before the loss was noticed.

A session is in one of three states.  Its client has a *line*, a connection; or it is *away*, and
an ``AwayLink`` holds its messages; or it has *ended*.  A claim makes the new connection the line
at once.  The client itself changes over in the order of its callbacks, in ``SessionSink._switch``.

Layer: hub.  Threads: every method of ``SessionTable`` may be called on any thread.  The locks
of outboxes are taken under the table's, never the other way round.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from hubthread.clients.client import Client
from hubthread.concurrency.timers import Timer
from hubthread.core.core import Core
from hubthread.errors import ClientClosed
from hubthread.hub.session import HELLO, Session, encode_frame, hello_answer
from hubthread.hub.session_moves import ELSEWHERE, Arrived, SessionMoves
from hubthread.limits import AWAY, HANDSHAKE
from hubthread.net.address_limit import AddressLimit
from hubthread.net.connection import GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION
from hubthread.net.lasting import MOVED, AwayLink, Greeting, LastingConnection
from hubthread.protocol.hub_messages import (
    Refusal,
    check_hello,
    load_message,
    reply_to,
)
from hubthread.protocol.request import Request
from hubthread.sessions import Sessions

__all__ = ["SessionSink", "SessionTable"]

TOKEN_BYTES = 16


class TakenOver(Exception):
    """A connection asks for a session that has gone on to a later one."""


class SessionTable:
    """The sessions of one hub, by the hash of their tokens.

    :param core: the core of the hub.
    """

    def __init__(self, core: Core[Any, Any], option: Sessions) -> None:
        self._core = core
        self._option = option
        limits = core.setting.limits
        self._addresses = AddressLimit(
            limits.connections_per_address, limits.shared_addresses, core.incidents
        )
        self._lock = threading.RLock()  # guards what follows, and each session
        self._sessions: dict[str, Session] = {}
        self._arriving: dict[SessionSink, None] = {}
        self._connections = 0
        self._away = 0
        self._resumed = 0
        self._not_resumed = 0
        self._closed = False
        self._moves: SessionMoves | None = None
        if option.save is not None and core.setting.backplane is not None:
            self._moves = SessionMoves(core, option, self.give_up, self._all)

    def figures(self) -> tuple[int, int, int]:
        """Return the clients that are away now, and the resumes that succeeded and failed."""
        with self._lock:
            return self._away, self._resumed, self._not_resumed

    def count_resume(self, *, resumed: bool) -> None:
        """Count a client that has asked for its session."""
        with self._lock:
            self._resumed += resumed
            self._not_resumed += not resumed

    def sink(
        self,
        request: Request,
        make: Callable[..., Client[Any, Any]],
        share: Callable[[Client[Any, Any]], object],
    ) -> SessionSink:
        """Return the receiver of a connection whose client is not known yet.

        :param make: makes a new client, with the number that it is called with, if any.
        :param share: lets a client know the threads that its connection shares.
        """
        with self._lock:
            self._connections += 1
            number = self._connections
        return SessionSink(self, self._core, number, request, make, share)

    def close(self) -> None:
        """Tell the connections that have no client yet that the hub closes."""
        with self._lock:
            self._closed = True
            arriving = list(self._arriving)
        for sink in arriving:
            sink.refuse_closing()

    def _all(self) -> list[Session]:
        with self._lock:
            return list(self._sessions.values())

    # For ``SessionSink``.

    def arrive(self, sink: SessionSink) -> bool:
        """Note a connection without a client; return False if the hub is closing."""
        with self._lock:
            if not self._closed:
                self._arriving[sink] = None
            return not self._closed

    def arrived(self, sink: SessionSink) -> None:
        """Forget a connection that has a client now, or has ended without one."""
        with self._lock:
            self._arriving.pop(sink, None)

    def open(
        self, client: Client[Any, Any], sink: SessionSink, token: str | None = None
    ) -> tuple[Session, str]:
        """Make a session for a new client; return it with its token.

        :param token: that of a client that was in another hub.
        """
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        session = Session(client, sink, _key(token))
        with self._lock:
            self._sessions[session.key] = session
        if self._moves is not None:
            client.on_rooms = partial(self._moves.note, session)
        return session, token

    def note(self, session: Session) -> None:
        """Keep the record of a client that has started, or whose start runs now."""
        if self._moves is not None:
            self._moves.note(session)

    def claim(self, token: str, got: int | None, sink: SessionSink) -> Session | None:
        """Make ``sink`` the line of the session, if there is one that can be claimed.

        A connection that the client is still on is closed with 4001.

        :raises TakenOver: if the client has been on a later connection; nothing happens.
        :raises Refusal: if the peer cannot have got message ``got``; nothing happens.
        """
        with self._lock:
            session = self._sessions.get(_key(token))
            if session is None:
                return None
            if sink.number < session.latest:  # its peer has given it up, and is not listening
                raise TakenOver
            line, link = session.line, _link_of(session.client)
            # What waits is encoded, and the encoding was negotiated for the old connection.
            if link.encoding != sink.connection.encoding:
                return None
            if got is not None and not link.outbox.is_possible(got):
                raise Refusal("got: expected the number of a message that was sent")
            if isinstance(line, AwayLink):
                self._leave_place(session)
            elif line.connection.ended_by is not None and not line.connection.is_lost:
                return None  # the program closes the client
            session.line, session.latest = sink, sink.number
        if isinstance(line, AwayLink):
            self._core.connections.end(line)
            return session
        line.connection.take_over()
        if not line.connection.is_lost:  # the program has closed it just before
            self.end(session, line.connection.code or GOING_AWAY, line.connection.reason)
        return session

    def fetch(self, token: str) -> Arrived | None:
        """Return the client of a session of another hub; see ``SessionMoves.fetch``."""
        return None if self._moves is None else self._moves.fetch(_key(token))

    def give_up(self, key: str) -> bytes | None:
        """End a session here, because its client has come back in another hub.

        :returns: the record of the client; None if there is no such session, or if this hub
            sends the client elsewhere; no bytes if the client has left.
        :raises Exception: what ``Sessions.save`` has raised; then the session stays.
        """
        with self._lock:
            session = self._sessions.get(key)
        if session is None or self._moves is None:
            return None
        record = self._moves.last_record(session)
        with self._lock:
            line = session.line
            sink = line if isinstance(line, SessionSink) else None
            closes = sink is not None and sink.connection.ended_by and not sink.connection.is_lost
            if closes or session.ended:
                code = line.code if isinstance(line, AwayLink) else line.connection.code
                return None if code in ELSEWHERE else b""
            self._forget(session)
            if isinstance(line, AwayLink):
                self._leave_place(session)
        if isinstance(line, AwayLink):
            self._finish(session, line, MOVED)
        else:
            line.connection.take_over()
        return record

    def switch(self, session: Session, sink: SessionSink, greeting: Greeting) -> bool:
        """Let the client go on, on its new line; return False if that is its line no more."""
        with self._lock:
            if session.line is not sink or session.ended:
                return False
            client = session.client
            _link_of(client).outbox.pass_to(sink.connection.outbox, greeting)
            client.ws_conn = sink.connection
            client.handshake = sink.request
            sink.switched = True
            return True

    def lose(self, session: Session, sink: SessionSink) -> bool:
        """End a connection: its session waits, or ends; return True if the client has ended."""
        client, connection = session.client, sink.connection
        # A connection that the client has not changed to may end in any way.
        stays = not session.ended and (
            not sink.switched or (connection.is_lost and connection.outbox.keeps)
        )
        peer = client.handshake.peer  # that of another connection, once the client changes over
        stays = stays and session.line is sink and self._take_place(client, peer)
        with self._lock:
            if session.ended or session.line is not sink:
                if stays:
                    self._give_place(peer)
                stays = False
            if session.line is not sink:
                return False
            if not stays:
                self._forget(session)
                _link_of(client).outbox.forget()
                client.ws_conn = connection
            else:
                link = _link_of(client)
                if isinstance(link, LastingConnection):
                    link = client.ws_conn = AwayLink(link, partial(self.end, session))
                gone, session.line, session.peer = link, link, peer
                absence = session.absence = object()
        if not stays:
            self._end_record(session, connection.code)
            return True
        self._wait(session, gone, absence)
        if self._moves is not None:
            self._moves.note(session)
        return False

    def end(self, session: Session, code: int, reason: str) -> None:
        """End a session for the program, which closes the client."""
        with self._lock:
            if session.ended:
                return
            self._forget(session)
            line = session.line
            if isinstance(line, AwayLink):
                self._leave_place(session)
        self._end_record(session, code)
        if isinstance(line, SessionSink):
            line.connection.close(code, reason)
        else:
            line.code, line.reason, line.limit = code, reason, None
            self._finish(session, line, "server")

    def _wait(self, session: Session, link: AwayLink, absence: object) -> None:
        """Wait for a client that is away now."""
        limit, link.limit = link.limit, None
        if limit is not None:
            self._core.incidents.count_limit(limit)
        over = partial(self._grace_over, session, link, absence)
        timer = self._core.timers.set(self._option.grace, over)
        with self._lock:
            if session.absence is absence:
                session.timer = timer
            else:
                timer.cancel()
        with suppress(ClientClosed):  # the program has closed it
            tell = partial(self._tell_lost, session, absence)
            session.client._strand.post(tell, essential=True)
        if not self._core.connections.open(link):
            link.shutdown()
        elif session.absence is not absence:  # it is back already, or has ended
            self._core.connections.end(link)

    def _tell_lost(self, session: Session, absence: object) -> None:
        """Call the hook, in the client's order, unless the client is back already.

        The program has heard it before if a connection came since, and was lost at once.
        """
        if session.absence is absence and not session.told:
            session.told = True
            session.client.tell_lost()

    def _grace_over(self, session: Session, link: AwayLink, absence: object) -> None:
        with self._lock:
            if session.ended or session.absence is not absence:
                return
            self._forget(session)
            self._leave_place(session)
        self._end_record(session, None)
        self._finish(session, link, None)

    def _finish(self, session: Session, link: AwayLink, by: str | None) -> None:
        """End the client of a session, on a thread that may block."""

        def finish() -> None:
            client = session.client
            link.over(by)
            client.on_leaving()
            client.on_closed()
            self._core.connections.end(link)

        try:
            self._core.workers.submit(finish)
        except Exception:  # noqa: BLE001 - the hub is closing, or there is no thread
            finish()

    def _take_place(self, client: Client[Any, Any], peer: tuple[str, int] | str) -> bool:
        """Count a client that is away; return False if there is no place for it."""
        most = self._option.limit
        with self._lock:
            if self._closed:
                return False
            full = self._away >= most
            self._away += not full
        if full:
            text = "%d clients are away, the limit (Sessions.limit): %r cannot come back"
            self._core.incidents.log_limit(AWAY, logging.WARNING, text, most, client)
            return False
        if self._addresses.enter(peer):
            return True
        with self._lock:
            self._away -= 1
        return False

    def _end_record(self, session: Session, code: int | None) -> None:
        if self._moves is not None:
            self._moves.end(session, code)

    # Under the lock.

    def _forget(self, session: Session) -> None:
        session.ended = True
        self._sessions.pop(session.key, None)

    def _leave_place(self, session: Session) -> None:
        """Count a client as away no longer."""
        session.absence = None
        self._give_place(session.peer)
        timer, session.timer = session.timer, None
        if timer is not None:
            timer.cancel()

    def _give_place(self, peer: tuple[str, int] | str) -> None:
        self._away -= 1
        self._addresses.leave(peer)


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
        table: SessionTable,
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
        """The client, once the first message has said which."""
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
        """Close a connection that has no client: the hub closes.  Any thread."""
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
        moved: Arrived | None = None
        if token is not None:
            session = self._table.claim(token, got, self)
            if session is not None:
                answer = partial(hello_answer, self._core, hello, session.client, token, True)
                switch = partial(self._switch, session, hello, Greeting(answer, got))
                with suppress(ClientClosed):  # it has ended meanwhile
                    session.client._strand.post(switch, essential=True)
                    self.session = session
                    self._settle(session.client)
                    self._table.count_resume(resumed=True)
                    return
            moved = self._table.fetch(token)
            self._table.count_resume(resumed=moved is not None)
        client = self._make() if moved is None else self._make(moved.number)
        client.returning = moved
        client.ws_conn = self.connection
        self._share(client)
        self._settle(client)
        welcome = partial(self._welcome, hello, client, None if moved is None else token)
        if client.admission is None:
            welcome()
            client.begin()
            if self.session is not None:
                self._table.note(self.session)
        else:
            client.admission.welcome = welcome
            client.begin()
            self.on_message(text)

    def _welcome(self, hello: dict[str, Any], client: Client[Any, Any], known: str | None) -> None:
        """Give a new client its session, or one that was in another hub its own."""
        self.session, token = self._table.open(client, self, known)
        self.switched = True
        self.connection.close_later = partial(self._table.end, self.session)
        self.connection.outbox.open(hello_answer(self._core, hello, client, token, False, 0, 1))
        if client.admission is not None:  # the client's order holds this back until the start
            self._table.note(self.session)

    def _settle(self, client: Client[Any, Any]) -> None:
        """Note the client of the connection."""
        del self._make  # it has the handshake's answer, and the sink lasts long
        self._stop_timer()
        if self.session is not None:
            self.connection.close_later = partial(self._table.end, self.session)
        self.client = client
        self._table.arrived(self)

    def _switch(self, session: Session, hello: dict[str, Any], greeting: Greeting) -> None:
        """Let the client go on, on this connection.  In the order of its callbacks."""
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


def _key(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _link_of(client: Client[Any, Any]) -> LastingConnection | AwayLink:
    return cast("LastingConnection | AwayLink", client.ws_conn)
