"""The hub as a closure sees it on the hub thread.

Layer: hub.  Threads: the hub thread only; every method refuses any other thread.
Source: the specification's ``DHub``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from hubthread.clients.client import Client
from hubthread.errors import WrongThread
from hubthread.rooms.hotline import Hotline
from hubthread.types import ClientID, HotlineID

if TYPE_CHECKING:
    from hubthread.core.core import Core
    from hubthread.interfaces import IHub

__all__ = ["DHub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class DHub(Generic[Meta, Header]):
    """Direct access to the clients and rooms of the hub, for its closures.

    What these methods return is complete and cannot change while the closure looks at
    it; a client may still vanish at any time.

    :raises WrongThread: every method, on any thread but the hub's.
    """

    __slots__ = ("_core",)

    def __init__(self, core: Core[Meta, Header]) -> None:
        self._core = core

    @property
    def hub(self) -> IHub:
        """The hub itself."""
        return self._here().hub

    def clients(self) -> list[Client[Meta, Header]]:
        """Return every client, oldest first."""
        return self._here().registry.everyone.members()

    def client(self, connection_id: ClientID) -> Client[Meta, Header] | None:
        """Return the client of that id, or None if it is gone."""
        return self._here().registry.client(connection_id)

    def clients_num(self) -> int:
        """Return the number of clients."""
        return self._here().registry.everyone.members_num()

    def hotlines(self) -> list[Hotline[Meta, Header]]:
        """Return every open hotline, oldest first."""
        return self._here().registry.hotlines()

    def hotline(self, hotline_id: HotlineID) -> Hotline[Meta, Header] | None:
        """Return the hotline of that id, or None if it is closed."""
        return self._here().registry.hotline(hotline_id)

    def __repr__(self) -> str:
        return f"<DHub of {self._core.hub!r}>"

    def _here(self) -> Core[Meta, Header]:
        if not self._core.loop.is_here():
            raise WrongThread(
                "a DHub is for the closure that received it, on the hub thread: keep the "
                "result, or submit another closure with exec_async or exec_sync"
            )
        return self._core
