"""What a room with a clock calls of the user's, and what becomes of what that raises.

Layer: hub.  Threads: the tick thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from hubthread.concurrency.incidents import Incidents
from hubthread.rooms.ticking.schedule import Overrun, Tick

if TYPE_CHECKING:
    from hubthread.rooms.ticking.control import FrameControl
    from hubthread.rooms.ticking.setup import HotlineFrameOption

__all__ = ["TickCallbacks"]

Obj = TypeVar("Obj")


class TickCallbacks(Generic[Obj]):
    """The functions of one option, with the frame and the object that they get.

    :param close: called with a reason when the room cannot go on.
    """

    def __init__(
        self,
        option: HotlineFrameOption[Obj],
        frame: FrameControl[Obj],
        obj: Obj,
        close: Callable[[str], object],
        name: str,
        incidents: Incidents,
    ) -> None:
        self._option = option
        self.frame = frame
        self.obj = obj
        self._close = close
        self._name = name
        self._incidents = incidents
        self._overran = 0  # in a row
        self.raised = False
        """Whether the last tick did."""

    def start(self) -> None:
        """The first callback: a room that cannot begin is closed."""
        if self._option.on_start is not None and not self.call("on_start", self._option.on_start):
            self._close("on_start raised")

    def logic(self) -> None:
        """A tick."""
        logic = self._option.logic
        assert logic is not None
        try:
            logic(self.frame, self.obj)
        except BaseException as error:  # noqa: BLE001 - told to the log
            self.raised = True
            self.report("logic", error)
            if self._option.close_on_error:
                self._close(f"logic raised {type(error).__name__}")
        else:
            self.raised = False

    def ticked(self, tick: Tick, work: float) -> Callable[[], None] | None:
        """A tick took ``work`` seconds; what is to be called for that, if it is too much."""
        if work <= tick.dt:
            self._overran = 0
            return None
        self._overran += 1
        return lambda: self._overrun(Overrun(tick, work, self._overran))

    def _overrun(self, overrun: Overrun) -> None:
        option = self._option
        if option.on_overrun is not None:
            self.call("on_overrun", option.on_overrun, overrun)
        if option.max_overruns is not None and overrun.in_a_row >= option.max_overruns:
            dt = overrun.tick.dt
            self._close(f"{overrun.in_a_row} ticks in a row took longer than {dt:g} s")

    def end(self) -> None:
        """The last callback."""
        if self._option.on_close is not None:
            self.call("on_close", self._option.on_close)

    def call(self, what: str, function: Callable[..., object], *more: object) -> bool:
        """Call ``function(frame, obj, …)``; whether it came to its end."""
        try:
            function(self.frame, self.obj, *more)
        except BaseException as error:  # noqa: BLE001 - told to the log
            self.report(what, error)
            return False
        return True

    def report(self, what: str, error: BaseException) -> None:
        """Tell the log that something of the user's raised."""
        self._incidents.log_exception(error, "%s: %s raised", self._name, what)
