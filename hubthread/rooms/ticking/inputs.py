"""A room that waits for one input of each of some members: who answered, who did not, who left.

Layer: hub.  Threads: methods from any; ``on_done`` on the room's tick thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hubthread.checks import check_number
from hubthread.clients.client import Client
from hubthread.concurrency.calls import wait_for
from hubthread.errors import (
    ContextNotClient,
    ExecTimeout,
    HotlineClosed,
    SettingError,
    WrongThread,
)
from hubthread.rooms.ticking.loop import TickLoop

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext
    from hubthread.rooms.ticking.control import FrameControl

__all__ = ["Input", "InputGate", "InputState"]

Obj = TypeVar("Obj")
V = TypeVar("V")


class InputState(Enum):
    """Where an input comes from."""

    ANSWERED = "answered"
    """The member gave it in time."""
    DEFAULTED = "defaulted"
    """The member was there and gave none in time."""
    LEFT = "left"
    """The member left the room before it gave one, or was not in it."""


@dataclass(frozen=True)
class Input(Generic[V]):
    """The input of one member; its value is the default unless it ``ANSWERED``."""

    state: InputState
    value: V


class InputGate(Generic[Obj, V]):
    """One input of each of some members, or its default.  Made by ``frame.await_inputs``.

    It is complete when each has answered or left, when time is up, or when ``done`` is
    called; then ``on_done(frame, obj, gate)`` runs, once.  If the room closes before that,
    it does not.
    """

    def __init__(
        self,
        frame: FrameControl[Obj],
        loop: TickLoop[Obj],
        members: Iterable[IOContext],
        timeout: float,
        default: V,
        on_done: Callable[[FrameControl[Obj], Obj, InputGate[Obj, V]], object] | None,
    ) -> None:
        check_number("timeout", timeout, 0)
        if on_done is not None and not callable(on_done):
            raise SettingError("on_done", f"a function or None, not {on_done!r}")
        asked: list[object] = list(members)
        for each in asked:
            if not isinstance(each, Client):
                raise ContextNotClient(f"context not client: {each!r}; give members of the room")
        self.frame = frame
        """The room."""
        self._loop = loop
        self._timeout = timeout
        self._deadline = 0.0
        self.due = 0.0
        self._default = default
        self._on_done = on_done
        self._lock = threading.Lock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._waiting: dict[IOContext, None] = dict.fromkeys(asked)  # type: ignore[arg-type]
        self._inputs: dict[IOContext, Input[V]] = {}
        self._complete = False
        self._closed = False
        loop.agenda.add(self)
        # From here on it hears who leaves; who has left before it does not.
        for member in self.waiting:
            if member not in frame:
                self._settle(member, InputState.LEFT, default)
        if not asked:
            self._end_if_all()
        loop.wake()

    def answer(self, ctx: IOContext, value: V) -> bool:
        """A member's input; the first one counts.

        :returns: false when it is not waited for: too late, given before, or never asked; or
            the room is closing, and ``on_done`` does not run any more.
        """
        return not self._loop.agenda.ending and self._settle(ctx, InputState.ANSWERED, value)

    def done(self) -> bool:
        """Wait no longer: who has not answered gets the default.

        :returns: false when it is over, or the room is closing.
        """
        return self._loop.agenda.drop(self) and self._post_end()

    @property
    def remaining(self) -> float:
        """Seconds that are left, of the room's clock; 0 when it is over."""
        agenda = self._loop.agenda
        return max(0.0, self._deadline - agenda.time()) if agenda.stands(self) else 0.0

    @property
    def waiting(self) -> list[IOContext]:
        """Who has not answered yet, in the order of asking."""
        with self._lock:
            return list(self._waiting)

    @property
    def inputs(self) -> dict[IOContext, Input[V]]:
        """What is there so far, by member; complete in ``on_done`` and after ``wait``."""
        with self._lock:
            return dict(self._inputs)

    @property
    def is_complete(self) -> bool:
        """Whether it has ended with an input for each member: from just before ``on_done`` on."""
        return self._complete

    def wait(self, timeout: float | None = None) -> dict[IOContext, Input[V]]:
        """Wait until it is complete, and return the inputs.

        Not in a callback of a member who is to answer: that one's messages wait for it.

        :param timeout: seconds of the wall clock.
        :raises WrongThread: on the hub thread and in the room's own callbacks.
        :raises HotlineClosed: when the room closes first.
        :raises ExecTimeout: when ``timeout`` passes first.
        """
        self.frame._core.loop.refuse_here("gate.wait")
        if self._loop.is_here():
            raise WrongThread("gate.wait would wait for itself here: use on_done")
        over = wait_for(self._changed, lambda: self._complete or self._closed, timeout)
        with self._lock:
            if not over:
                raise ExecTimeout(f"{len(self._waiting)} inputs were not there in {timeout} s")
            if not self._complete:
                raise HotlineClosed(f"{self.frame._log.name} closed before all inputs were there")
            return dict(self._inputs)

    def __repr__(self) -> str:
        with self._lock:
            state = "closed" if self._closed else "complete" if self._complete else "open"
            return f"<InputGate {state}, {len(self._inputs)} there, {len(self._waiting)} not>"

    def _settle(self, member: IOContext, state: InputState, value: V) -> bool:
        with self._lock:
            if member not in self._waiting:
                return False
            del self._waiting[member]
            self._inputs[member] = Input(state, value)
        return self._end_if_all()

    def _end_if_all(self) -> bool:
        """End it, if nobody is waited for; false where the room has begun to close first."""
        if not self._waiting and self._loop.agenda.drop(self):
            return self._post_end()
        return True

    def _post_end(self) -> bool:
        """It has been dropped from the agenda, by us: so this happens once.

        False where the room is closing: then it ends without ``on_done``.
        """
        self._give_defaults()
        try:
            self._loop.agenda.post(self._end, essential=True)
        except HotlineClosed:
            self.closed()
            return False
        self._loop.wake()
        return True

    def _give_defaults(self) -> None:
        with self._lock:
            for member in self._waiting:
                self._inputs[member] = Input(InputState.DEFAULTED, self._default)
            self._waiting.clear()

    def _end(self) -> None:
        """On the tick thread."""
        with self._lock:
            self._complete = True
            self._changed.notify_all()
        on_done = self._on_done
        if on_done is not None:
            self._loop.call("on_done", lambda frame, obj: on_done(frame, obj, self))

    # As a countdown of the agenda.

    def begin(self, now: float) -> None:
        """See ``Countdown``."""
        self.due = self._deadline = now + self._timeout

    def ring(self, now: float) -> None:
        """See ``Countdown``."""
        if self._loop.agenda.drop(self):
            self._give_defaults()
            self._end()

    def closed(self) -> None:
        """See ``Countdown``."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()

    def left(self, member: Client[Any, Any]) -> None:
        """See ``Countdown``."""
        self._settle(member, InputState.LEFT, self._default)
