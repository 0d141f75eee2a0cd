"""The clients and hotlines of one hub, by number, and the counters of closed clients.

Layer: core.  Threads: every method may be called on any thread; the one lock is held for a
look-up at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from hubthread.concurrency.watchdog import Watched
from hubthread.core.figures import MAX_KINDS, OTHER, ClientFigures, RoomFigures, Ticks
from hubthread.core.push_log import Member, PushLog
from hubthread.errors import Closed
from hubthread.net.interfaces import Link
from hubthread.types import ClientID, HotlineID

__all__ = ["Registry"]


class RegisteredClient(Member, Watched, Protocol):
    """A client, as the registry sees it."""

    @property
    def connection_id(self) -> ClientID:
        """The client's number."""

    kind: str
    """``websocket``, ``tcp`` or ``udp``."""
    since: float
    """The time at which the client came, on the hub's clock."""

    @property
    def user(self) -> str | None:
        """The name of the client's user."""

    @property
    def ws_conn(self) -> Link:
        """The client's connection."""


class RegisteredHotline(Protocol):
    """A hotline, as the registry sees it."""

    @property
    def hotline_id(self) -> HotlineID:
        """The hotline's number."""

    @property
    def name(self) -> str:
        """The hotline's name."""

    @property
    def is_closed(self) -> bool:
        """True if the hotline was closed."""

    @property
    def push_count(self) -> int:
        """The number of the last push."""

    @property
    def _kind(self) -> str:
        """The kind of room, for metrics."""

    @property
    def _ticks(self) -> Ticks | None:
        """The figures of the ticks; None for a room without a clock."""

    def _watched(self) -> Sequence[Watched]:
        """Return the runners of the hotline's callbacks."""


C = TypeVar("C", bound=RegisteredClient)
H = TypeVar("H", bound=RegisteredHotline)


class Registry(Generic[C, H]):
    """A hub's clients and hotlines.

    ``everyone`` is the push log that each client is a member of while it is connected.  A
    broadcast is a push to it.  Connecting and closing meet under its lock, so a client that
    comes while the hub closes is either told of the end or refused.

    :param now: returns the time of the hub's clock.
    """

    def __init__(self, everyone: PushLog[C], now: Callable[[], float]) -> None:
        self.everyone = everyone
        self._now = now
        self._lock = threading.RLock()  # guards what follows
        self._last_client = 0
        self._last_hotline = 0
        self._clients: dict[ClientID, C] = {}
        self._users: dict[str, dict[C, None]] = {}  # the clients of each user
        self.on_user: Callable[[str], object] = lambda name: None
        """Called with a user whose first client has come, or whose last one has gone."""
        self._expected: dict[C, None] = {}
        self._hotlines: dict[HotlineID, H] = {}
        self._named: dict[str, H] = {}  # those that a name leads to
        self._busy: dict[Watched, None] = {}
        self._ended: Counter[str] = Counter()
        self._total = 0
        self._dropped = 0
        self._by_client_kind: dict[str, ClientFigures] = {}
        self._by_room_kind: dict[str, RoomFigures] = {}

    def next_client_id(self) -> ClientID:
        """Return a number that no client had before."""
        with self._lock:
            self._last_client += 1
            return ClientID(self._last_client)

    def begin_ids(self, number: int) -> None:
        """Let the numbers of clients begin above ``number``, before there are any."""
        with self._lock:
            self._last_client = max(self._last_client, number)

    def next_hotline_id(self) -> HotlineID:
        """Return a number that no hotline had before."""
        with self._lock:
            self._last_hotline += 1
            return HotlineID(self._last_hotline)

    def expect(self, client: C) -> None:
        """Remember a client that has yet to show who it is.

        :raises Closed: when the hub is closing; the client must be told 1001.
        """
        with self._lock:
            self._expected[client] = None
        if self.everyone.closed:
            raise Closed("the hub is closing")

    def expected(self) -> list[C]:
        """Return the clients that have yet to show who they are."""
        with self._lock:
            return list(self._expected)

    def admit(self, client: C) -> None:
        """Add a client that has connected.

        :raises Closed: when the hub is closing; the client must be told 1001.
        """
        with self._lock:
            self._expected.pop(client, None)
            self._clients[client.connection_id] = client
            self._total += 1
            user = client.user
            clients = {} if user is None else self._users.setdefault(user, {})
            if user is not None:
                clients[client] = None
            is_first = len(clients) == 1
            figures = self._client_figures(client.kind)
            figures.opened += 1
            figures.connected += 1
        if user is not None and is_first:
            self.on_user(user)
        self.everyone.join(client)

    def forget(self, client: C) -> None:
        """Remove a client whose connection has ended."""
        connection = client.ws_conn
        seconds = max(0.0, self._now() - client.since)
        with self._lock:
            if self._clients.pop(client.connection_id, None) is not None:
                figures = self._client_figures(client.kind)
                figures.connected -= 1
                figures.seconds.add(seconds)
            user = client.user
            clients = {} if user is None else self._users.get(user, {})
            if user is not None:
                clients.pop(client, None)
                if not clients:
                    self._users.pop(user, None)
            was_last = not clients
            self._expected.pop(client, None)
            self._ended[connection.ended_by or "lost"] += 1
            self._dropped += connection.dropped
        if user is not None and was_last:
            self.on_user(user)
        # Closed: the hub thread has ended, and nothing is fanned out any more.
        with contextlib.suppress(Closed):
            self.everyone.leave(client)

    @contextlib.contextmanager
    def busy(self, watched: Watched) -> Iterator[None]:
        """Let the watchdog see a callback that runs outside the registry.

        Such a callback runs during a handshake, or after its client was removed.
        """
        with self._lock:
            self._busy[watched] = None
        try:
            yield
        finally:
            with self._lock:
                del self._busy[watched]

    def watched(self) -> list[Watched]:
        """Return everything that may be in a callback: clients, hotlines, ``busy`` callers."""
        with self._lock:
            hotlines = list(self._hotlines.values())
            found: list[Watched] = [*self._clients.values(), *self._busy]
        for hotline in hotlines:
            found += hotline._watched()
        return found

    def client(self, connection_id: ClientID) -> C | None:
        """Return the client of that number, or None."""
        with self._lock:
            return self._clients.get(connection_id)

    def clients_of(self, user: str) -> list[C]:
        """Return the clients of a user, oldest first."""
        with self._lock:
            return list(self._users.get(user, ()))

    def users(self) -> list[str]:
        """Return the names of the users that have clients."""
        with self._lock:
            return list(self._users)

    def add(self, hotline: H, name: str | None = None) -> None:
        """Add a hotline.

        :param name: the name that leads to it; no other open hotline may have it.
        """
        with self._lock:
            self._hotlines[hotline.hotline_id] = hotline
            self.room_figures(hotline._kind)
            if name is not None:
                self._named[name] = hotline

    def replace(self, hotline: H) -> None:
        """Put a hotline in the place of its number; do nothing if that was closed meanwhile."""
        with self._lock:
            replaced = self._hotlines.get(hotline.hotline_id)
            if replaced is None:
                return
            self._hotlines[hotline.hotline_id] = hotline
            if self._named.get(hotline.name) is replaced:
                self._named[hotline.name] = hotline

    def remove(self, hotline: H) -> None:
        """Remove a hotline that was closed."""
        pushes, ticks = hotline.push_count, hotline._ticks
        with self._lock:
            found = self._hotlines.pop(hotline.hotline_id, None)
            if found is not None:
                figures = self.room_figures(hotline._kind)
                figures.pushes += pushes
                if ticks is not None:
                    figures.ticks.add(ticks)
            if found is not None and self._named.get(hotline.name) is found:
                del self._named[hotline.name]

    def named(self, name: str) -> H | None:
        """Return the open hotline that the name leads to, or None."""
        with self._lock:
            found = self._named.get(name)
        # A hotline that is closing is removed in a moment.
        return None if found is None or found.is_closed else found

    def rooms(self) -> list[H]:
        """Return the open hotlines that a name leads to, oldest first."""
        with self._lock:
            return [hotline for hotline in self._named.values() if not hotline.is_closed]

    def hotline(self, hotline_id: HotlineID) -> H | None:
        """Return the open hotline of that number, or None."""
        with self._lock:
            return self._hotlines.get(hotline_id)

    def hotlines(self) -> list[H]:
        """Return every open hotline, oldest first."""
        with self._lock:
            return list(self._hotlines.values())

    def counts(self) -> tuple[int, int, int, dict[str, int]]:
        """Return the counters that statistics show.

        :returns: open hotlines; clients so far; messages dropped by, and ends of, clients
            that are gone.
        """
        with self._lock:
            return len(self._hotlines), self._total, self._dropped, dict(self._ended)

    def room_figures(self, kind: str) -> RoomFigures:
        """Return the totals of the rooms of one kind; beyond ``MAX_KINDS``, of all other kinds."""
        with self._lock:
            figures = self._by_room_kind
            if kind not in figures and len(figures) >= MAX_KINDS:
                kind = OTHER
            found = figures.get(kind)
            if found is None:
                found = figures[kind] = RoomFigures()
            return found

    def count_recovery(self, kind: str, *, recovered: bool) -> None:
        """Count a client that came back to a room with its position."""
        with self._lock:
            figures = self.room_figures(kind)
            figures.recovered += recovered
            figures.not_recovered += not recovered

    def all_room_figures(self) -> tuple[dict[str, RoomFigures], list[H]]:
        """Return the totals of each kind of rooms, and the rooms that they do not contain."""
        with self._lock:
            kinds = {kind: figures.copy() for kind, figures in self._by_room_kind.items()}
            return kinds, list(self._hotlines.values())

    def client_figures(self) -> dict[str, ClientFigures]:
        """Return the totals of each kind of clients."""
        with self._lock:
            return {kind: figures.copy() for kind, figures in self._by_client_kind.items()}

    def _client_figures(self, kind: str) -> ClientFigures:
        found = self._by_client_kind.get(kind)
        if found is None:
            found = self._by_client_kind[kind] = ClientFigures()
        return found
