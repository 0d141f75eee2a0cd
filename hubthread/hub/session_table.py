"""The sessions of one hub: clients that come back after a lost connection (G13).

Layer: hub.  Threads: every method of ``SessionTable`` may be called on any thread.  Lock order:
the table's lock, then the locks of outboxes.

A connection of ``hubthread.1`` has no client before its first message.  If this message is a
``hub:hello`` with the token of a session, the connection gets the client of the session::

    → {"type":"hub:hello","v":1,"resume":"gu4…","got":41}
    ← {"type":"hub:hello","v":1,"id":17,"now":1764…,"session":"gu4…","resumed":true,"at":42}
    ← … the messages after number 41, then live …

A hub that does not know the token may ask others; see ``session_moves``.

``at`` is the number of the hello itself: a client counts every message from there on.  ``lost``
says how many messages are gone, if any.  A client that does not count leaves ``got`` out.  Such a
client gets the messages that waited, but no message that the socket had taken before the loss.

A session is in one of three states.  Its client has a *line*, a connection; or it is *away*, and
an ``AwayLink`` holds its messages; or it has *ended*.  A claim makes the new connection the line
at once.  The client itself changes over in the order of its callbacks, in ``SessionSink._switch``.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from hubthread.clients.client import Client
from hubthread.concurrency.calls import wait_for
from hubthread.core.core import Core
from hubthread.errors import ClientClosed
from hubthread.hub.session import ComeAgain, Move, Session, TakenOver, key_of, link_of
from hubthread.hub.session_moves import ELSEWHERE, WAIT, SessionMoves
from hubthread.hub.session_sink import SessionSink
from hubthread.limits import AWAY
from hubthread.net.address_limit import AddressLimit
from hubthread.net.connection import GOING_AWAY
from hubthread.net.lasting import MOVED, AwayLink, Greeting, LastingConnection
from hubthread.protocol.close_codes import CloseCode
from hubthread.protocol.hub_messages import Refusal
from hubthread.protocol.request import Request
from hubthread.sessions import Sessions

__all__ = ["SessionTable"]

TOKEN_BYTES = 16

LONGEST_MOVE = 60.0
"""Seconds that a connection waits while another connection asks the other hub, which is faster."""


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
        self._moving: dict[str, Move] = {}  # sessions of other hubs, by their keys
        self._moved = threading.Condition(self._lock)
        # For sessions that were sent elsewhere, by their keys: when their records are forgotten.
        self._sent: dict[str, float] = {}
        self._connections = 0
        self._away = 0
        self._resumed = 0
        self._not_resumed = 0
        self._closed = False
        self._moves: SessionMoves | None = None
        if option.save is not None and core.setting.backplane is not None:
            self._moves = SessionMoves(core, option, self.give_up, self._sessions)

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

        :param make: makes a new client.
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

    def open(self, client: Client[Any, Any], sink: SessionSink) -> tuple[Session, str]:
        """Make a session for a new client; return it with its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            return self._add(client, sink, key_of(token)), token

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
            session = self._sessions.get(key_of(token))
            if session is None:
                return None
            if sink.number < session.latest:  # the peer has left this connection for a later one
                raise TakenOver
            if not self._can_claim(session, sink):
                return None
            line, link = session.line, link_of(session.client)
            if got is not None and not link.outbox.is_possible(got):
                raise Refusal("got: expected the number of a message that was sent")
            if isinstance(line, AwayLink):
                self._leave_place(session)
            session.line, session.latest = sink, sink.number
        if isinstance(line, AwayLink):
            self._core.connections.end(line)
            return session
        line.connection.take_over()
        if not line.connection.is_lost:  # the program has closed it just before
            self.end(session, line.connection.code or GOING_AWAY, line.connection.reason)
        return session

    def fetch(self, client: Client[Any, Any], sink: SessionSink, token: str) -> Session | None:
        """Let a new client go on with a session of another hub; return None if there is none.

        Waits for the other hub; see ``SessionMoves.fetch``.  If several connections ask for one
        session, the first asks the other hub, and the latest gets the client.

        :raises TakenOver: if another hub, or a later connection, has got the client.
        :raises ComeAgain: if the client has come to another connection meanwhile.
        """
        if self._moves is None:
            return None
        key = key_of(token)
        with self._lock:
            here = self._sessions.get(key)
            if here is not None and sink.number < here.latest:
                raise TakenOver
            if here is not None and not self._can_claim(here, sink):
                return None
            move = self._moving.get(key)
            if here is not None or (move is not None and move.is_given):
                raise ComeAgain
            is_first = move is None
            if move is None:
                move = self._moving[key] = Move(client, sink)
            elif sink.number > move.sink.number:
                move.client, move.sink = client, sink
        if is_first:
            self._fetch(key, move)
        elif not wait_for(self._moved, lambda: move.is_over, LONGEST_MOVE):
            raise ComeAgain
        if move.record is not None and (move.session is None or move.sink is not sink):
            raise TakenOver
        return move.session

    def _fetch(self, key: str, move: Move) -> None:
        """Ask the other hub for a session, and give it to the latest connection that wants it."""
        assert self._moves is not None
        arrived = None
        try:
            arrived = self._moves.fetch(key)
        finally:
            with self._lock:  # the client goes on here, or another hub gets it: never both
                del self._moving[key]
                if arrived is not None:
                    move.record = arrived.record
                if arrived is not None and not move.is_given:
                    move.client.become(arrived)
                    move.session = self._add(move.client, move.sink, key)
                    move.session.record = arrived.record
                move.is_over = True
                self._moved.notify_all()

    def give_up(self, key: str) -> bytes | None:
        """End a session here, because its client has come back in another hub.

        :returns: the record of the client; no bytes if the client has left; None if the other hub
            has the latest record already, because this hub has sent the client elsewhere.
        :raises Exception: what ``Sessions.save`` has raised; then the session stays.
        """
        if self._moves is None:
            return None
        with self._lock:
            session = self._sessions.get(key)
            is_sent = self._sent.get(key, 0.0) > self._core.clock.now()
            move = None if session is not None else self._moving.get(key)
            if move is not None:
                move.is_given = True
        if move is not None:  # on its way here: the answer of the hub before goes on
            arrived = wait_for(self._moved, lambda: move.is_over, WAIT)
            return (move.record or b"") if arrived else None
        if session is None:
            return None if is_sent else b""  # the record was taken just before its end
        record = self._moves.last_record(session)
        with self._lock:
            line = session.line
            sink = line if isinstance(line, SessionSink) else None
            closes = sink is not None and sink.connection.ended_by and not sink.connection.is_lost
            if closes or session.ended:
                code = line.code if isinstance(line, AwayLink) else line.connection.code
                return None if code in ELSEWHERE else b""
            self._forget(session, CloseCode.TAKEN_OVER)
            if isinstance(line, AwayLink):
                self._leave_place(session)
        self._end_record(session, CloseCode.TAKEN_OVER)
        if isinstance(line, AwayLink):
            self._finish(session, line, MOVED)
        else:
            line.connection.take_over()
        return record

    def switch(self, session: Session, sink: SessionSink, greeting: Greeting) -> bool:
        """Let the client use its new line ``sink``; return False if it has another line now."""
        with self._lock:
            if session.line is not sink or session.ended:
                return False
            client = session.client
            link_of(client).outbox.pass_to(sink.connection.outbox, greeting)
            client.ws_conn = sink.connection
            client.handshake = sink.request
            sink.switched = True
            return True

    def lose(self, session: Session, sink: SessionSink) -> bool:
        """Note the end of a connection; return True if the client ends, and False if it stays."""
        client, connection = session.client, sink.connection
        # If the client has not changed to the connection yet, it stays after any end of it.
        stays = not session.ended and (
            not sink.switched or (connection.is_lost and connection.outbox.keeps)
        )
        peer = client.handshake.peer  # read once: another connection may replace the handshake
        stays = stays and session.line is sink and self._take_place(client, peer)
        with self._lock:
            if session.ended or session.line is not sink:
                if stays:
                    self._give_place(peer)
                stays = False
            if session.line is not sink:
                return False
            was_ended = session.ended
            if not stays:
                self._forget(session, connection.code)
                link_of(client).outbox.forget()
                client.ws_conn = connection
            else:
                link = link_of(client)
                if isinstance(link, LastingConnection):
                    link = client.ws_conn = AwayLink(link, partial(self.end, session))
                gone, session.line, session.peer = link, link, peer
                absence = session.absence = object()
        if not stays:
            if not was_ended:
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
            self._forget(session, code)
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
        """Set the end of the grace for a client that is away now, and tell the program."""
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
        """Call the hook, in the order of the client's callbacks, unless the client is back.

        The program knows already if the client came to a connection that was lost at once.
        """
        if session.absence is absence and not session.told:
            session.told = True
            session.client.tell_lost()

    def _grace_over(self, session: Session, link: AwayLink, absence: object) -> None:
        with self._lock:
            if session.ended or session.absence is not absence:
                return
            self._forget(session, None)
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

    def _can_claim(self, session: Session, sink: SessionSink) -> bool:
        """Return True if ``sink`` may become the line of the session."""
        # The waiting messages have the encoding that the old connection has negotiated.
        if link_of(session.client).encoding != sink.connection.encoding:
            return False
        line = session.line
        if isinstance(line, AwayLink) or line.connection.ended_by is None:
            return True
        return bool(line.connection.is_lost)  # if not, the program has closed the client

    def _add(self, client: Client[Any, Any], sink: SessionSink, key: str) -> Session:
        """Make a session."""
        session = self._sessions[key] = Session(client, sink, key)
        if self._moves is not None:
            client.on_rooms = partial(self._moves.note, session)
        return session

    def _forget(self, session: Session, code: int | None) -> None:
        """End a session with a close code."""
        if session.ended:
            return
        session.ended = True
        del self._sessions[session.key]
        if code in ELSEWHERE and self._moves is not None:
            now = self._core.clock.now()
            while self._sent and next(iter(self._sent.values())) <= now:
                del self._sent[next(iter(self._sent))]
            self._sent[session.key] = now + self._moves.life

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
