"""Clients that come back in another hub of the backplane (``Sessions.save`` and ``load``).

Layer: hub.  Threads: every method may be called on any thread, unless it says otherwise.

Each hub keeps a record of each of its sessions in the backplane, in case the hub dies.  When a
client shows a hub a token that the hub does not know, the hub takes the record from the backplane.
Of two hubs only one gets it.  Then it asks *the hub before*, where the client was.  The hub before
answers with the client's present record, and ends the client there, its connection with code 4001.
If the hub before is gone, the record of the backplane is used::

    → {"type":"hub:hello","v":1,"resume":"gu4…","got":41}
    ← {"type":"hub:hello","v":1,"id":17,"session":"gu4…","resumed":false,"moved":true,"at":1}

The client is the same for the program: number, meta and rooms.  The hello says ``resumed`` false,
because the messages that waited for this client alone are gone.  So the client joins its rooms
with its positions, and gets the pushes that it has missed from their histories.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from hubthread.checks import checked
from hubthread.concurrency.timers import Timer
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
"""The name of the call with which a hub asks another hub for a session."""

VERSION = 1
"""The version of the format, in each record.  Hubs ignore records of other versions."""

REFRESH = 60.0
"""Seconds in which each record is kept anew once, in case the backplane has lost it."""

RESTORE = 5.0
"""Seconds over which all records are kept anew after the backplane was away."""

SLICE = 256
"""Records that are kept anew at once."""

WAIT = 2.0
"""Seconds that a hub waits for a record, and again for the answer of the hub before."""

SAVE_WAIT = 1.0
"""Seconds that the hub before waits until the client's callbacks let ``save`` run."""

ELSEWHERE = frozenset({CloseCode.GOING_AWAY, CloseCode.COME_BACK})
"""The close codes with which a hub sends a client elsewhere."""


class Arrived:
    """A client that was in another hub before; see ``clients.client.Returning``."""

    def __init__(
        self, moves: SessionMoves, node: str, record: bytes, fields: dict[str, Any]
    ) -> None:
        self._core = moves._core
        self._option = moves._option
        self.record = record
        """The client's record: its fields as bytes."""
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
        """Let the client in, and tell it first that it may have missed pushes."""

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

    :param give_up: ends the session with a key here; see ``SessionTable.give_up``.
    :param sessions: all sessions of the hub, by their keys.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        option: Sessions,
        give_up: Callable[[str], bytes | None],
        sessions: Mapping[str, Session],
    ) -> None:
        self._core = core
        self._option = option
        self._sessions = sessions
        self._lock = threading.RLock()  # guards what follows; held while a record changes
        self._due: list[str] = []  # the keys of the records that are kept anew now
        self._pause = REFRESH  # between two slices of them
        self._timer: Timer | None = None
        core.letters.inner[CALL] = lambda hub, key: _text(give_up(key))
        core.sharing.on_up = partial(self._keep_all, RESTORE, at_once=True)
        core.on_start.append(self._start)

    @property
    def life(self) -> float:
        """The seconds that a record is kept: the grace, and two refreshes in case one fails."""
        return self._option.grace + 2 * REFRESH

    def _start(self) -> None:
        # No two hubs give one number to two clients.  JavaScript has integers up to 2 ** 53.
        self._core.registry.begin_ids(secrets.randbelow(1 << 32) << 20)
        self._keep_all(REFRESH)

    def _keep_all(self, seconds: float, *, at_once: bool = False) -> None:
        """Keep all records anew, spread over ``seconds``; then repeat it every ``REFRESH``."""
        with self._lock:
            self._due = list(self._sessions)
            self._pause = seconds / max(1, -(-len(self._due) // SLICE))
            self._wait(0.0 if at_once else self._pause)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._core.timers.set(seconds, self._keep_some)

    def _keep_some(self) -> None:
        with self._lock:
            keys = self._due[-SLICE:]
            del self._due[-SLICE:]
        for key in keys:
            session = self._sessions.get(key)
            if session is not None:
                self._keep(session)
        with self._lock:
            if self._due:
                self._wait(self._pause)
            else:
                self._keep_all(REFRESH)

    def note(self, session: Session) -> None:
        """Keep the record of a session anew, in the order of the client's callbacks."""
        if not (session.noted or session.ended):
            session.noted = True
            self._post(session, partial(self._renew, session))

    def end(self, session: Session, code: int | None) -> None:
        """Forget the record of a session that ends, unless the client goes on elsewhere.

        Called once for each session, when it has ended.

        :param code: the close code with which it ends.
        """
        if code in ELSEWHERE:
            self._post(session, partial(self._renew, session, last=True))
            return
        link = self._core.sharing.link()
        with self._lock:  # if the client is in another hub, the record is its, and stays
            link.drop(session.key, self.life)

    def last_record(self, session: Session) -> bytes | None:
        """Return the record of a client that goes on in another hub.

        :returns: None if the client is too new to have one.
        :raises Exception: what ``Sessions.save`` has raised.
        """
        client = session.client

        def describe() -> bytes | None:
            return self._describe(client) if client._started else session.record

        with suppress(ExecTimeout, Closed, QueueFull):  # a callback blocks, or the hub ends
            return client._strand.call(describe, SAVE_WAIT, borrow=False)
        return session.record

    def _post(self, session: Session, work: Callable[[], object]) -> None:
        with suppress(ClientClosed):
            session.client._strand.post(work, essential=True)

    def _renew(self, session: Session, *, last: bool = False) -> None:
        session.noted = False
        if session.client._started and (last or not session.ended):
            session.record = self._describe(session.client)
            self._keep(session, last=last)

    def _keep(self, session: Session, *, last: bool = False) -> None:
        link = self._core.sharing.link()
        with self._lock:  # so no record is kept after the drop at the session's end
            if session.record is not None and (last or not session.ended):
                link.keep(session.key, session.record, self.life)

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
        """Return the client of a session that was in another hub.  Waits for the hub before.

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
        except CallFailed:  # the hub before has logged why it cannot answer
            text = ""
        except BackplaneError:
            text = None  # the hub before is gone, or as good as gone
        if text == "":  # the client has left, or stays there
            sharing.link().drop(key, self.life)  # otherwise a third hub would take the record
            return None
        if text is not None:
            record = text.encode()
        fields = json.loads(record)
        return Arrived(self, node, record, fields) if fields["v"] == VERSION else None


def _text(record: bytes | None) -> str | None:
    return None if record is None else record.decode()
