"""The making of hotlines: by number, or by name.

Layer: hub.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Generic, TypeVar

from hubthread.checks import check_callable, check_kind, checked
from hubthread.core.core import Core
from hubthread.errors import UsageError
from hubthread.room_option import HotlineOption, check_room_name
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.ticking.owned import OwnedOption, OwnedRoom

__all__ = ["MakeOption", "RoomMaker"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
Obj = TypeVar("Obj")

MakeOption = HotlineOption | Callable[[str], HotlineOption] | None
"""The option of a room that is made, or a function that returns it for the room's name."""


class RoomMaker(Generic[Meta, Header]):
    """Makes the hotlines of a hub.

    :param core: the core of the hub.
    """

    def __init__(self, core: Core[Meta, Header]) -> None:
        self._core = core
        self._lock = threading.RLock()  # held while a room with a unique name is made

    def make(self, option: HotlineOption | None) -> Hotline[Meta, Header]:
        """Make a room; see ``Hub.hotline``."""
        if option is None:
            option = HotlineOption()
        check_kind("option", option, HotlineOption, "a HotlineOption or None")
        self._core.state.refuse_closing("opens no hotline")
        if not option.shared:
            return self._add(option)
        check_room_name(option.name)
        with self._lock:
            if self._core.registry.named(option.name) is not None:
                raise UsageError(
                    f"the hub has a room {option.name!r} already: hub.room({option.name!r}) "
                    f"returns it"
                )
            return self._add(option, named=True)

    def own(self, name: str, option: OwnedOption[Obj]) -> OwnedRoom[Obj]:
        """Find or make a room that one hub owns; see ``Hub.own``."""
        check_room_name(name)
        check_kind("option", option, OwnedOption, "an OwnedOption")
        with self._lock:
            found = self._core.registry.named(name)
            if isinstance(found, OwnedRoom):
                return found
            hotline = self.make(replace(option.room or HotlineOption(), name=name, shared=True))
            try:
                return OwnedRoom(hotline, option)
            except BaseException:
                hotline.close()
                raise

    def find_or_make(self, name: str, option: MakeOption) -> Hotline[Meta, Header]:
        """Find or make a room; see ``Hub.room``."""
        check_room_name(name)
        registry = self._core.registry
        found: Hotline[Meta, Header] | None = registry.named(name)
        if found is not None:
            return found
        self._core.state.refuse_closing("opens no hotline")
        if not isinstance(option, HotlineOption | None):
            check_callable("option", option, "name")
            option = checked(option(name))
            check_kind("option", option, HotlineOption, "a function that returns a HotlineOption")
        option = replace(option or HotlineOption(), name=name)
        with self._lock:
            return registry.named(name) or self._add(option, named=True)

    def _add(self, option: HotlineOption, *, named: bool = False) -> Hotline[Meta, Header]:
        registry = self._core.registry
        hotline = Hotline(self._core, registry.next_hotline_id(), option)
        registry.add(hotline, option.name if named else None)
        return hotline
