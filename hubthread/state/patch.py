"""Patches of a state, and their application.

Layer: state.  Threads: a patch belongs to the thread that makes or applies it.

A patch has three parts, which a client applies in this order:

``del``
    The paths of values to remove: ``[["players", "9"]]``.
``set``
    New values at their places: ``{"players": {"17": {"x": 3.5}}}``.  An object is merged into an
    object that is there; every other value replaces the old value.
``add``
    New items for the end of a list, with the path of the list: ``[[["log"], ["Ada left"]]]``.

Keys are strings, as in every JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Patch", "apply", "merge"]

Path = list[str]


class Patch:
    """One patch while it is made."""

    __slots__ = ("adds", "dels", "sets")

    def __init__(self) -> None:
        self.sets: dict[str, Any] = {}
        self.dels: list[Path] = []
        self.adds: list[tuple[Path, list[Any]]] = []

    def __bool__(self) -> bool:
        return bool(self.sets or self.dels or self.adds)

    def set_at(self, path: Path, value: Any) -> None:
        """Set the value at a path, which is not empty; an object is merged."""
        place = self.sets
        for key in path[:-1]:
            place = place.setdefault(key, {})
        known = place.get(path[-1])
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value)
        else:
            place[path[-1]] = value

    def fields(self) -> dict[str, Any]:
        """Return the parts that are not empty, by their names in the message."""
        parts = {"del": self.dels, "set": self.sets, "add": self.adds}
        return {name: part for name, part in parts.items() if part}


def apply(state: dict[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state after a patch.  The given state stays as it is.

    Both states share the parts that the patch does not change.  So a patch only costs copies of
    the objects on its paths.

    :raises AttributeError, KeyError, TypeError, ValueError: for a patch that does not fit the
        state.
    """
    return _Copier(state).apply(patch)


class _Copier:
    """Changes a copy of a state, and copies only the parts that change."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = {**state}
        self._copies: dict[int, Any] = {}  # by id

    def apply(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """See ``apply``."""
        for path in patch.get("del", ()):
            *parents, key = path
            del self._at(parents)[key]
        self._merge(self._state, patch.get("set", {}))
        for path, items in patch.get("add", ()):
            self._at(path).extend(items)
        return self._state

    def _merge(self, into: dict[str, Any], values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._merge(self._own(into, key), value)
            else:
                into[key] = value

    def _at(self, path: list[str]) -> Any:
        place: Any = self._state
        for key in path:
            place = self._own(place, key)
        return place

    def _own(self, place: Any, key: str) -> Any:
        """Return the value at a key, as a copy that may be changed."""
        found = place[key]
        if id(found) not in self._copies:
            found = place[key] = found.copy()
            self._copies[id(found)] = found
        return found


def merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Merge values into an object: objects into objects; every other value replaces the old."""
    for key, value in values.items():
        known = into.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            merge(known, value)
        else:
            into[key] = value
