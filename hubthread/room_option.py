"""The options of a room.

Layer: settings.  Threads: an option never changes; any thread may read it.
Source: the specification's ``HotlineOption``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_function, check_kind, check_number
from hubthread.errors import SettingError, SettingTypeError
from hubthread.history import History, Position
from hubthread.presence import Presence

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext

__all__ = ["HotlineOption", "check_room_name"]

MAX_KIND = 50
"""The most characters of a kind of rooms, which is a label in a database of metrics."""

MAX_ROOM_NAME = 200
"""The most characters of a shared room's name.  Clients may choose names, and hubs keep them."""


@dataclass(frozen=True)
class HotlineOption:
    """The options of a new room (``HotlineOption``).

    :raises SettingError: for a value of the wrong type.
    """

    name: str = ""
    """The name in logs, statistics and ``repr``.  Several rooms may have the same name.

    The name of a shared room is unique, and has 1 to 200 printable characters.
    """
    kind: str = ""
    """The kind of room in metrics, such as ``"table"``: at most 50 characters, the same for all
    similar rooms.  Metrics count the first 50 kinds of a hub separately."""
    max_members: int | None = None
    """The most clients that may be in.  For a further client ``answer`` raises ``HotlineFull``.

    ``None`` sets no limit.
    """
    on_join: Callable[[Any, IOContext], object] | None = None
    """Called with ``(hotline, ctx)``, on the hub thread, after a client has joined.

    The hooks are called once for each join and each leave, in their order, among the closures of
    the hub.  A room with a clock has the hooks of ``HotlineFrameOption`` instead.
    """
    on_leave: Callable[[Any, IOContext], object] | None = None
    """Called with ``(hotline, ctx)``, on the hub thread, after a client has left.

    When the room closes, the hook runs for each member that was in.  It may still push then, but
    the push reaches no member.
    """
    on_empty: Callable[[Any], object] | None = None
    """Called with ``(hotline,)``, on the hub thread, after the last member has left.

    Another client may have joined meanwhile: ``hotline.close_if_empty()`` closes the room only if
    it is still empty.
    """
    on_gap: Callable[[Any, Position], object] | None = None
    """Called with ``(hotline, position)``, on the hub thread, when a shared room has lost pushes.

    The members did not get some pushes before ``position``, or got them out of order
    (``RedisBackplane(local=True)``).  Clients of ``hubthread.1`` are told; send a snapshot to the
    others.
    """
    close_when_empty: float | None = None
    """Seconds without a member after which the room closes; ``None`` keeps it open.

    The time counts from the last leave, or from the beginning of a new room.
    """
    shared: bool = False
    """True gives the room's pushes to ``HubSetting.backplane``, which numbers them.

    The room is then one room in all hubs of that backplane.
    """
    history: History | None = None
    """The bounds of the pushes that the room keeps; only for a shared room."""
    presence: Presence | None = None
    """Tells the users in the room; only for a shared room."""

    def __post_init__(self) -> None:
        check_kind("name", self.name, str, "a string")
        _check_kind_of_room(self.kind)
        check_number("max_members", self.max_members, 1, whole=True, optional=True)
        check_function("on_join", self.on_join, "hotline", "ctx")
        check_function("on_leave", self.on_leave, "hotline", "ctx")
        check_function("on_empty", self.on_empty, "hotline")
        check_function("on_gap", self.on_gap, "hotline", "position")
        check_number("close_when_empty", self.close_when_empty, 0, optional=True)
        check_kind("shared", self.shared, bool, "True or False")
        check_kind("history", self.history, History | None, "a History or None")
        check_kind("presence", self.presence, Presence | None, "a Presence or None")
        for name in ("history", "presence"):
            if getattr(self, name) is not None and not self.shared:
                raise SettingError(name, "expected shared=True beside it, got shared=False")

    @property
    def _watches(self) -> bool:
        """True if the option has a hook, or a time for an empty room."""
        hooks = (self.on_join, self.on_leave, self.on_empty, self.close_when_empty)
        return any(hook is not None for hook in hooks)


def _check_kind_of_room(kind: str) -> None:
    check_kind("kind", kind, str, "a string")
    if len(kind) > MAX_KIND or not kind.isprintable():
        raise SettingError(
            "kind", f"expected at most {MAX_KIND} printable characters, got {kind!r:.100}"
        )


def check_room_name(name: object) -> None:
    """Refuse a name that a shared room cannot have.

    :raises SettingError: for anything but 1 to 200 printable characters.
    """
    wanted = f"expected 1 to {MAX_ROOM_NAME} printable characters, got {name!r:.250}"
    if not isinstance(name, str):
        raise SettingTypeError("name", wanted)
    if not 1 <= len(name) <= MAX_ROOM_NAME or not name.isprintable():
        raise SettingError("name", wanted)
