"""The users that are in a shared room through this hub, for the backplane.

The room's log notes each join and leave here.  A note becomes a closure of the hub thread, which
asks the program for the name of the client's user.  A user comes with the first connection that
joins.  The user goes with the last connection: at once if it leaves the room, and after
``Presence.linger`` if it ends.  The changes of ``Presence.diffs`` seconds go to the backplane
together.  The backplane tells the changes of all hubs to ``core/sequencer.py``.

Layer: rooms.  Threads: the log calls ``joins`` and ``leaves`` on any thread, under its lock.
``end`` may be called on any thread.  Everything else runs on the hub thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hubthread.backplane.interfaces import BackplaneLink
from hubthread.checks import check_kind, checked
from hubthread.errors import Closed
from hubthread.matcher.compile import marshal_json
from hubthread.presence import Presence

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.concurrency.timers import Timer
    from hubthread.core.core import Core

__all__ = ["LocalPresence"]

ROUNDING = 1e-6
"""Seconds by which a timer may be early."""


class LocalPresence:
    """The users of one room in one hub.

    :param room: the room's name.
    """

    def __init__(self, core: Core[Any, Any], room: str, option: Presence) -> None:
        self._core = core
        self._link: BackplaneLink = core.sharing.link()
        self._room = room
        self._option = option
        self._ended = False
        self._timers: dict[str, Timer] = {}  # the running timers
        # Only the hub thread touches what follows.
        self._users: dict[Client[Any, Any], str] = {}
        self._connections: dict[str, int] = {}  # the number of connections of each user
        self._lingering: dict[str, float] = {}  # when each user goes, the first user first
        self._changes: dict[str, str | None] = {}  # the JSON text of a new user; None: it went
        self._told: set[str] = set()  # the users that the backplane knows

    # For the log: see ``entries.Watcher``.

    def joins(self, member: Client[Any, Any]) -> None:
        """Note a join."""
        self._post(partial(self._joined, member))

    def leaves(self, member: Client[Any, Any]) -> None:
        """Note a leave."""
        with contextlib.suppress(Closed):  # the hub thread has ended
            self._post(partial(self._left, member))

    def end(self) -> None:
        """Tell the backplane nothing more, because the room has closed."""
        self._ended = True
        for timer in list(self._timers.values()):
            timer.cancel()

    def _post(self, work: Callable[[], object]) -> None:
        self._core.loop.exec_async(lambda _: work(), essential=True)

    # The hub thread.

    def _joined(self, client: Client[Any, Any]) -> None:
        if client in self._users:
            return  # a join that was interrupted and repeated
        user = self._ask("user", client, self._name_of)
        if user is None:
            user = f"{self._core.node}-{client.connection_id}"
        self._users[client] = user
        count = self._connections[user] = self._connections.get(user, 0) + 1
        if count == 1 and self._lingering.pop(user, None) is None:
            self._change(user, self._ask("info", client, self._info_of) or "null")

    def _ask(
        self, name: str, client: Client[Any, Any], function: Callable[[Any], str | None]
    ) -> str | None:
        """Return ``function(client)``, or None if it raises."""
        try:
            return function(client)
        except KeyboardInterrupt:
            raise  # meant for the program
        except BaseException as error:  # noqa: BLE001 - logged
            text = "room %r: Presence.%s raised for %r"
            self._core.incidents.log_exception(error, text, self._room, name, client)
            return None

    def _name_of(self, client: Client[Any, Any]) -> str | None:
        hook = self._option.user
        if hook is None:
            return client.user
        user: object = checked(hook(client, client.meta))
        check_kind("user", user, str | None, "a function that returns a string or None")
        return user  # type: ignore[return-value]

    def _info_of(self, client: Client[Any, Any]) -> str:
        hook = self._option.info
        return marshal_json(None if hook is None else checked(hook(client, client.meta)))

    def _left(self, client: Client[Any, Any]) -> None:
        user = self._users.pop(client, None)
        if user is None:
            return  # a join that was interrupted
        self._connections[user] -= 1
        if not self._connections[user]:
            del self._connections[user]
            if not client._rooms.ended:  # the client was let out, and is still connected
                self._change(user, None)
                return
            self._lingering[user] = self._core.clock.now() + self._option.linger
            self._wait("linger", self._option.linger, self._look)

    def _look(self) -> None:
        """Let the users go whose time to linger is over."""
        now = self._core.clock.now()
        for user, until in list(self._lingering.items()):
            if until - now > ROUNDING:
                self._wait("linger", until - now, self._look)
                break
            del self._lingering[user]
            self._change(user, None)

    def _change(self, user: str, info: str | None) -> None:
        self._changes[user] = info
        self._wait("diffs", self._option.diffs, self._tell)

    def _tell(self) -> None:
        """Tell the backplane the changes, except those that cancel each other out."""
        changes, self._changes = self._changes, {}
        came = {
            user: info
            for user, info in changes.items()
            if info is not None and user not in self._told
        }
        went = [user for user, info in changes.items() if info is None and user in self._told]
        self._told.update(came)
        self._told.difference_update(went)
        if not came and not went:
            return
        if self._option.mode == "count":
            self._link.count(self._room, len(self._told))
        else:
            self._link.present(self._room, came, went)

    def _wait(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        """Run ``work`` after some seconds, unless a timer with this name runs already."""
        if self._ended or name in self._timers:
            return

        def run() -> None:
            del self._timers[name]
            if not self._ended:
                work()

        def fire() -> None:  # on the thread of the timers
            with contextlib.suppress(Closed):
                self._post(run)

        self._timers[name] = self._core.timers.set(seconds, fire)
