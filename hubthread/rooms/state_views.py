"""Send the state of a room to members that see different parts of it.

A *view* returns the keys of the records of a dict that a member sees.  Every record is encoded
once, and the message of a member is joined from such fragments.  A record that comes into view is
in ``set`` as a whole, and a record that goes out of view is in ``del``.  Each member's states have
numbers of their own, because a change that the member does not see makes no message for it.

Layer: rooms.  Threads: the room's thread, which owns the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hubthread.rooms.state_sync import Moment, StateSender, encode
from hubthread.state.patch import Patch, merge
from hubthread.state.shadow import SAME, Difference, MapShadow, RecordShadow

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.rooms.hotline import Hotline
    from hubthread.state.plan import Node

__all__ = ["ViewSender"]

Path = list[str]


class ViewSender(StateSender):
    """The state of one room, as its members see it.

    :param views: for each field, the function that returns the keys that a member sees.
    """

    def __init__(
        self,
        hotline: Hotline[Any, Any],
        state: Any,
        plan: Node,
        views: Mapping[str, Callable[[Any, Any], Iterable[Any]]],
    ) -> None:
        super().__init__(hotline, state, plan, hotline.push)
        self._views = views
        self._seen: dict[Client[Any, Any], _Member] = {}

    def left(self, member: Client[Any, Any]) -> None:
        """Forget a member."""
        super().left(member)
        self._seen.pop(member, None)

    def _compare(self, found: Difference, moment: Moment | None) -> None:
        shadow = self._shadow
        if shadow is None:
            self._shadow = self._plan.make(self._state, found)
            return
        patch = found.patch
        said = shadow.diff(self._state, found, patch)
        if said is not SAME:
            merge(patch.sets, said)
        acks = self.acks(every=False)
        dicts = self._dicts()
        changes = _Changes(dicts, patch)
        head = self._head(moment)
        some_private = bool(found.private) or any(each.has_private for each in dicts.values())
        self._set_aside_lagging()
        for member in self._served:
            seen = self._seen[member]
            parts, entered = changes.parts(self._visible(dicts, member, seen), seen)
            ack = acks.get(str(member.connection_id)) if acks else None
            if ack is not None:
                parts.append(f'"acks":{{"{member.connection_id}":{ack}}}')
            if parts:
                seen.n += 1
                member.write(f"{head}{seen.n},{','.join(parts)}}}")
            if some_private:
                self._write_own(member, seen, self._own(member, seen, found, entered))

    def _send_whole(self, moment: Moment | None) -> None:
        ready = [member for member in self._unserved if not member.ws_conn.outbox.lags]
        if not ready:
            return
        assert self._shadow is not None
        dicts, acks = self._dicts(), self.acks(every=True)
        common = {key: each for key, each in self._shadow.plain.items() if key not in dicts}
        whole = {name: _Fragments(each.plain) for name, each in dicts.items()}
        head = self._head(moment)
        for member in ready:
            del self._unserved[member]
            self._served[member] = member.ws_conn.dropped
            seen = self._seen.setdefault(member, _Member())
            seen.known = self._visible(dicts, member, seen)
            seen.n += 1
            inner = [encode(common)[1:-1]] if common else []
            for name, keys in seen.known.items():
                inner.append(f"{encode(name)}:{{{','.join(map(whole[name].__getitem__, keys))}}}")
            parts = [] if moment is None else [f'"hz":{encode(moment.hz)}']
            ack = acks.get(str(member.connection_id))
            if ack is not None:
                parts.append(f'"acks":{{"{member.connection_id}":{ack}}}')
            parts.append(f'"full":{{{",".join(inner)}}}')
            member.write(f"{head}{seen.n},{','.join(parts)}}}")
            own = self._own(member, seen, Difference(), seen.known)
            for patch in self._common_own(member):
                merge(own.sets, patch.sets)
            self._write_own(member, seen, own)

    def _fail(self, found: Difference, error: Any) -> None:
        super()._fail(found, error)
        for seen in self._seen.values():
            seen.known = {}

    def _dicts(self) -> dict[str, MapShadow]:
        shadow = self._shadow
        assert isinstance(shadow, RecordShadow)
        return {name: shadow.map_at(name) for name in self._views}

    def _visible(
        self, dicts: Mapping[str, MapShadow], member: Client[Any, Any], seen: _Member
    ) -> dict[str, set[str]]:
        """Return the keys that a member sees now, as text."""
        visible = {}
        for name, each in dicts.items():
            try:
                visible[name] = each.texts(self._views[name](member, self._state))
            except Exception as error:  # noqa: BLE001 - logged; the member sees what it has seen
                incidents = self._hotline._core.incidents
                incidents.log_exception(
                    error, "%s: the view %r raised", self._hotline._log.name, name
                )
                visible[name] = seen.known.get(name, set()) & each.plain.keys()
        return visible

    def _own(
        self,
        member: Client[Any, Any],
        seen: _Member,
        found: Difference,
        entered: Mapping[str, set[str]],
    ) -> Patch:
        """Return the private fields of a member that have changed, or have come into view."""
        own, keys = Patch(), self._keys(member)
        for owner, patch in found.private.items():
            if owner not in keys:
                continue
            for path in patch.dels:
                if self._sees(seen, path, entered):
                    own.dels.append(path)
            for path, items in patch.adds:
                if self._sees(seen, path, entered):
                    own.adds.append((path, items))
            for name, value in patch.sets.items():
                if name not in self._views:
                    own.set_at([name], value)
                    continue
                for key, each in value.items():
                    if self._sees(seen, [name, key], entered):
                        own.set_at([name, key], each)
        for name, each in self._dicts().items():
            if entered.get(name):
                more = Difference()
                more.path.append(name)
                each.collect_some(entered[name], keys, more)
                for patch in more.private.values():
                    merge(own.sets, patch.sets)
        return own

    def _common_own(self, member: Client[Any, Any]) -> Iterable[Patch]:
        """Return patches with a member's private fields that are in no field with a view."""
        found = Difference()
        assert isinstance(self._shadow, RecordShadow)
        self._shadow.collect_without(self._views.keys(), self._keys(member), found)
        return found.private.values()

    def _sees(self, seen: _Member, path: Path, entered: Mapping[str, set[str]]) -> bool:
        """Return True if a member has the record of a path from an earlier message."""
        name = path[0]
        if name not in self._views:
            return True
        return path[1] in seen.known[name] and path[1] not in entered.get(name, ())

    def _head(self, moment: Moment | None) -> str:
        """Return the beginning of a message, up to its number."""
        head = {"type": "hub:state", "room": self._hotline.name, **self._time(moment)}
        return f'{encode(head)[:-1]},"n":'

    def _write_own(self, member: Client[Any, Any], seen: _Member, own: Patch) -> None:
        if own:
            member.write(self._own_text(own, seen.n))


class _Member:
    """The records that one member has, and the number of its last state."""

    __slots__ = ("known", "n")

    def __init__(self) -> None:
        self.n = 0  # the number of the last state
        self.known: dict[str, set[str]] = {}  # the keys of the records, by field


class _Fragments(dict[str, str]):
    """The values of a dict with their keys, as JSON.  Each is encoded at its first use.

    The fragment of a key that is not in the dict is empty.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._values = values

    def __missing__(self, key: str) -> str:
        known = key in self._values
        text = self[key] = encode({key: self._values[key]})[1:-1] if known else ""
        return text


class _Changes:
    """The differences that one comparison has found, by record.

    :param dicts: the fields with a view.
    """

    def __init__(self, dicts: Mapping[str, MapShadow], patch: Patch) -> None:
        self._dels: list[str] = []
        self._adds: list[str] = []
        self._fields: dict[str, _Field] = {}
        for name, each in dicts.items():
            self._fields[name] = _Field(name, patch.sets.pop(name, {}), each)
        self._set = encode(patch.sets)[1:-1] if patch.sets else ""
        for path in patch.dels:
            field = self._fields.get(path[0])
            if field is None:
                self._dels.append(encode(path))
            elif len(path) > 2:
                field.dels.setdefault(path[1], []).append(encode(path))
        for path, items in patch.adds:
            field = self._fields.get(path[0])
            if field is None:
                self._adds.append(encode([path, items]))
            else:
                field.adds.setdefault(path[1], []).append(encode([path, items]))

    def parts(
        self, visible: dict[str, set[str]], seen: _Member
    ) -> tuple[list[str], dict[str, set[str]]]:
        """Return the parts of the message for a member, and the keys that have come into view."""
        dels, sets, adds = self._dels, [self._set] if self._set else [], self._adds
        entered = {}
        for name, keys in visible.items():
            field, known = self._fields[name], seen.known[name]
            stay = keys
            new: set[str] = set()
            if keys != known:
                new, stay = keys - known, keys & known
                dels = [*dels, *(f"[{field.text},{encode(key)}]" for key in known - keys)]
            entered[name] = new
            inner: list[str] = []
            if field.changes:
                inner += filter(None, map(field.changed.__getitem__, stay))
            if new:
                inner += map(field.whole.__getitem__, new)
            if inner:
                sets.append(f"{field.text}:{{{','.join(inner)}}}")
            if field.dels or field.adds:
                dels = [*dels, *_of(field.dels, stay)]
                adds = [*adds, *_of(field.adds, stay)]
        seen.known = visible
        parts = [f'"del":[{",".join(dels)}]'] if dels else []
        if sets:
            parts.append(f'"set":{{{",".join(sets)}}}')
        if adds:
            parts.append(f'"add":[{",".join(adds)}]')
        return parts, entered


class _Field:
    """The changes of one field with a view."""

    def __init__(self, name: str, changes: dict[str, Any], shadow: MapShadow) -> None:
        self.text = encode(name)
        self.changes = changes
        self.changed = _Fragments(changes)
        self.whole = _Fragments(shadow.plain)
        self.dels: dict[str, list[str]] = {}
        self.adds: dict[str, list[str]] = {}


def _of(texts: Mapping[str, list[str]], keys: set[str]) -> list[str]:
    return [text for key in texts.keys() & keys for text in texts[key]]
