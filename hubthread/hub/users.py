"""The users of a hub: a user is all clients with the same name from ``HubSetting.user``.

Layer: hub.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from hubthread.clients.client import Client
from hubthread.core.core import Core
from hubthread.matcher.compile import marshal_json
from hubthread.types import Key, check_key

__all__ = ["User"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class User(Generic[Meta, Header]):
    """All clients of one user.  Made by ``hub.user(name)``.

    A user may have no clients.  Then a message to the user reaches no client.

    Threads: every method may be called on any thread.
    """

    __slots__ = ("_core", "name")

    def __init__(self, core: Core[Meta, Header], name: str) -> None:
        self._core = core
        self.name = name
        """The name that ``HubSetting.user`` has returned."""

    @property
    def clients(self) -> list[Client[Meta, Header]]:
        """The user's clients at this moment, oldest first."""
        return self._core.registry.clients_of(self.name)

    def write(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send text (``str``) or binary (``bytes``) to each of the user's clients.

        The message is encoded once.  For each client it is a ``ctx.write``.

        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :returns: the number of clients.
        :raises WrongType: for anything but ``str`` or ``bytes``.
        :raises WrongValue: for text that UTF-8 cannot encode.
        """
        check_key(key)
        frame = self._core.make_frame(data)
        clients = self.clients
        for client in clients:
            client.ws_conn.send(frame, key)
        return len(clients)

    def write_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text to each of the user's clients; see ``write``."""
        return self.write(marshal_json(obj))

    def __repr__(self) -> str:
        return f"<User {self.name!r}, {len(self.clients)} clients>"
