"""A gate of a ticking room, which collects one input, or a default, of each of some members.

Layer: rooms.ticking.  Threads: any thread may call the methods.  ``on_done`` runs on the tick
thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_function, check_number, check_timeout
from hubthread.clients.client import Client
from hubthread.concurrency.calls import wait_for
from hubthread.errors import ContextNotClient, ExecTimeout, HotlineClosed, WrongType
from hubthread.rooms.ticking.loop import TickLoop

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext

__all__ = ["BaseInputGate", "Input", "InputState"]

Control = TypeVar("Control")
Obj = TypeVar("Obj")
V = TypeVar("V")


class InputState(Enum):
    """The origin of an input."""

    ANSWERED = "answered"
    """The member gave it in time."""
    DEFAULTED = "defaulted"
    """The member was in the room and gave none in time."""
    AWAY = "away"
    """The member's connection was lost, and it was not back in time (``HubSetting.sessions``)."""
    LEFT = "left"
    """The member left the room before it gave one, or was not in it."""


@dataclass(frozen=True)
class Input(Generic[V]):
    """The input of one member; its value is the default unless the member ``ANSWERED``."""

    state: InputState
    value: V


def _asked(members: Any) -> list[IOContext]:
    """Return the members as a list.

    :raises WrongType: for one object instead of several.
    :raises ContextNotClient: for an object that is not a client.
    """
    try:
        asked = list(members)
    except TypeError:
        instead = "[ctx]" if isinstance(members, Client) else "room.members"
        raise WrongType(
            f"members: expected a list of clients, got {members!r}; give {instead}"
        ) from None
    for each in asked:
        if not isinstance(each, Client):
            raise ContextNotClient(f"context not client: {each!r}; give members of the room")
    return asked


class BaseInputGate(Generic[Control, Obj, V]):
    """The methods of ``InputGate``."""

    def __init__(
        self,
        frame: Control,
        loop: TickLoop[Control, Obj],
        members: Iterable[IOContext],
        timeout: float,
        default: V,
        on_done: Callable[[Control, Obj, Any], object] | None,
    ) -> None:
        check_number("timeout", timeout, 0)
        check_function("on_done", on_done, "frame", "obj", "gate")
        asked = _asked(members)
        self.frame = frame
        """The room."""
        self._loop = loop
        self._timeout = timeout
        self._deadline = 0.0
        self.due = 0.0
        self._default = default
        self._on_done = on_done
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._waiting: dict[IOContext, None] = dict.fromkeys(asked)
        self._inputs: dict[IOContext, Input[V]] = {}
        self._complete = False
        self._closed = False
        loop.add(self)
        # From here on ``left`` is called for each member that leaves.  Members that left
        # earlier are settled here.
        for member in self.waiting:
            if not loop.has_member(member):
                self._settle(member, InputState.LEFT, default)
        if not asked:
            self._end_if_all()

    def answer(self, ctx: IOContext, value: V) -> bool:
        """Give the input of a member.  The first answer of a member counts.

        :returns: False if the gate does not wait for the input: the wait is over, the member
            has answered already or was never asked, or the room is closing and ``on_done``
            does not run any more.
        :raises ContextNotClient: if ``ctx`` is not a client.
        """
        if not isinstance(ctx, Client):
            raise ContextNotClient(f"context not client: {ctx!r}; give the member's ctx")
        if self._loop.agenda.ending:
            return False
        recorder = self._loop.recorder
        note = None if recorder is None else recorder.answer(self, ctx, value)
        return self._settle(ctx, InputState.ANSWERED, value, note)

    def done(self) -> bool:
        """End the wait; members that have not answered get the default.

        :returns: False if the wait is over already, or the room is closing.
        """
        try:
            if not self._loop.agenda.cancel(self):
                return False
            if self._loop.recorder is not None:
                self._loop.recorder.done(self)
            return self._post_end()
        except BaseException:
            self._rescue()
            raise

    @property
    def remaining(self) -> float:
        """Seconds left, on the room's clock; 0 when it is over."""
        return self._loop.agenda.remaining(self, self._deadline)

    @property
    def waiting(self) -> list[IOContext]:
        """The members that have not answered yet, in the order of asking."""
        with self._lock:
            return list(self._waiting)

    @property
    def inputs(self) -> dict[IOContext, Input[V]]:
        """The inputs so far, by member; complete in ``on_done`` and after ``wait``."""
        with self._lock:
            return dict(self._inputs)

    @property
    def is_complete(self) -> bool:
        """True if it has ended with an input for each member, from just before ``on_done`` on."""
        return self._complete

    def wait(self, timeout: float | None = None) -> dict[IOContext, Input[V]]:
        """Wait until it is complete, and return the inputs.

        Do not call it in a callback of a member that is asked: the member's messages, its
        answer among them, wait for that callback.

        :param timeout: seconds of real time, also while the room is paused.
        :raises WrongThread: on the hub thread and in the room's own callbacks.
        :raises HotlineClosed: when the room closes first.
        :raises ExecTimeout: when ``timeout`` passes first.
        """
        check_timeout(timeout)
        self._loop.refuse_here("gate.wait", "use on_done")
        over = wait_for(self._changed, lambda: self._complete or self._closed, timeout)
        with self._lock:
            if not over:
                raise ExecTimeout(
                    f"{len(self._waiting)} inputs were still missing after {timeout} s"
                )
            if not self._complete:
                raise HotlineClosed(f"{self._loop.room_name} closed before all inputs had arrived")
            return dict(self._inputs)

    def __repr__(self) -> str:
        with self._lock:
            state = "closed" if self._closed else "complete" if self._complete else "open"
            return f"<InputGate {state}, {len(self._inputs)} there, {len(self._waiting)} missing>"

    def _settle(
        self,
        member: IOContext,
        state: InputState,
        value: V,
        note: Callable[[], object] | None = None,
    ) -> bool:
        """Take the input of ``member``, if it is waited for."""
        try:
            with self._lock:
                if member not in self._waiting:
                    return False
                if note is not None:
                    note()
                self._inputs[member] = Input(state, value)
                del self._waiting[member]
            return self._end_if_all()
        except BaseException:
            self._rescue()
            raise

    def _rescue(self) -> None:
        """End the gate after an interrupt that has perhaps kept it from its end."""
        agenda = self._loop.agenda
        if not self._waiting:
            agenda.cancel(self)
        if not (self._complete or self._closed or agenda.is_pending(self)):
            self._post_end()

    def _end_if_all(self) -> bool:
        """End it, if no input is missing; return False if the room has begun to close first."""
        if not self._waiting and self._loop.agenda.cancel(self):
            return self._post_end()
        return True

    def _post_end(self) -> bool:
        """Fill the missing inputs, and post ``_end``; after the countdown is cancelled.

        Return False if the room is closing; the gate then ends without ``on_done``.
        """
        self._give_defaults()
        try:
            self._loop.post(self._end, essential=True)
        except HotlineClosed:
            self.closed()
            return False
        return True

    def _give_defaults(self) -> None:
        with self._lock:
            for member in self._waiting:
                state = InputState.AWAY if member.is_away else InputState.DEFAULTED
                self._inputs[member] = Input(state, self._default)
            self._waiting.clear()

    def _end(self) -> None:
        """Wake the threads in ``wait``, and call ``on_done``.  On the tick thread."""
        with self._lock:
            if self._complete:
                return  # posted once more after an interrupt
            self._complete = True
            self._changed.notify_all()
        on_done = self._on_done
        if on_done is not None:
            self._loop.call("on_done", lambda frame, obj: on_done(frame, obj, self))

    # For the agenda.

    def begin(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        self.due = self._deadline = now + self._timeout

    def is_over(self, now: float) -> bool:
        """See ``agenda.Countdown``."""
        return True

    def fire(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        if self._loop.agenda.cancel(self):
            self._give_defaults()
            self._end()

    def closed(self) -> None:
        """See ``agenda.Countdown``."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def left(self, member: Client[Any, Any]) -> None:
        """See ``agenda.Countdown``."""
        self._settle(member, InputState.LEFT, self._default)
