"""A state for the members of a room without a clock.  Each change is sent as a patch.

Layer: rooms.  Threads: any thread may call the methods; the hub thread owns the state, and runs
the functions that change it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hubthread.checks import check_timeout, check_work, checked
from hubthread.errors import UsageError, WrongType
from hubthread.interfaces import IHotline
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.rooms.state_sync import StateSender
from hubthread.state.plan import plan_of

__all__ = ["SharedState"]

Obj = TypeVar("Obj")
T = TypeVar("T")


class SharedState(Generic[Obj]):
    """A state that every member of a hotline gets: the whole state at the join, then its changes.

    ::

        board = SharedState(hub.room("board"), Board())
        board.exec_async(lambda board: board.notes.append("milk"))

    The hub thread runs the functions one at a time, so the state needs no lock.  The changes of
    functions that wait together are sent as one patch.  The messages are those of ``StateSync``.

    :param hotline: a room of this hub alone, without a clock.
    :param obj: the state, as for ``StateSync``.  From now on only functions given to this object
        may change the state.
    :param type: the type of the state, whose annotations are the plan.  ``None``: the class of
        ``obj``.
    :raises SettingTypeError: for a type that has no plan, with the path of the field.
    :raises UsageError: if the room is shared with other hubs, has a clock, or has a state already.
    :raises HotlineClosed: if the room is closed.
    """

    def __init__(
        self,
        hotline: IHotline,
        obj: Obj,
        *,
        type: Any = None,  # noqa: A002 - as of StateSync
    ) -> None:
        if not isinstance(hotline, Hotline) or isinstance(hotline, SilentHotline):
            raise WrongType(f"expected a hotline made by hub.hotline(), got {hotline!r}")
        if hotline._option.shared:
            raise UsageError(
                "SharedState: the members in other hubs would not have the state: make the room "
                "without shared=True"
            )
        plan = plan_of(obj.__class__ if type is None else type)
        self._hotline = hotline
        self._obj = obj
        self._sender = StateSender(hotline, obj, plan, self._push)
        self._waits = False  # a patch will follow the waiting functions; only the hub thread
        hotline._send_state(self._sender)

    def exec_async(self, work: Callable[[Obj], object]) -> None:
        """Run ``work(obj)`` on the hub thread, and send its changes; return at once.

        If ``work`` raises, the exception is logged.

        :raises HubClosed, QueueFull: as ``hub.exec_async``.
        """
        check_work(work, ("obj",))
        self._hotline._core.loop.exec_async(lambda _: self._run_logged(work))

    def exec_sync(self, work: Callable[[Obj], T], timeout: float | None = None) -> T:
        """Run ``work(obj)`` on the hub thread; return its result or raise its exception.

        Use it to read the state, too.

        :param timeout: seconds.
        :raises HubClosed, QueueFull, WrongThread, ExecTimeout: as ``hub.exec_sync``.
        """
        check_work(work, ("obj",))
        check_timeout(timeout)
        return self._hotline._core.loop.exec_sync(lambda _: self._run(work), timeout)

    def __repr__(self) -> str:
        return f"<SharedState of {self._hotline!r}>"

    # The hub thread.

    def _run(self, work: Callable[[Obj], T]) -> T:
        try:
            return work(self._obj)
        finally:
            if not self._waits:
                self._waits = True
                self._hotline._core.loop.exec_async(lambda _: self._step(), essential=True)

    def _run_logged(self, work: Callable[[Obj], object]) -> None:
        try:
            checked(self._run(work))
        except KeyboardInterrupt:
            raise  # meant for the program
        except BaseException as error:  # noqa: BLE001 - logged
            incidents = self._hotline._core.incidents
            incidents.log_exception(
                error, "%s: a change of its state raised", self._hotline._log.name
            )

    def _step(self) -> None:
        self._waits = False
        if not self._hotline.is_closed:
            self._sender.step()

    def _push(self, text: str, *, exclude: Any) -> None:
        """Push a patch, and send it before later writes to the members."""
        self._hotline.push(text, exclude=exclude)
        self._hotline._log.flush()
