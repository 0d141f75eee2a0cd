"""The presence of a shared room: the option, and the values that programs get.

Layer: base.  Threads: immutable values; any thread may read them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from hubthread.checks import check_choice, check_function, check_number

__all__ = ["Presence", "PresenceChange", "PresenceState"]


@dataclass(frozen=True, slots=True)
class PresenceState:
    """The users that are in a shared room, in all hubs."""

    version: int
    """The number of the last change."""
    members: dict[str, Any]
    """The value of ``Presence.info`` for each user, decoded from JSON.  Empty with
    ``mode="count"``."""
    count: int
    """The number of users."""


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """A change of the users that are in a shared room."""

    version: int
    """The number of the change: one more than the number of the change before."""
    came: dict[str, Any]
    """The value of ``Presence.info`` for each user that has come."""
    went: tuple[str, ...]
    """The users that have gone."""
    count: int
    """The number of users after the change."""


@dataclass(frozen=True)
class Presence:
    """Tell the users in a shared room: ``HotlineOption(shared=True, presence=Presence())``.

    A user is in from the first connection that joins until the last connection has left.  The
    functions run on the hub thread.

    :raises SettingError: for a value out of range.
    """

    user: Callable[[Any, Any], str | None] | None = None
    """Called with ``(ctx, meta)`` after a client has joined; returns the user's name.

    Without the function the name is ``ctx.user``.  A client without a name is a user of its own.
    """
    info: Callable[[Any, Any], object] | None = None
    """Called with ``(ctx, meta)`` for the first connection of a user; returns data about the user.

    The value is sent to other members as JSON, and stays until the user goes.
    """
    on_change: Callable[[Any, PresenceChange], object] | None = None
    """Called with ``(hotline, change)`` after each change, in order."""
    diffs: float = 0.1
    """Seconds that a change waits for other changes, which are told together with it."""
    linger: float = 3.0
    """Seconds that a user stays in after the last connection has ended, so that a page that is
    loaded again makes no change.  A client that is let out with ``hangup`` leaves at once."""
    mode: Literal["list", "count"] = "list"
    """``"list"`` tells the users.  ``"count"``, for big rooms, tells only their number: the sum of
    the users of each hub."""

    def __post_init__(self) -> None:
        check_function("user", self.user, "ctx", "meta")
        check_function("info", self.info, "ctx", "meta")
        check_function("on_change", self.on_change, "hotline", "change")
        check_number("diffs", self.diffs, 0)
        check_number("linger", self.linger, 0)
        check_choice("mode", self.mode, ("list", "count"))
