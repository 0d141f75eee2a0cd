"""The settings of a ticking room, and their checks.

Layer: rooms.ticking.  Threads: any; each callback says which thread runs it.
Source: the specification's ``HotlineFrameOption``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from hubthread.checks import check_callable, check_choice, check_function, check_kind, check_number
from hubthread.errors import SettingError, SettingTypeError
from hubthread.rooms.state_sync import StateSync, type_of_state
from hubthread.rooms.ticking.schedule import OVERRUN_POLICIES, Overrun, OverrunPolicy
from hubthread.state.plan import Node, plan_of

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext

__all__ = ["TickSetup"]

Control = TypeVar("Control")
"""The first argument of the callbacks: ``FrameControl``, which imports this module."""
Obj = TypeVar("Obj")

MOST_HZ = 10_000
"""Ticks a second.  Waking a thread takes some tens of microseconds."""


@dataclass(frozen=True)
class TickSetup(Generic[Control, Obj]):
    """The fields of ``HotlineFrameOption``."""

    new_obj: Callable[[], Obj]
    """Makes the room's state, on the tick thread.  What it raises comes out of ``run``."""
    logic: Callable[[Control, Obj], object] | None = None
    """One tick.  ``frame.tick`` has its number, its lateness and the ticks skipped before it."""
    hz: float = 0.0
    """Ticks a second.  If it and ``hz_basic`` are 0 there are no ticks; all else works."""
    hz_basic: float = 0.0
    """Seconds between ticks, instead of ``hz``."""
    on_start: Callable[[Control, Obj], object] | None = None
    """Runs before the first tick, which comes one period later (up to 50 ms after that, so that
    rooms which share threads do not all tick together).  If it raises, the room closes."""
    on_close: Callable[[Control, Obj], object] | None = None
    """The room's last callback but ``on_leave`` and ``on_empty`` of the members that are in: runs
    exactly once, whatever ended the room.  It may still push.

    When the hub closes, it runs before the members are told 1001.  Closures that their close
    callbacks submit run after it.
    """
    control_size: int | None = None
    """Number of closures that may wait for the tick thread; ``None``: ``chan_queue_size``."""
    overrun: OverrunPolicy = "skip"
    """The policy for ticks that come due while the room is busy.  ``"skip"`` runs the last of
    these ticks.  ``"burst"`` runs up to ``catch_up`` of them, one after another.  Both stay on
    the grid.  ``"delay"`` runs one tick, and the next comes a period after it began."""
    catch_up: int = 5
    """Number of missed ticks that ``"burst"`` runs at the most."""
    on_overrun: Callable[[Control, Obj, Overrun], object] | None = None
    """Called with ``(frame, obj, overrun)`` after a tick that took longer than a period."""
    max_overruns: int | None = None
    """Number of overruns in a row that close the room; ``None``: the room goes on."""
    close_on_error: bool = False
    """True: the room closes if ``logic`` raises.  False: the error is logged and ticks go on."""
    own_thread: bool = False
    """True: the room has a thread of its own, which runs all its callbacks.  False: rooms share
    tick threads, and successive callbacks of a room may run on different ones."""
    on_join: Callable[[Control, Obj, IOContext], object] | None = None
    """Called with ``(frame, obj, ctx)`` after a client has joined.

    Clients that were in the room before it got its clock are told after ``on_start``.  The hooks
    hear each join and each leave once, in the order in which they happened.  They keep their place
    among the closures of ``exec_async``, and ``control_size`` does not refuse them.
    """
    on_leave: Callable[[Control, Obj, IOContext], object] | None = None
    """Called with ``(frame, obj, ctx)`` after a client has left.

    When the room closes, it runs after ``on_close`` for each member that was in.  It may still
    push then, but the push reaches no one.
    """
    on_empty: Callable[[Control, Obj], object] | None = None
    """Called with ``(frame, obj)`` after the last member has left.

    Another client may have joined meanwhile: ``frame.close_if_empty()`` closes the room only if it
    is still empty.
    """
    close_when_empty: float | None = None
    """Seconds of the hub's clock without a member after which the room closes; ``None``: never.

    The time counts from the last leave, and for a new room from its begin.
    """
    pause_when_empty: float | None = None
    """Seconds of the hub's clock without a member after which the room's clock stands still, as
    after ``pause``; ``None``: never, 0: at once.  It goes on with the next member.

    The time counts from the last leave, and for a new room from its begin.
    """

    sync: StateSync | None = None
    """Sends the state and its changes to the members.  ``None``: the program does that."""
    record: str | os.PathLike[str] | None = None
    """The file of the flight recorder: joins, inputs, closures, ticks and the hash of the state,
    as lines of JSON.  ``hubthread.testing.replay`` plays it.  The file is written anew when the
    room begins, and takes 64 MB at most; several rooms need paths of their own."""
    _plan: Node | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        for name in ("hz", "hz_basic"):
            rate: object = getattr(self, name)
            if rate != 0 or isinstance(rate, bool):  # 0: no ticks
                check_number(name, rate, 0)
        if self.hz > MOST_HZ:
            raise SettingError(
                "hz", f"expected at most {MOST_HZ:,} ticks a second, got {self.hz!r}"
            )
        if 0 < self.hz_basic < 1 / MOST_HZ:
            raise SettingError(
                "hz_basic", f"expected at least {1 / MOST_HZ:g} s, got {self.hz_basic!r}"
            )
        if self.hz and self.hz_basic and not math.isclose(self.hz * self.hz_basic, 1.0):
            raise SettingError(
                "hz_basic",
                f"{self.hz_basic!r} s between ticks are {1 / self.hz_basic:g} a second, but hz is "
                f"{self.hz!r}: give one of the two",
            )
        check_callable("new_obj", self.new_obj)
        for name in ("logic", "on_start", "on_close"):
            check_function(name, getattr(self, name), "frame", "obj")
        check_function("on_overrun", self.on_overrun, "frame", "obj", "overrun")
        check_function("on_join", self.on_join, "frame", "obj", "ctx")
        check_function("on_leave", self.on_leave, "frame", "obj", "ctx")
        check_function("on_empty", self.on_empty, "frame", "obj")
        check_number("close_when_empty", self.close_when_empty, 0, optional=True)
        pause = self.pause_when_empty
        if pause != 0 or isinstance(pause, bool):  # 0: at once
            check_number("pause_when_empty", pause, 0, optional=True)
        if self.period and self.logic is None:
            raise SettingTypeError("logic", "expected a function, since hz or hz_basic is set")
        check_choice("overrun", self.overrun, OVERRUN_POLICIES)
        check_kind("close_on_error", self.close_on_error, bool, "True or False")
        check_kind("own_thread", self.own_thread, bool, "True or False")
        check_number("catch_up", self.catch_up, 1, whole=True)
        check_number("control_size", self.control_size, 1, whole=True, optional=True)
        check_number("max_overruns", self.max_overruns, 1, whole=True, optional=True)
        if self.sync is not None:
            check_kind("sync", self.sync, StateSync, "a StateSync or None")
        if self.record is not None:
            check_kind("record", self.record, str | os.PathLike, "a path or None")
        if self.sync is not None or self.record is not None:
            given = None if self.sync is None else self.sync.type
            plan = plan_of(type_of_state(given, self.new_obj))
            if self.sync is not None:
                self.sync.check(plan)
            object.__setattr__(self, "_plan", plan)

    @property
    def _watches(self) -> bool:
        """True if something in the room must hear of joins and leaves."""
        fields = (
            self.on_join,
            self.on_leave,
            self.on_empty,
            self.close_when_empty,
            self.pause_when_empty,
            self.sync,
            self.record,
        )
        return any(field is not None for field in fields)

    @property
    def period(self) -> float:
        """Seconds between ticks; 0: there are none."""
        return 1 / self.hz if self.hz else float(self.hz_basic)
