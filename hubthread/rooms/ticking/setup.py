"""How a room with a clock is made.

Layer: hub.  Threads: any; each callback says which thread runs it.
Source: the specification's ``HotlineFrameOption``, ``HotlineFrameRun``, ``MakeFrameRun``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hubthread.checks import check_number
from hubthread.errors import SettingError, UsageError
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.rooms.ticking.control import FrameControl
from hubthread.rooms.ticking.schedule import OVERRUN_POLICIES, Overrun, OverrunPolicy

__all__ = ["HotlineFrameOption"]

Obj = TypeVar("Obj")

MOST_HZ = 10_000
"""Ticks a second; a thread that wakes up takes some tens of microseconds."""


@dataclass(frozen=True)
class HotlineFrameOption(Generic[Obj]):
    """A room's state, its rate, and what is called when.

    One option may run on any number of hotlines, each with an object of its own.  All
    callbacks but ``new_obj`` get ``(frame, obj)`` and run on the room's tick thread, one
    at a time: ``obj`` needs no lock.
    """

    new_obj: Callable[[], Obj]
    """Makes the room's state, on the tick thread; what it raises ``run`` raises."""
    logic: Callable[[FrameControl[Obj], Obj], object] | None = None
    """A tick: ``frame.tick`` says which, how late, and how many were skipped before it."""
    hz: float = 0.0
    """Ticks a second; 0, and ``hz_basic`` too: no ticks, and the rest works."""
    hz_basic: float = 0.0
    """Seconds between ticks, the other way to say it."""
    on_start: Callable[[FrameControl[Obj], Obj], object] | None = None
    """Before the first tick, which comes one period later.  If it raises, the room closes."""
    on_close: Callable[[FrameControl[Obj], Obj], object] | None = None
    """The room's last callback, exactly once, whatever ended it.  It may still push."""
    control_size: int | None = None
    """How many closures may wait for the tick thread; ``None``: ``chan_queue_size``."""
    overrun: OverrunPolicy = "skip"
    """What happens to ticks that come due while the room is busy.  ``"skip"`` runs the last
    of them, ``"burst"`` up to ``catch_up`` of them, one after another, and both stay on the
    grid; ``"delay"`` runs one, and the next comes a period after it began."""
    catch_up: int = 5
    """How many missed ticks ``"burst"`` runs at the most."""
    on_overrun: Callable[[FrameControl[Obj], Obj, Overrun], object] | None = None
    """Called with ``(frame, obj, overrun)`` after a tick that took longer than a period."""
    max_overruns: int | None = None
    """So many ticks in a row that overran close the room; ``None``: it goes on."""
    close_on_error: bool = False
    """Whether ``logic`` that raises closes the room; else it is logged and ticks go on."""

    def __post_init__(self) -> None:
        for name in ("hz", "hz_basic"):
            rate: object = getattr(self, name)
            if rate != 0 or isinstance(rate, bool):  # 0: no ticks
                check_number(name, rate, 0)
        if self.hz > MOST_HZ:
            raise SettingError("hz", f"{MOST_HZ:,} ticks a second at the most, not {self.hz!r}")
        if 0 < self.hz_basic < 1 / MOST_HZ:
            raise SettingError("hz_basic", f"at least {1 / MOST_HZ:g} s, not {self.hz_basic!r}")
        if self.hz and self.hz_basic and not math.isclose(self.hz * self.hz_basic, 1.0):
            raise SettingError(
                "hz_basic",
                f"{self.hz_basic!r} s between ticks are {1 / self.hz_basic:g} a second, but hz is "
                f"{self.hz!r}: give one of the two",
            )
        if not callable(self.new_obj):
            raise SettingError("new_obj", f"a function that makes the state, not {self.new_obj!r}")
        for name in ("logic", "on_start", "on_close", "on_overrun"):
            value: object = getattr(self, name)
            if value is not None and not callable(value):
                raise SettingError(name, f"a function or None, not {value!r}")
        if self.period and self.logic is None:
            raise SettingError("logic", "a function, where hz or hz_basic is set")
        if self.overrun not in OVERRUN_POLICIES:
            raise SettingError("overrun", f"one of {OVERRUN_POLICIES}, not {self.overrun!r}")
        if not isinstance(self.close_on_error, bool):
            raise SettingError("close_on_error", f"True or False, not {self.close_on_error!r}")
        check_number("catch_up", self.catch_up, 1, whole=True)
        check_number("control_size", self.control_size, 1, whole=True, optional=True)
        check_number("max_overruns", self.max_overruns, 1, whole=True, optional=True)

    @property
    def period(self) -> float:
        """Seconds between ticks; 0: there are none."""
        return 1 / self.hz if self.hz else float(self.hz_basic)

    def run(self, hotline: Hotline[Any, Any]) -> FrameControl[Obj]:
        """Give ``hotline`` a clock; returns when ``new_obj`` has made its state.

        :raises UsageError: when it has one, since a room runs one option, once; and for a
            silent hotline, which has no room.
        :raises HotlineClosed: when it is closed.
        :raises RuntimeError: when the system gives no thread.
        """
        given: object = hotline
        if not isinstance(given, Hotline) or isinstance(given, SilentHotline):
            raise UsageError(f"a clock is for what hub.hotline() makes, not for {given!r}")
        return FrameControl(hotline, self)
