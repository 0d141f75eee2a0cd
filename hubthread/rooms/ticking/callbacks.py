"""The user's functions of a ticking room: their calls, and the handling of their exceptions.

Layer: rooms.ticking.  Threads: the tick thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from hubthread.checks import refuse_unrun
from hubthread.concurrency.incidents import Incidents
from hubthread.rooms.ticking.schedule import Overrun
from hubthread.rooms.ticking.setup import TickSetup

__all__ = ["TickCallbacks"]

Control = TypeVar("Control")
Obj = TypeVar("Obj")


class TickCallbacks(Generic[Control, Obj]):
    """The functions of one room, with the two arguments that they get.

    :param frame: the first argument of each function.
    :param obj: the second.
    :param close: is called with a reason when the room cannot go on.
    :param name: the name of the tick loop, for the log.
    """

    def __init__(
        self,
        setup: TickSetup[Control, Obj],
        frame: Control,
        obj: Obj,
        close: Callable[[str], object],
        name: str,
        incidents: Incidents,
    ) -> None:
        self._setup = setup
        self.frame = frame
        self.obj = obj
        self._close = close
        self._name = name
        self._incidents = incidents
        self.noted: Callable[[str, BaseException], object] | None = None
        """Called with each exception that is logged."""

    def on_start(self) -> None:
        """Run ``on_start``; if it raises, close the room."""
        on_start = self._setup.on_start
        if on_start is not None and not self.call("on_start", on_start):
            self._close("on_start raised")

    def logic(self) -> bool:
        """Run ``logic``; return False if it raised."""
        logic = self._setup.logic
        assert logic is not None
        try:
            result = logic(self.frame, self.obj)
            if result is not None:
                refuse_unrun(result)
        except BaseException as error:  # noqa: BLE001 - goes into the log
            self.report("logic", error)
            if self._setup.close_on_error:
                self._close(f"logic raised {type(error).__name__}")
            return False
        return True

    def on_overrun(self, overrun: Overrun) -> None:
        """Run ``on_overrun``; close the room after ``max_overruns`` in a row."""
        setup = self._setup
        if setup.on_overrun is not None:
            self.call("on_overrun", setup.on_overrun, overrun)
        if setup.max_overruns is not None and overrun.in_a_row >= setup.max_overruns:
            dt = overrun.tick.dt
            self._close(f"{overrun.in_a_row} ticks in a row took longer than {dt:g} s")

    def on_close(self) -> None:
        """Run ``on_close``."""
        if self._setup.on_close is not None:
            self.call("on_close", self._setup.on_close)

    def call(self, what: str, function: Callable[..., object], *more: object) -> bool:
        """Call ``function(frame, obj, …)``; log its exception, and return False then.

        :param what: names the function in the log.
        """
        try:
            result = function(self.frame, self.obj, *more)
            if result is not None:
                refuse_unrun(result)
        except BaseException as error:  # noqa: BLE001 - goes into the log
            self.report(what, error)
            return False
        return True

    def report(self, what: str, error: BaseException) -> None:
        """Log that ``what`` raised ``error``."""
        if self.noted is not None:
            self.noted(what, error)
        self._incidents.log_exception(error, "%s: %s raised", self._name, what)
