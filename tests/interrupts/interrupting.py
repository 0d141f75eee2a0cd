"""A hub to interrupt, its public calls, and the tools that interrupt them at every place."""

from __future__ import annotations

import contextlib
import dis
import functools
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, Literal

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    HubThreadError,
    LongPollingOption,
    WebsocketPeriod,
)
from hubthread.concurrency.context import _forget
from tests.support import TIMEOUT, RawPeer, Serving, serving

Event = Literal["call", "line"]

MOST = 2_000
"""No call has as many lines: a loop that goes on for ever would be seen."""


class Strike(BaseException):
    """The exception that strikes."""


def at_each(
    call: Callable[[], object], event: Event, act: Callable[[FrameType], None]
) -> Callable[[int], bool]:
    """Return a function that runs ``call`` and calls ``act`` at its n-th event.

    That function returns False if ``call`` had fewer events.
    """

    def run(number: int) -> bool:
        seen = itertools.count()
        begun = acted = False

        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            nonlocal begun, acted
            if not begun:  # the function of the test itself
                begun = True
                return None
            if kind == event and not unstrikable(frame) and next(seen) == number:
                sys.settrace(None)
                acted = True
                act(frame)
            return trace

        sys.settrace(trace)
        try:
            with contextlib.suppress(HubThreadError, RuntimeError):
                call()
        except Strike:
            pass
        finally:
            sys.settrace(None)
        return acted

    return run


def unstrikable(frame: FrameType) -> bool:
    """Return True if it is of no use to strike here.

    What a weak reference's callback raises is printed, and goes no further.  The ``start`` of
    a thread leaves the thread in a table of the standard library.
    """
    if frame.f_code is threading.Thread.start.__code__:
        return True
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code is _forget.__code__:
            return True
        caller = caller.f_back
    return ends_with(frame)


def ends_with(frame: FrameType) -> bool:
    """Return True if a ``with`` statement is about to call ``__exit__``.

    The interpreter reports the line of the statement once more then, but it looks at no signal
    between the block and ``__exit__``.
    """
    starts = _with_starts(frame.f_code)
    start = starts.get(frame.f_lineno)
    return start is not None and frame.f_lasti > start


@functools.cache
def _with_starts(code: CodeType) -> dict[int, int]:
    """Return where each ``with`` statement of ``code`` has called ``__enter__``, by line."""
    starts: dict[int, int] = {}
    line = 0
    for instruction in dis.get_instructions(code):
        # From Python 3.13 on ``starts_line`` is True or False.
        line = getattr(instruction, "line_number", instruction.starts_line) or line
        if instruction.opname in ("BEFORE_WITH", "SETUP_WITH"):
            starts.setdefault(line, instruction.offset)
    return starts


def strike(frame: FrameType) -> None:
    """Raise ``Strike``; the frame is named, for who reads the failure."""
    raise Strike(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")


class House:
    """A hub with a room, a room with a clock and two clients, and the check that all is well."""

    def __init__(self, s: Serving) -> None:
        self.s = s
        self.hub = s.hub
        self.room = s.hub.hotline()
        self.game: FrameControl[list[object]] = HotlineFrameOption[list[object]](list).run(
            s.hub.hotline()
        )
        self.heard: dict[str, list[str]] = {"watched": [], "arena": []}
        watched, arena = self.heard.values()
        self.watched = s.hub.hotline(
            HotlineOption(
                on_join=lambda room, ctx: watched.append("join"),
                on_leave=lambda room, ctx: watched.append("leave"),
            )
        )
        self.arena = HotlineFrameOption[list[object]](
            list,
            on_join=lambda frame, obj, ctx: arena.append("join"),
            on_leave=lambda frame, obj, ctx: arena.append("leave"),
        ).run(s.hub.hotline())
        self.peer, self.client = s.pair()
        self.witness, self.other = s.pair()
        for ctx in (self.client, self.other):
            self.room.answer(ctx)
            self.game.answer(ctx)
        self._number = itertools.count(1)

    def check(self) -> None:
        """Push, run closures and write, on this thread and on another: each has its effect."""
        for run in (_here, _elsewhere):
            run(self._check)

    def _check(self) -> None:
        number = next(self._number)
        room = self.room.push(f"room {number}")
        game = self.game.push(f"game {number}")
        self.hub.broadcast(f"all {number}")
        assert self.room.wait_push_consumed(room, TIMEOUT), "a push is not sent"
        assert self.room.statistics().waiting == 0
        assert self.game.wait_push_consumed(game, TIMEOUT), "a push of the game is not sent"
        assert self.hub.exec_sync(lambda dhub: number, TIMEOUT) == number
        assert self.game.exec_sync(lambda frame, obj: number, TIMEOUT) == number
        assert self.client.exec_sync(lambda: number, TIMEOUT) == number
        last = self.client.write(f"write {number}")
        assert self.client.wait_write_consumed(last, TIMEOUT), "a write is not sent"
        read_until(self.peer, {f"{kind} {number}" for kind in ("room", "game", "all", "write")})
        read_until(self.witness, {f"{kind} {number}" for kind in ("room", "game", "all")})
        self.peer.send(f"echo {number}")
        read_until(self.peer, {f"echo {number}"})
        self.arena.exec_sync(nothing, TIMEOUT)
        rooms: list[tuple[str, Any]] = [("watched", self.watched), ("arena", self.arena)]
        for name, room in rooms:
            heard, inside = self.heard[name], self.client in room
            assert heard == (["join", "leave"] * len(heard))[: len(heard)], "not in pairs"
            assert len(heard) % 2 == inside, "a join or a leave was not heard"


def come_and_go(room: Any, ctx: Any) -> None:
    """Join and leave."""
    room.answer(ctx, first="hello")
    room.push("struck", exclude=ctx)
    room.hangup(ctx)


def _here(work: Callable[[], None]) -> None:
    work()


def _elsewhere(work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again on the test's thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(4 * TIMEOUT)
    assert not thread.is_alive(), "another thread hangs"
    if errors:
        raise errors[0]


def read_until(peer: RawPeer, wanted: set[str]) -> None:
    while wanted:
        message = peer.message()
        assert isinstance(message, str)
        wanted.discard(message)


@contextlib.contextmanager
def house() -> Iterator[House]:
    def echo(ctx: Any, meta: Any) -> bool:
        if ctx.payload.startswith("echo"):
            ctx.write(ctx.payload)
        return True

    with serving(on_receive_message=echo, period=WebsocketPeriod()) as s:
        yield House(s)


def nothing(*_: object) -> None:
    """Do nothing."""


CALLS: dict[str, Callable[[House], object]] = {
    "room.push": lambda h: h.room.push("struck"),
    "room.answer": lambda h: h.room.answer(h.client),
    "room.hangup": lambda h: h.room.hangup(h.client),
    "room.push exclude": lambda h: h.room.push("struck", exclude=[h.other]),
    "watched.answer, push, hangup": lambda h: come_and_go(h.watched, h.client),
    "arena.answer, push, hangup": lambda h: come_and_go(h.arena, h.client),
    "room.statistics": lambda h: h.room.statistics(),
    "room.is_push_consumed": lambda h: h.room.is_push_consumed(1),
    "room.wait_push_consumed": lambda h: h.room.wait_push_consumed(h.room.push("w"), TIMEOUT),
    "game.push": lambda h: h.game.push("struck"),
    "game.exec_async": lambda h: h.game.exec_async(nothing),
    "game.exec_sync": lambda h: h.game.exec_sync(nothing, TIMEOUT),
    "game.statistics": lambda h: h.game.statistics(),
    "game.operation_timeout": lambda h: h.game.operation_timeout(100, nothing).done(),
    "hub.broadcast": lambda h: h.hub.broadcast("struck"),
    "hub.exec_async": lambda h: h.hub.exec_async(nothing),
    "hub.exec_sync": lambda h: h.hub.exec_sync(nothing, TIMEOUT),
    "hub.statistics": lambda h: h.hub.statistics(),
    "hub.clients": lambda h: h.hub.clients(),
    "hub.hotline": lambda h: h.hub.hotline().close(),
    "hub.each_client": lambda h: h.hub.each_client(nothing, timeout=TIMEOUT),
    "hub.long_polling": lambda h: h.hub.long_polling(
        LongPollingOption(lambda hub, done: done(), 10.0)
    ),
    "client.write": lambda h: h.client.write("struck"),
    "client.exec_async": lambda h: h.client.exec_async(nothing),
    "client.exec_sync": lambda h: h.client.exec_sync(nothing, TIMEOUT),
    "client.statistics": lambda h: h.client.statistics(),
    "client.context": lambda h: h.client.context.cancelled,
}


@contextlib.contextmanager
def signal_at(place: str) -> Iterator[None]:
    """Have SIGINT arrive as the next function named ``place`` is entered on this thread."""
    struck = False

    def trace(frame: FrameType, kind: str, arg: object) -> None:
        nonlocal struck
        if kind == "call" and frame.f_code.co_name == place:
            sys.settrace(None)
            struck = True
            signal.raise_signal(signal.SIGINT)

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
        assert struck, f"nothing has entered {place}"
