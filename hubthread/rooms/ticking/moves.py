"""The inputs of members, each brought to the tick that it is for.

A client numbers its inputs, and may name the tick that an input is for.  The room keeps the inputs
of each member in their order, until their tick comes.  The state tells the number of the last
input that a tick has taken.  So a page, which has moved its player ahead already, knows which of
its inputs the state contains.

Layer: rooms.ticking.  Threads: ``begin``, ``give`` and ``tell`` run on the tick thread.  Any
thread may call the other methods.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar, get_args

from hubthread.checks import check_choice, check_number
from hubthread.clients.client import Client
from hubthread.errors import ContextNotClient, PayloadError
from hubthread.matcher.compile import compile_converter

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext
    from hubthread.rooms.hotline import Hotline
    from hubthread.rooms.ticking.schedule import Tick

__all__ = ["Inputs", "Late", "PerTick"]

V = TypeVar("V")

PerTick: TypeAlias = Literal["one", "all"]
"""The number of a member's inputs that a tick takes: see ``FrameControl.inputs``."""

Late: TypeAlias = Literal["next", "drop"]
"""The rule for an input whose tick has passed: see ``FrameControl.inputs``."""

MOST_NUMBER = 2**53
"""The whole number up to which JavaScript counts exactly."""

COUNTS = ("taken", "late", "early", "doubled", "full", "unfit")


class _Waiting(NamedTuple):
    """One input that waits for its tick."""

    number: int | None
    tick: int
    value: Any


class _Member:
    """The inputs of one member."""

    __slots__ = ("acked", "last", "queue", "quota", "refused", "told")

    def __init__(self) -> None:
        self.queue: deque[_Waiting] = deque()
        self.last = 0  # the highest number that was accepted
        self.acked = 0  # the number of the last input that a tick has taken
        self.told = 0  # the last such number that a state has told
        self.quota = 0  # with ``per_tick="one"``: the inputs that the next tick may take
        self.refused: list[tuple[int, str]] = []


class Inputs(Generic[V]):
    """The inputs of a room's members.  Made by ``frame.inputs``; iterate over it in ``logic``.

    ::

        for ctx, move in frame.inputs(Move):
            arena.players[ctx.connection_id].turn(move)

    An iteration yields the inputs of the present tick, each with its member.  The members come in
    the order of their first inputs, and the inputs of one member in their order.
    """

    def __init__(
        self,
        hotline: Hotline[Any, Any],
        into: Any,
        buffer: int,
        per_tick: PerTick,
        late: Late,
    ) -> None:
        check_number("buffer", buffer, 1, whole=True)
        check_choice("per_tick", per_tick, get_args(PerTick))
        check_choice("late", late, get_args(Late))
        self._hotline = hotline
        self.convert = compile_converter(into)
        """Converts the data of a message to an input."""
        self.terms = (into, buffer, per_tick, late)
        """The arguments of ``frame.inputs``."""
        self._buffer = buffer
        self._one = per_tick == "one"
        self._drops = late == "drop"
        self._given: Sequence[tuple[IOContext, V]] = []  # only the tick thread touches it
        self._lock = threading.RLock()  # guards what follows
        self._members: dict[IOContext, _Member] = {}
        self._index = 0  # the number of the tick that has begun last
        self._counts = dict.fromkeys(COUNTS, 0)
        self._some_refused = False

    # For the program.

    def __iter__(self) -> Iterator[tuple[IOContext, V]]:
        """Iterate over the members and inputs of the present tick, in the room's callbacks."""
        return iter(self._given)

    def put(
        self, ctx: IOContext, value: V, *, number: int | None = None, tick: int | None = None
    ) -> bool:
        """Give the input of a member, from a handler of the program's own messages.

        :param number: counts the inputs of the member, from 1 on.  An input whose number is not
            above the last number counts as doubled.  ``None``: the input is not acknowledged.
        :param tick: the tick that the input is for; ``None`` for the next tick.
        :returns: False if the input is refused; ``counts`` counts the reasons.
        :raises ContextNotClient: if ``ctx`` is not a client.
        """
        if not isinstance(ctx, Client):
            raise ContextNotClient(f"context not client: {ctx!r}; give the member's ctx")
        if ctx not in self._hotline or not _are_whole(number, tick):
            why: str | None = "unfit"
        else:
            why = self._accept(ctx, _Waiting(number, -1 if tick is None else tick, value))
        if why is None:
            return True
        self._count(ctx, why)
        return False

    @property
    def counts(self) -> dict[str, int]:
        """The number of inputs so far, by their fate.

        ===========  ======================================================================
        ``taken``    a tick has taken the input
        ``late``     the input came after its tick had begun; it may be taken all the same
        ``early``    refused: more than ``buffer`` ticks ahead
        ``doubled``  refused: its number was not above the last one
        ``full``     refused: ``buffer`` inputs of the member were waiting
        ``unfit``    refused: not of the type, without a number, or from a client that is not in
        ===========  ======================================================================
        """
        with self._lock:
            return dict(self._counts)

    @property
    def acked(self) -> dict[IOContext, int]:
        """The number of the last input that a tick has taken, by member."""
        with self._lock:
            return {ctx: member.acked for ctx, member in self._members.items() if member.acked}

    # For the room.

    def take_message(self, ctx: Client[Any, Any], message: Mapping[str, Any]) -> None:
        """Take a ``hub:input`` of a member."""
        number, tick = message.get("n"), message.get("tick")
        why: str | None = "unfit"
        if type(number) is int and _are_whole(number, tick):
            try:
                value = self.convert(message.get("data", {}))
            except PayloadError:
                pass
            else:
                why = self._accept(ctx, _Waiting(number, -1 if tick is None else tick, value))
        if why is not None:
            self._count(ctx, why)
            if why != "doubled":
                self._note_refused(ctx, number if _are_whole(number) else 0, why)

    def forget(self, ctx: Client[Any, Any]) -> None:
        """Forget a member that has left.  If it comes back, it counts from 1.  Any thread."""
        with self._lock:
            self._members.pop(ctx, None)

    def begin(self, tick: Tick) -> list[tuple[IOContext, V]]:
        """Take the inputs of the tick that begins now; return them."""
        given: list[tuple[IOContext, V]] = []
        passed, index = 1 + tick.skipped, tick.index
        with self._lock:
            self._index = index
            for ctx, member in list(self._members.items()):
                if ctx not in self._hotline:  # the member left while it gave an input
                    del self._members[ctx]
                    continue
                member.quota = min(member.quota + passed, self._buffer)
                queue = member.queue
                most = member.quota if self._one else len(queue)
                while queue and most and queue[0].tick <= index:
                    number, _, value = queue.popleft()
                    most -= 1
                    member.quota -= 1
                    if number is not None:
                        member.acked = number
                    given.append((ctx, value))
                member.quota = max(member.quota, 0)
            self._counts["taken"] += len(given)
        self._given = given
        return given

    def give(self, given: Sequence[tuple[IOContext, V]]) -> None:
        """Use the inputs of a record for the present tick, in a replay."""
        self._given = given

    def tell(self) -> None:
        """Tell members which of their inputs were refused since the last tick."""
        if not self._some_refused:
            return
        with self._lock:
            self._some_refused = False
            refused = [(ctx, each.refused) for ctx, each in self._members.items() if each.refused]
            for member in self._members.values():
                member.refused = []
        for ctx, pairs in refused:
            fields = {"type": "hub:input", "room": self._hotline.name, "refused": pairs}
            ctx.write(json.dumps(fields, separators=(",", ":")))

    def acks(self, *, every: bool) -> dict[str, int]:
        """Return the numbers of the last inputs that ticks have taken, by the member's id as text.

        :param every: True for all members, False for members with a number that was not told yet.
        """
        found = {}
        with self._lock:
            for ctx, member in self._members.items():
                if member.acked and (every or member.told != member.acked):
                    member.told = member.acked
                    found[str(ctx.connection_id)] = member.acked
        return found

    def __repr__(self) -> str:
        return f"<Inputs of {self._hotline!r}, {self.counts}>"

    def _accept(self, ctx: Client[Any, Any], given: _Waiting) -> str | None:
        """Keep an input until its tick; return the reason if it is refused."""
        with self._lock:
            member = self._members.get(ctx)
            if member is None:
                member = self._members[ctx] = _Member()
            number, tick, _ = given
            if number is not None and number <= member.last:
                return "doubled"
            if tick > self._index + self._buffer:
                return "early"
            if 0 <= tick <= self._index:
                self._counts["late"] += 1
                if self._drops:
                    member.last = number or member.last
                    return "late"
            if len(member.queue) >= self._buffer:
                return "full"
            member.last = number or member.last
            member.queue.append(given)
            return None

    def _count(self, ctx: Client[Any, Any], why: str) -> None:
        """Count an input that was refused, and log it."""
        if why == "late":  # counted already
            return
        with self._lock:
            self._counts[why] += 1
        if why != "doubled":  # a client may send inputs again after a loss
            text = "%s: an input of %r was refused: %s"
            incidents, log = self._hotline._core.incidents, self._hotline._log
            incidents.log_limited(("inputs", why), logging.WARNING, text, log.name, ctx, _WHY[why])

    def _note_refused(self, ctx: Client[Any, Any], number: Any, why: str) -> None:
        """Note a refused input, so that the member is told after the next tick."""
        with self._lock:
            member = self._members.get(ctx)
            if member is None:
                member = self._members[ctx] = _Member()
            if len(member.refused) < self._buffer:
                member.refused.append((number, why))
                self._some_refused = True


_WHY = {
    "early": "it is for a tick too far ahead",
    "full": "too many wait for their ticks",
    "unfit": "it is not of the room's type, has no number, or its client is not in the room",
}


def _are_whole(*values: object) -> bool:
    return all(
        value is None or (type(value) is int and 0 <= value < MOST_NUMBER) for value in values
    )
