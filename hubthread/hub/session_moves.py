"""Clients that come back in another hub of the backplane (``Sessions.save`` and ``load``).

Layer: hub.  Threads: every method may be called on any thread, unless it says otherwise.

Each hub keeps a record of each of its sessions in the backplane, for the case that it dies.  A hub
that is shown a token which it does not know takes the record, so of two hubs only one has it.
Then it asks the hub before, which tells what the client is now, and closes its connection with
4001 and the client with it.  If that hub is gone, the record has to do::

    → {"type":"hub:hello","v":1,"resume":"gu4…","got":41}
    ← {"type":"hub:hello","v":1,"id":17,"session":"gu4…","resumed":false,"moved":true,"at":1}

The client is the same for the program: number, meta and rooms.  It is told ``resumed`` false,
because the messages that waited for it alone are gone.  So it joins its rooms with its positions,
and gets from their histories what it has missed.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from hubthread.checks import checked
from hubthread.core.core import Core
from hubthread.errors import (
    BackplaneError,
    CallFailed,
    ClientClosed,
    Closed,
    ExecTimeout,
    HubThreadError,
    QueueFull,
)
from hubthread.history import Recovery
from hubthread.hub.session import Session
from hubthread.matcher.compile import marshal_json
from hubthread.nodes import Address
from hubthread.protocol.close_codes import CloseCode
from hubthread.protocol.envelope import gap_message
from hubthread.protocol.frames import Frame, MessageType
from hubthread.rooms.hotline import Hotline
from hubthread.sessions import Moved, Sessions
from hubthread.types import ClientID

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["ELSEWHERE", "Arrived", "SessionMoves"]

CALL = "hub:session"
"""The name of the call with which a hub asks another one for a session."""

VERSION = 1
"""The number in each record, so that a newer hub can say that it writes otherwise."""

REFRESH = 60.0
"""Seconds after which the records are kept anew: the backplane may have lost them."""

WAIT = 2.0
"""Seconds that a hub waits for a record, and for the hub before."""

SAVE_WAIT = 1.0
"""Seconds that the hub before waits for the client's callbacks."""

ELSEWHERE = frozenset({CloseCode.GOING_AWAY, CloseCode.COME_BACK})
"""The close codes with which a hub sends a client elsewhere."""


class Arrived:
    """A client that was in another hub before; see ``clients.client.Returning``."""

    def __init__(
        self, core: Core[Any, Any], option: Sessions, node: str, fields: dict[str, Any]
    ) -> None:
        self._core = core
        self._option = option
        self.number = ClientID(fields["id"])
        """The number of the client."""
        self._moved = Moved(fields["saved"], tuple(fields["rooms"]), Address(node, self.number))

    def load(self, client: Client[Any, Any]) -> Any:
        """Return the client's meta."""
        assert self._option.load is not None
        return checked(self._option.load(client, self._moved))

    def enter(self, client: Client[Any, Any], meta: Any) -> None:
        """Let the client into the rooms that are open here, and tell the program."""
        for name in self._moved.rooms:
            room: Hotline[Any, Any] | None = self._core.registry.named(name)
            if room is not None and room._option.shared:
                self._join(client, room)
        callback = self._core.setting.on_connection_resume
        if callback is not None:
            checked(callback(client, meta))

    def _join(self, client: Client[Any, Any], room: Hotline[Any, Any]) -> None:
        """Let the client in, and tell it first that it may have missed something."""

        def opening(found: Recovery | None) -> Frame:
            place = None if found is None else found.position
            epoch, at = ("", 0) if place is None else (place.epoch, place.offset)
            return Frame(gap_message(str(room.name), epoch, at, "moved"), MessageType.TEXT)

        try:
            room._recover(client, opening, None, 0)
        except Closed:
            pass
        except HubThreadError as error:
            text = "%r was in %r in another hub, and is not let in here: %s"
            self._core.incidents.log_limited(
                "moved", logging.WARNING, text, client, room, error, about=client
            )


class SessionMoves:
    """The records of one hub's sessions, and its questions to other hubs.

    :param give_up: lets the session of that key end here; see ``SessionTable.give_up``.
    :param sessions: returns all sessions of the hub.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        option: Sessions,
        give_up: Callable[[str], bytes | None],
        sessions: Callable[[], list[Session]],
    ) -> None:
        self._core = core
        self._option = option
        self._sessions = sessions
        core.letters.inner[CALL] = lambda hub, key: _text(give_up(key))
        core.sharing.on_up = self._keep_all
        core.on_start.append(self._start)

    def _start(self) -> None:
        # No two hubs give one number to two clients.  JavaScript has integers up to 2 ** 53.
        self._core.registry.begin_ids(secrets.randbelow(1 << 32) << 20)
        self._core.timers.set(REFRESH, self._refresh)

    def _keep_all(self) -> None:
        for session in self._sessions():
            self._keep(session)

    def _refresh(self) -> None:
        self._keep_all()
        self._core.timers.set(REFRESH, self._refresh)

    def note(self, session: Session) -> None:
        """Keep the record of a session anew, in the order of the client's callbacks."""
        if not (session.noted or session.ended):
            session.noted = True
            self._post(session, partial(self._renew, session))

    def end(self, session: Session, code: int | None) -> None:
        """Forget the record of a session that ends, unless the client goes on elsewhere.

        :param code: the close code with which it ends.
        """
        if code in ELSEWHERE:
            self._post(session, partial(self._renew, session, last=True))
        else:  # nothing happens to the record of a client that goes on in another hub
            self._core.sharing.link().drop(session.key)

    def last_record(self, session: Session) -> bytes | None:
        """Return the record of a client that goes on in another hub.

        :raises Exception: what ``Sessions.save`` has raised.
        """
        with suppress(ExecTimeout, Closed, QueueFull):  # a callback blocks, or the hub ends
            describe = partial(self._describe, session.client)
            return session.client._strand.call(describe, SAVE_WAIT, borrow=False)
        return session.record

    def _post(self, session: Session, work: Callable[[], object]) -> None:
        with suppress(ClientClosed):
            session.client._strand.post(work, essential=True)

    def _renew(self, session: Session, *, last: bool = False) -> None:
        session.noted = False
        if session.client._started and (last or not session.ended):
            session.record = self._describe(session.client)
            self._keep(session)

    def _keep(self, session: Session) -> None:
        if session.record is not None:
            # It outlives this hub for the grace, also if the next refresh does not come.
            seconds = self._option.grace + 2 * REFRESH
            self._core.sharing.link().keep(session.key, session.record, seconds)

    def _describe(self, client: Client[Any, Any]) -> bytes:
        """Return the record of a client.  In the order of its callbacks."""
        assert self._option.save is not None
        rooms = [room.name for room in client.hotlines if room._option.shared]
        fields = {
            "v": VERSION,
            "id": client.connection_id,
            "saved": checked(self._option.save(client, client.meta)),
            "rooms": rooms,
        }
        return marshal_json(fields).encode()

    def fetch(self, key: str) -> Arrived | None:
        """Return the client of a session that was in another hub.  Waits for that hub.

        :returns: None if there is no such session.
        """
        sharing = self._core.sharing
        found = sharing.link().take(key, WAIT)
        if found is None or found[0] == sharing.node:
            return None
        node, record = found
        try:
            text = self._core.letters.call(node, CALL, key, WAIT)
        except Closed:  # this hub closes
            return None
        except CallFailed:  # the other hub has logged why it cannot say
            text = ""
        except BackplaneError:
            text = None  # that hub is gone, or as good as gone
        if text == "":  # the client has left, or stays there
            sharing.link().drop(key)  # otherwise a third hub would take the record
            return None
        if text is not None:
            record = text.encode()
        fields = json.loads(record)
        return Arrived(self._core, self._option, node, fields) if fields["v"] == VERSION else None


def _text(record: bytes | None) -> str | None:
    return None if record is None else record.decode()
