"""The copy of a state that members have, and its comparison with the state.

A shadow stands for one value of the state.  It holds the JSON value that members have (``plain``),
compares it with the present value, and notes the difference in a patch.  For a record whose fields
have not changed, the comparison is one call of ``attrgetter`` and one comparison of tuples.

Layer: state.  Threads: the thread that owns the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import compress
from operator import ne
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from hubthread.errors import WrongType
from hubthread.state.patch import Patch

__all__ = [
    "SAME",
    "Difference",
    "FreeShadow",
    "LeafShadow",
    "ListShadow",
    "Make",
    "MapShadow",
    "OptionalShadow",
    "RecordParts",
    "RecordShadow",
    "Shadow",
    "free_value",
]

SAME: Final[Any] = object()
"""The result of a comparison without a difference, or whose difference is in the patch already."""

MAX_DEPTH: Final = 50
"""The most levels of a state without a type.  A deeper state is probably a circle."""


class Difference:
    """The patches of one comparison: for all members, and for owners of private fields."""

    def __init__(self) -> None:
        self.patch = Patch()
        self.private: dict[Any, Patch] = {}
        """The patches of private fields, by the key of the record that has the fields."""
        self.path: list[str] = []
        """The keys from the root to the value that is compared."""
        self.owner: Any = None
        """The innermost key of a dict on this path."""

    def own_patch(self) -> Patch:
        """Return the patch for the owner of the record that is compared."""
        return self.private.setdefault(self.owner, Patch())


class Shadow(Protocol):
    """One value of the state, as members have it."""

    plain: Any
    """The value in JSON.  It belongs to the shadow and changes later, so encode it at once."""

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """Compare the shadow with the present value, and take over the value.

        :param patch: gets deleted values and appended items.
        :returns: the new value for this place, or ``SAME``.
        :raises WrongType: for a value that the plan does not allow.
        """

    def collect(self, owners: Collection[Any], found: Difference) -> None:
        """Note the private fields of the records that belong to ``owners``."""


class _Whole:
    """A shadow of a value without records, which has no private fields."""

    __slots__ = ()

    def collect(self, owners: Collection[Any], found: Difference) -> None:
        """Do nothing."""


Make: TypeAlias = Callable[[Any, Difference], Shadow]
"""Makes the shadow of a value that members do not have yet."""


class LeafShadow(_Whole):
    """A value without parts.

    :param convert: returns the value in JSON.
    """

    __slots__ = ("_convert", "plain")

    def __init__(self, value: Any, convert: Callable[[Any], Any]) -> None:
        self._convert = convert
        self.plain = convert(value)

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        plain = self._convert(value)
        if plain == self.plain and type(plain) is type(self.plain):
            return SAME
        self.plain = plain
        return plain


class RecordParts(NamedTuple):
    """The fields of a record type."""

    read: Callable[[Any], tuple[Any, ...]]
    """Returns the values of ``leaves``."""
    leaves: tuple[tuple[str, Callable[[Any], Any]], ...]
    """The name of each leaf, and the function that returns its JSON."""
    nested: tuple[tuple[str, Callable[[Any], Any], Make], ...]
    """Name, getter and maker of each field that has parts."""
    private: RecordParts | None
    """The private fields, as a record of their own."""
    base: type
    """The class of the record; ``dict`` for a ``TypedDict``."""


class RecordShadow:
    """A dataclass, a struct or another record with fixed fields."""

    __slots__ = ("_nested", "_parts", "_private", "plain", "seen")

    def __init__(self, value: Any, parts: RecordParts, found: Difference) -> None:
        if not isinstance(value, parts.base):
            raise _unfit(found, parts.base.__name__, value)
        self._parts = parts
        self.seen = values = parts.read(value)
        plain = self.plain = {
            name: convert(each) for (name, convert), each in zip(parts.leaves, values, strict=True)
        }
        self._nested: list[Shadow] = []
        for name, get, make in parts.nested:
            found.path.append(name)
            shadow = make(get(value), found)
            found.path.pop()
            self._nested.append(shadow)
            plain[name] = shadow.plain
        self._private: RecordShadow | None = None  # the private fields
        if parts.private is not None:
            self._private = RecordShadow(value, parts.private, found)
            found.own_patch().set_at(found.path, {**self._private.plain})

    def collect(self, owners: Collection[Any], found: Difference) -> None:
        """Note the private fields of the records that belong to ``owners``."""
        if self._private is not None and found.owner in owners:
            found.own_patch().set_at(found.path, {**self._private.plain})
        for (name, _, _), shadow in zip(self._parts.nested, self._nested, strict=True):
            found.path.append(name)
            shadow.collect(owners, found)
            found.path.pop()

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        parts = self._parts
        if not isinstance(value, parts.base):
            raise _unfit(found, parts.base.__name__, value)
        values = parts.read(value)
        changes = self.take(values) if values != self.seen else {}
        if parts.nested:
            self._diff_nested(value, found, patch, changes)
        if self._private is not None:
            own = found.own_patch()
            said = self._private.diff(value, found, own)
            if said is not SAME:
                own.set_at(found.path, said)
        return changes or SAME

    def take(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """Take over changed values of the leaves; return the new values by name."""
        changes: dict[str, Any] = {}
        plain = self.plain
        for leaf, new, old in zip(self._parts.leaves, values, self.seen):  # noqa: B905 - hot
            if new is not old:
                name, convert = leaf
                said = convert(new)
                if said != plain[name]:
                    plain[name] = changes[name] = said
        self.seen = values
        return changes

    def collect_without(
        self, names: Collection[str], owners: Collection[Any], found: Difference
    ) -> None:
        """Note the private fields that belong to ``owners``, except those inside ``names``."""
        for (name, _, _), shadow in zip(self._parts.nested, self._nested, strict=True):
            if name not in names:
                found.path.append(name)
                shadow.collect(owners, found)
                found.path.pop()

    def map_at(self, name: str) -> MapShadow:
        """Return the dict in a field."""
        for (field, _, _), shadow in zip(self._parts.nested, self._nested, strict=True):
            if field == name:
                assert isinstance(shadow, MapShadow)
                return shadow
        raise KeyError(name)

    def _diff_nested(
        self, value: Any, found: Difference, patch: Patch, changes: dict[str, Any]
    ) -> None:
        path, plain = found.path, self.plain
        for (name, get, _), shadow in zip(self._parts.nested, self._nested, strict=True):
            path.append(name)
            said = shadow.diff(get(value), found, patch)
            path.pop()
            if said is not SAME:
                changes[name] = said
            plain[name] = shadow.plain


class MapShadow:
    """A dict with values of one type.

    :param text: returns a key as text.
    :param flat: the parts of the values, if they are records of leaves only; otherwise None.  For
        such records, no call per record is needed to find those that have changed.
    """

    __slots__ = ("_flat", "_items", "_keys", "_make", "_rows", "_seen", "_text", "_texts", "plain")

    def __init__(
        self,
        value: Any,
        make: Make,
        text: Callable[[Any], str],
        flat: RecordParts | None,
        found: Difference,
    ) -> None:
        self._make = make
        self._flat = flat
        self._text = text
        self._items: dict[Any, tuple[str, Shadow]] = {}
        self._texts: dict[Any, str] = {}
        self.plain: dict[str, Any] = {}
        for key, each in self._entries(value, found):
            self._add(key, each, found)
        # Of flat records, in the order of the dict: the keys, the shadows, and the leaves.
        self._keys: list[Any] = []
        self._rows: list[tuple[str, Any]] = []
        self._seen: list[tuple[Any, ...]] = []

    def collect(self, owners: Collection[Any], found: Difference) -> None:
        """See ``Shadow``."""
        owner = found.owner
        for key, (text, shadow) in self._items.items():
            found.path.append(text)
            found.owner = key
            shadow.collect(owners, found)
            found.path.pop()
        found.owner = owner

    def texts(self, keys: Iterable[Any]) -> set[str]:
        """Return as text those of ``keys`` that are in the dict."""
        texts: set[Any] = set(map(self._texts.get, keys))
        texts.discard(None)
        return texts

    @property
    def has_private(self) -> bool:
        """False if no value can have private fields."""
        return self._flat is None

    def collect_some(self, texts: Collection[str], owners: Collection[Any], found: Any) -> None:
        """Note the private fields of some values that belong to ``owners``."""
        if not self.has_private:
            return
        for key, (text, shadow) in self._items.items():
            if text in texts:
                found.path.append(text)
                found.owner = key
                shadow.collect(owners, found)
                found.path.pop()

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        entries = self._entries(value, found)
        if self._flat is None:
            return self._diff_entries(entries, value, found, patch)
        leaves = self._leaves(value, found)
        if list(value) == self._keys:
            changes: dict[str, Any] = {}
            rows = self._rows
            for index in compress(range(len(leaves)), map(ne, leaves, self._seen)):
                text, record = rows[index]
                said = record.take(leaves[index])
                if said:
                    changes[text] = said
            self._seen = leaves
            return changes or SAME
        said = self._diff_entries(entries, value, found, patch)
        self._keys, self._seen = list(value), leaves
        self._rows = [self._items[key] for key in value]
        return said

    def _diff_entries(
        self,
        entries: Iterable[tuple[Any, Any]],
        value: Mapping[Any, Any],
        found: Difference,
        patch: Patch,
    ) -> Any:
        changes: dict[str, Any] = {}
        items, path, owner = self._items, found.path, found.owner
        for key, each in entries:
            known = items.get(key)
            if known is None:
                text = self._add(key, each, found)
                changes[text] = self.plain[text]
                continue
            text, shadow = known
            path.append(text)
            found.owner = key
            said = shadow.diff(each, found, patch)
            path.pop()
            if said is not SAME:
                changes[text] = said
            self.plain[text] = shadow.plain
        found.owner = owner
        if len(items) != len(value):
            for key in [key for key in items if key not in value]:
                text, _ = items.pop(key)
                del self._texts[key]
                del self.plain[text]
                patch.dels.append([*path, text])
        return changes or SAME

    def _leaves(self, value: Mapping[Any, Any], found: Difference) -> list[tuple[Any, ...]]:
        """Return the leaves of all records."""
        flat = self._flat
        assert flat is not None
        base = flat.base
        for kind in set(map(type, value.values())):
            if not issubclass(kind, base):
                key = next(key for key, each in value.items() if type(each) is kind)
                found.path.append(str(key))
                raise _unfit(found, base.__name__, value[key])
        return list(map(flat.read, value.values()))

    def _entries(self, value: Any, found: Difference) -> Iterable[tuple[Any, Any]]:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise _unfit(found, "a dict", value)
        return value.items()

    def _add(self, key: Any, value: Any, found: Difference) -> str:
        text = self._text(key)
        if text in self.plain:
            raise WrongType(f"state: {_place(found)}: two keys are {text!r} as text")
        owner = found.owner
        found.path.append(text)
        found.owner = key
        shadow = self._make(value, found)
        found.owner = owner
        found.path.pop()
        self._items[key] = text, shadow
        self._texts[key] = text
        self.plain[text] = shadow.plain
        return text


class ListShadow(_Whole):
    """A list, a tuple or a set.  A change is sent as the whole list, or as items for its end.

    :param convert: converts one item to JSON.  The result shares no objects with the item.
    """

    __slots__ = ("_convert", "plain")

    def __init__(
        self, value: Any, convert: Callable[[Any, Difference], Any], found: Difference
    ) -> None:
        self._convert = convert
        self.plain = self._converted(value, found)

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        new, old = self._converted(value, found), self.plain
        if new == old:
            return SAME
        more = new[len(old) :]
        self.plain = new
        if more and new[: len(old)] == old:
            patch.adds.append(([*found.path], more))
            return SAME
        return new

    def _converted(self, value: Any, found: Difference) -> list[Any]:
        if type(value) is not list and (
            isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
        ):
            raise _unfit(found, "a list", value)
        convert = self._convert
        return [convert(each, found) for each in value]


class OptionalShadow:
    """A value that may be None instead."""

    __slots__ = ("_inner", "_make", "plain")

    def __init__(self, value: Any, make: Make, found: Difference) -> None:
        self._make = make
        self._inner: Shadow | None = None if value is None else make(value, found)
        self.plain = None if self._inner is None else self._inner.plain

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        inner = self._inner
        if value is None:
            self._inner = self.plain = None
            return SAME if inner is None else None
        if inner is None:
            inner = self._inner = self._make(value, found)
            self.plain = inner.plain
            return self.plain
        said = inner.diff(value, found, patch)
        self.plain = inner.plain
        return said

    def collect(self, owners: Collection[Any], found: Difference) -> None:
        """See ``Shadow``."""
        if self._inner is not None:
            self._inner.collect(owners, found)


class FreeShadow(_Whole):
    """A value without a type: any value that JSON can express, compared part by part."""

    __slots__ = ("plain",)

    def __init__(self, value: Any, found: Difference) -> None:
        self.plain = free_value(value, found)

    def diff(self, value: Any, found: Difference, patch: Patch) -> Any:
        """See ``Shadow``."""
        new, old = free_value(value, found), self.plain
        self.plain = new
        return _free_diff(new, old, found.path, patch)


def _free_diff(new: Any, old: Any, path: list[str], patch: Patch) -> Any:
    if isinstance(new, dict) and isinstance(old, dict):
        changes = {}
        for key, value in new.items():
            path.append(key)
            said = _free_diff(value, old[key], path, patch) if key in old else value
            path.pop()
            if said is not SAME:
                changes[key] = said
        patch.dels += [[*path, key] for key in old if key not in new]
        return changes or SAME
    if new == old and type(new) is type(old):
        return SAME
    if isinstance(new, list) and isinstance(old, list) and new[: len(old)] == old:
        patch.adds.append(([*path], new[len(old) :]))
        return SAME
    return new


_TEXT_OR_WHOLE = (str, int)  # made once: the union ``str | int`` is made anew in each call


def free_value(value: Any, found: Difference, depth: int = 0) -> Any:
    """Convert a value to JSON.  The result shares no objects with the value.

    :raises WrongType: for a value that JSON cannot express.
    """
    if value is None or isinstance(value, _TEXT_OR_WHOLE):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        raise WrongType(f"state: {_place(found)} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        plain = {}
        for key, each in value.items():
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise _unfit(found, "a dict with keys of text or whole numbers", value)
            plain[str(key)] = free_value(each, found, depth + 1)
        return plain
    if isinstance(value, list | tuple):
        return [free_value(each, found, depth + 1) for each in value]
    raise _unfit(found, "None, bool, int, float, str, a list or a dict", value)


def _unfit(found: Difference, wanted: str, value: Any) -> WrongType:
    return WrongType(f"state: {_place(found)}: expected {wanted}, got {value!r:.100}")


def _place(found: Difference) -> str:
    return ".".join(found.path) or "the state"
