"""Send the state of a room to its members: once whole, and then as numbered patches.

Layer: rooms.  Threads: the room's thread, which owns the state.

The messages::

    {"type":"hub:state","room":"table/7","n":41,"tick":820,"time":1764…,"hz":20,"full":{…}}
    {"type":"hub:state","room":"table/7","n":42,"tick":822,"time":1764…,"set":{…},"del":[…],"add":[…]}
    {"type":"hub:state","room":"table/7","n":42,"mine":{"set":{…}}}

The number ``n`` of a patch follows the number of the state that the patch changes.  ``tick`` is
the last tick, and ``time`` the time at which it was due, in milliseconds since 1970.  ``acks`` has
the numbers of the inputs that ticks have taken, by member; a patch has only new numbers.  ``mine``
has the private fields of the member that gets it, and changes the state with the same number.

A member that lags gets no patches.  It gets the whole state when nothing waits for it any more.
So at most one state waits for a member.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hubthread.checks import check_function, check_kind, check_number
from hubthread.errors import SettingError, SettingTypeError
from hubthread.state.patch import Patch, merge
from hubthread.state.plan import Node
from hubthread.state.shadow import SAME, Difference, Shadow
from hubthread.types import Overflow

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.interfaces import IOContext
    from hubthread.rooms.hotline import Hotline

__all__ = ["Moment", "StateSender", "StateSync", "encode", "type_of_state"]


class Moment(NamedTuple):
    """The time of a state."""

    tick: int
    """The number of the last tick."""
    time: float
    """The time at which the tick was due, in seconds since 1970."""
    hz: float
    """Ticks per second."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a message."""
        return {"tick": self.tick, "time": int(self.time * 1000)}


class Acks(Protocol):
    """Returns the numbers of inputs that ticks have taken, by the member's id as text."""

    def __call__(self, *, every: bool) -> dict[str, int]:
        """Return the numbers of all members, or only those that have changed since the last call.

        :param every: True for all members.
        """


@dataclass(frozen=True)
class StateSync:
    """The way to send the state of a ticking room: ``HotlineFrameOption(…, sync=StateSync())``.

    The state is plain data: a dataclass, an attrs class, a msgspec struct, a ``TypedDict`` or a
    ``dict``.  At the end of a tick the room compares it with a copy, and sends one patch to all
    members, with the tick's other messages.  Without a change nothing is sent.

    :raises SettingError: for a rate that is not above zero.
    """

    hz: float | None = None
    """The most patches per second; ``None`` sends one after each tick."""
    type: Any = None
    """The type of the state, whose annotations are the plan.  ``None`` takes ``new_obj``, if it is
    a class, or the annotation of its result."""
    views: Mapping[str, Callable[[IOContext, Any], Iterable[Any]]] | None = None
    """The views, by the names of fields that are dicts.  A view is called as ``view(ctx, state)``
    for each member, on the tick thread before each patch.  It returns the keys of the records that
    the member sees.  A record that comes into view is sent whole, and a record that goes out of
    view is deleted for the member."""

    def __post_init__(self) -> None:
        check_number("hz", self.hz, 0, optional=True)
        check_kind("views", self.views, Mapping | None, "a dict of functions or None")
        for view in (self.views or {}).values():
            check_function("views", view, "ctx", "state")

    def check(self, plan: Node) -> None:
        """Refuse views of fields that are not dicts.

        :raises SettingError: for such a view.
        """
        for name in self.views or {}:
            if name not in plan.maps:
                raise SettingError(
                    "views", f"expected a field that is a dict of one type, got {name!r}"
                )


def type_of_state(given: Any, make: Callable[[], Any]) -> Any:
    """Return the type of a state.

    :param given: ``StateSync.type``.
    :param make: ``new_obj``.
    :raises SettingTypeError: if neither of them tells the type.
    """
    if given is not None:
        return given
    if isinstance(make, type):
        return make
    hint = getattr(make, "__annotations__", {}).get("return")
    if hint is None or isinstance(hint, str):
        raise SettingTypeError(
            "sync",
            "the type of the state is not known: give StateSync(type=Table), or a class "
            "as new_obj",
        )
    return hint


class StateSender:
    """The state of one room, as its members have it.

    Threads: the room's thread, except for the constructor.

    :param state: the state, which belongs to the room's thread.
    :param plan: the plan of the state's type.
    :param push: pushes a text to all members except some.  ``None`` for a room that is shared with
        other hubs, whose members do not get the state.
    """

    def __init__(
        self,
        hotline: Hotline[Any, Any],
        state: Any,
        plan: Node,
        push: Callable[..., object] | None,
    ) -> None:
        self._hotline = hotline
        self._state = state
        self._plan = plan
        self._push = push
        # True: a patch may be dropped, and the member then needs the whole state.
        self._drops = hotline._core.setting.overflow is not Overflow.CLOSE
        self._shadow: Shadow | None = None  # made for the first member
        self._n = 0
        # Members that have the state with number n, and the messages dropped for them before.
        self._served: dict[Client[Any, Any], int] = {}
        self._unserved: dict[Client[Any, Any], None] = {}  # members that need the whole state
        self.resynced = 0
        """The number of whole states that members got because they lagged."""
        self.acks: Acks = _no_acks
        """Returns the acknowledged inputs; replaced in a room with inputs."""
        self.flush: Callable[[], object] = bool
        """Sends all pushes so far, so that they come before a write to a member."""

    def joined(self, member: Client[Any, Any], moment: Moment | None = None) -> None:
        """Send the state to a member that is new."""
        self._unserved[member] = None
        self.step(moment)

    def left(self, member: Client[Any, Any]) -> None:
        """Forget a member."""
        self._served.pop(member, None)
        self._unserved.pop(member, None)

    def step(self, moment: Moment | None = None) -> None:
        """Compare, send the patch, and send the whole state to members that need it.

        :param moment: the time of the state, for a room with ticks.
        """
        if not self._served and not self._unserved:
            self._shadow = None  # without members nothing is compared
            return
        if self._drops:
            self._set_aside(
                [each for each, dropped in self._served.items() if each.ws_conn.dropped != dropped]
            )
        found = Difference()
        try:
            self._compare(found, moment)
            self._send_whole(moment)
        except Exception as error:  # noqa: BLE001 - logged: a value that JSON cannot express
            self._fail(found, error)

    def _compare(self, found: Difference, moment: Moment | None) -> None:
        shadow = self._shadow
        if shadow is None:
            self._shadow = self._plan.make(self._state, found)
            self._n += 1
            return
        patch = found.patch
        said = shadow.diff(self._state, found, patch)
        if said is not SAME:
            merge(patch.sets, said)
        acks = self.acks(every=False)
        if patch or acks:
            self._n += 1
            self._set_aside_lagging()
            if self._served:
                fields = patch.fields() | ({"acks": acks} if acks else {})
                self._send(self._text(moment, fields))
        if found.private:
            self.flush()
            for owner, own in found.private.items():
                if own:
                    self._send_own(owner, own)

    def _send(self, text: str) -> None:
        """Send a patch to the members that have the state before it."""
        if self._push is not None:
            self._push(text, exclude=[*self._unserved] or None)
            return
        for member in self._served:
            member.write(text)

    def _set_aside(self, members: list[Client[Any, Any]]) -> None:
        """Have some members get the whole state later, instead of patches."""
        for member in members:
            del self._served[member]
            self._unserved[member] = None
            self.resynced += 1

    def _set_aside_lagging(self) -> None:
        self._set_aside([member for member in self._served if member.ws_conn.outbox.lags])

    def _send_own(self, owner: Any, patch: Patch) -> None:
        for member in self._served:
            if owner in self._keys(member):
                member.write(self._own_text(patch))

    def _send_whole(self, moment: Moment | None) -> None:
        """Send the whole state to the members that need it and for which nothing waits."""
        if not self._unserved:
            return
        ready = [member for member in self._unserved if not member.ws_conn.outbox.lags]
        if not ready:
            return
        shadow = self._shadow
        assert shadow is not None
        acks = self.acks(every=True)
        fields = ({} if moment is None else {"hz": moment.hz}) | ({"acks": acks} if acks else {})
        text = self._text(moment, {**fields, "full": shadow.plain})
        for member in ready:
            del self._unserved[member]
            self._served[member] = member.ws_conn.dropped
            member.write(text)
            found = Difference()
            shadow.collect(self._keys(member), found)
            for patch in found.private.values():
                member.write(self._own_text(patch))

    def _fail(self, found: Difference, error: Exception) -> None:
        """Log a value that cannot be sent; members get the whole state when it is gone."""
        self._shadow = None
        self._unserved.update(dict.fromkeys(self._served))
        self._served.clear()
        place = ".".join(found.path) or "the state"
        text = "%s: the state cannot be sent, at %s: %s"
        incidents = self._hotline._core.incidents
        incidents.log_exception(error, text, self._hotline._log.name, place, error)

    @staticmethod
    def _keys(member: Client[Any, Any]) -> tuple[Any, ...]:
        """Return the keys of the records that belong to a member."""
        if member.user is None:
            return (member.connection_id,)
        return (member.connection_id, member.user)

    def _text(self, moment: Moment | None, parts: dict[str, Any]) -> str:
        head = {"type": "hub:state", "room": self._hotline.name, "n": self._n}
        return encode({**head, **self._time(moment), **parts})

    def _time(self, moment: Moment | None) -> dict[str, Any]:
        if moment is None:
            return {"time": int(self._hotline._core.clock.wall() * 1000)}
        return moment.fields()

    def _own_text(self, patch: Patch, number: int | None = None) -> str:
        number = self._n if number is None else number
        head = {"type": "hub:state", "room": self._hotline.name, "n": number}
        return encode({**head, "mine": patch.fields()})


def _no_acks(*, every: bool) -> dict[str, int]:
    return {}


def _encode() -> Callable[[Any], str]:
    """Return a function that encodes a value as JSON.

    ``JSONEncoder.encode`` makes an encoder for each call, which takes longer than most fragments.
    """
    encoder = json.JSONEncoder(
        ensure_ascii=False, check_circular=False, separators=(",", ":"), allow_nan=False
    )
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    text = json.encoder.encode_basestring
    chunks = make(None, encoder.default, text, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


encode = _encode()
