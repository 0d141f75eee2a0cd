"""Who and what a hub holds: ids, clients, hotlines, and the counters of those gone.

Layer: hub.  Threads: any; one lock, held for a look at a time.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from hubthread.clients.client import Client
from hubthread.clients.turns import HookCall
from hubthread.concurrency.watchdog import Watched
from hubthread.core.push_log import PushLog
from hubthread.errors import Closed
from hubthread.protocol.request import Request
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.ticking.control import FrameControl
from hubthread.types import ClientID, HotlineID

__all__ = ["Registry"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class Registry(Generic[Meta, Header]):
    """A hub's clients and hotlines.

    ``everyone`` is the room that each client is in while it is connected: a broadcast is
    a push to it, and connecting and closing meet under its lock, so that a client that
    comes while the hub closes is either told of the end or refused.
    """

    def __init__(self, everyone: PushLog[Client[Meta, Header]]) -> None:
        self.everyone = everyone
        self._lock = threading.Lock()  # guards what follows
        self._last_client = 0
        self._last_hotline = 0
        self._clients: dict[ClientID, Client[Meta, Header]] = {}
        self._hotlines: dict[HotlineID, Hotline[Meta, Header]] = {}
        self._busy: dict[Watched, None] = {}
        self._ended: Counter[str] = Counter()
        self._total = 0
        self._dropped = 0

    def next_client_id(self) -> ClientID:
        """An id that no client had before."""
        with self._lock:
            self._last_client += 1
            return ClientID(self._last_client)

    def next_hotline_id(self) -> HotlineID:
        """An id that no hotline had before."""
        with self._lock:
            self._last_hotline += 1
            return HotlineID(self._last_hotline)

    def admit(self, client: Client[Meta, Header]) -> None:
        """A client has connected.

        :raises Closed: when the hub is closing: the client is to be told 1001.
        """
        with self._lock:
            self._clients[client.connection_id] = client
            self._total += 1
        self.everyone.join(client)

    def forget(self, client: Client[Meta, Header]) -> None:
        """A client's connection has ended."""
        connection = client.ws_conn
        with self._lock:
            self._clients.pop(client.connection_id, None)
            self._ended[connection.ended_by or "lost"] += 1
            self._dropped += connection.dropped
        # Closed: the hub thread has ended, and nobody fans out any more.
        with contextlib.suppress(Closed):
            self.everyone.leave(client)

    @contextlib.contextmanager
    def busy(self, watched: Watched) -> Iterator[None]:
        """Somebody who is not to be found here is in a callback: not yet a client, or no more."""
        with self._lock:
            self._busy[watched] = None
        try:
            yield
        finally:
            with self._lock:
                del self._busy[watched]

    @contextlib.contextmanager
    def hook_call(self, what: str, request: Request) -> Iterator[None]:
        """A hook or page of the user's is asked about a request, on the calling thread."""
        asked = HookCall(what, request)
        with self.busy(asked):
            try:
                yield
            finally:
                asked.runner = None

    def watched(self) -> list[Watched]:
        """Whoever may be in a callback: clients, rooms with a clock, and who is ``busy``."""
        with self._lock:
            return [
                *self._clients.values(),
                *self._busy,
                *(room.loop for room in self._hotlines.values() if isinstance(room, FrameControl)),
            ]

    def client(self, connection_id: ClientID) -> Client[Meta, Header] | None:
        """The client of that id."""
        with self._lock:
            return self._clients.get(connection_id)

    def add(self, hotline: Hotline[Meta, Header]) -> None:
        """A hotline was opened."""
        with self._lock:
            self._hotlines[hotline.hotline_id] = hotline

    def replace(self, hotline: Hotline[Meta, Header]) -> None:
        """A hotline was given a clock; nothing if it was closed meanwhile."""
        with self._lock:
            if hotline.hotline_id in self._hotlines:
                self._hotlines[hotline.hotline_id] = hotline

    def remove(self, hotline: Hotline[Meta, Header]) -> None:
        """A hotline was closed."""
        with self._lock:
            self._hotlines.pop(hotline.hotline_id, None)

    def hotline(self, hotline_id: HotlineID) -> Hotline[Meta, Header] | None:
        """The open hotline of that id."""
        with self._lock:
            return self._hotlines.get(hotline_id)

    def hotlines(self) -> list[Hotline[Meta, Header]]:
        """Every open hotline, oldest first."""
        with self._lock:
            return list(self._hotlines.values())

    def counts(self) -> tuple[int, int, int, dict[str, int]]:
        """Open hotlines; clients ever; messages dropped and endings, of those gone."""
        with self._lock:
            return len(self._hotlines), self._total, self._dropped, dict(self._ended)
