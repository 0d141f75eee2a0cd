"""A hub to interrupt, its public calls, and the tools that interrupt them at every place."""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import itertools
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from inspect import CO_GENERATOR
from types import CodeType, FrameType
from typing import Any, NamedTuple
from unittest import mock

from hubthread import (
    ConnectionProtocols,
    Context,
    FrameControl,
    History,
    HotlineFrameOption,
    HotlineOption,
    HubThreadError,
    JsonHeader,
    LongPollingOption,
    MatcherMap,
    Position,
    WebsocketPeriod,
)
from hubthread.concurrency.context import _forget
from hubthread.concurrency.logs import log_safely
from tests.support import TIMEOUT, RawPeer, Serving, listen, serving, tries, udp_peer
from tests.support.wire import CLOSE, TEXT

MOST = 2_000
"""No call has as many lines: a loop that goes on for ever would be seen."""


class Strike(BaseException):
    """The exception that strikes."""


def at_each(call: Callable[[], object], act: Callable[[FrameType], None]) -> Callable[[int], bool]:
    """Return a function that runs ``call`` and calls ``act`` at its n-th place.

    The places are all lines, and each entry of a generator: the exception then leaves a
    ``yield``, and no line.  The returned function returns False if ``call`` had fewer places.
    """

    def run(number: int) -> bool:
        seen = itertools.count()
        begun = acted = False

        def trace(frame: FrameType, kind: str, arg: object) -> Any:
            nonlocal begun, acted
            if not begun:  # the function of the test itself
                begun = True
                return None
            place = kind == "line" or (kind == "call" and frame.f_code.co_flags & CO_GENERATOR)
            if place and not unstrikable(frame) and next(seen) == number:
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


UNSTRIKABLE = {
    function.__code__
    for function in (
        _forget,
        log_safely,
        threading.Thread.start,
        getattr(threading.Thread, "_wait_for_tstate_lock", threading.Thread.start),
        socket.socketpair,
    )
}


def unstrikable(frame: FrameType) -> bool:
    """Return True if it is of no use to strike here.

    What a weak reference's callback or a log handler raises is reported, and goes no further.
    The ``start`` of a thread leaves the thread in a table of the standard library, a ``join`` that
    is interrupted takes the thread for ended, and ``socketpair`` has taken the descriptors out of
    objects that would close them.
    """
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code in UNSTRIKABLE:
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
        self.shared = s.hub.room("shared", HotlineOption(shared=True, history=History(size=20)))
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
            self.shared.answer(ctx)
        self.port = listen(s, ConnectionProtocols.UDP)
        self.datagrams = udp_peer(self.port)
        self.datagrams.send(b"hello")
        self.udp = s.came()
        self.datagrams.send(b"again")  # or the peer would get no more bytes than it has sent
        while self.udp.received < 2:
            self.udp.exec_sync(nothing, TIMEOUT)
        self._number = itertools.count(1)
        self.spare: Any = None

    def at_rest(self) -> None:
        """Wait until the hub's thread has done all, and waits: the next push wakes it."""
        self.hub.exec_sync(nothing, TIMEOUT)
        mailbox = self.hub._core.loop._mailbox
        assert any(mailbox._owner_waits for _ in tries())

    @contextlib.contextmanager
    def aiming(self, name: str) -> Iterator[None]:
        """Have what only this call uses, and check it afterwards."""
        case = CALLS[name]
        self.spare = case.make(self)
        yield
        case.check(self)

    def check(self) -> None:
        """Push, run closures and write, on this thread and on another: each has its effect."""
        for run in (_here, _elsewhere):
            run(self._check)

    def _check(self) -> None:
        number = next(self._number)
        room = self.room.push(f"room {number}")
        game = self.game.push(f"game {number}")
        shared = self.shared.push(f"shared {number}")
        self.hub.broadcast(f"all {number}")
        assert self.shared.wait_push_consumed(shared, TIMEOUT), "a shared push is not sent"
        assert self.room.wait_push_consumed(room, TIMEOUT), "a push is not sent"
        assert self.room.statistics().waiting == 0
        assert self.game.wait_push_consumed(game, TIMEOUT), "a push of the game is not sent"
        assert self.hub.exec_sync(lambda dhub: number, TIMEOUT) == number
        assert self.game.exec_sync(lambda frame, obj: number, TIMEOUT) == number
        assert self.client.exec_sync(lambda: number, TIMEOUT) == number
        self.udp.write(f"udp {number}")
        while self.datagrams.message() != b"udp %d" % number:
            pass
        last = self.client.write(f"write {number}")
        assert self.client.wait_write_consumed(last, TIMEOUT), "a write is not sent"
        pushed = {f"{kind} {number}" for kind in ("room", "game", "shared", "all")}
        read_until(self.peer, pushed | {f"write {number}"})
        read_until(self.witness, pushed)
        self.peer.send(f"echo {number}")
        read_until(self.peer, {f"echo {number}"})
        self.arena.exec_sync(nothing, TIMEOUT)
        rooms: list[tuple[str, Any]] = [("watched", self.watched), ("arena", self.arena)]
        for name, room in rooms:
            heard, inside = self.heard[name], self.client in room
            assert heard == (["join", "leave"] * len(heard))[: len(heard)], "not in pairs"
            assert len(heard) % 2 == inside, "a join or a leave was not heard"


def come_back(room: Any, ctx: Any) -> None:
    """Leave, and join behind what was missed."""
    room.hangup(ctx)
    room.answer(ctx, since=Position("another epoch", 1))


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

    matcher = MatcherMap[Any, str](JsonHeader("type", body="body", id_field="id"))
    with serving(on_receive_message=echo, receive_matcher=matcher, period=WebsocketPeriod()) as s:
        h = House(s)
        with h.datagrams:
            yield h
    gc.collect()  # the filters of warnings are those of this test still


def nothing(*_: object) -> None:
    """Do nothing."""


class Case(NamedTuple):
    """A public call, what it is made of, and the check of what is left of that."""

    call: Callable[[House], object]
    make: Callable[[House], object] = nothing
    check: Callable[[House], object] = nothing


def make_client(h: House) -> object:
    """Return a peer and its client: half a frame may be out, and ends it."""
    return h.s.pair()


def check_client(h: House) -> None:
    """Read whole frames up to the answer, or the end of the connection."""
    peer, _ = h.spare
    with contextlib.suppress(EOFError, OSError):
        peer.send("echo")
        while peer.frame() not in ((TEXT, b"echo"), (CLOSE, mock.ANY)):
            pass
    peer.close()


def make_room(h: House) -> object:
    room = h.hub.hotline()
    room.answer(h.client)
    return room


def check_room(h: House) -> None:
    """Close the room: a call may have closed it by half."""
    room = h.hub._core.registry.hotline(h.spare.hotline_id) or h.spare
    room.close()
    assert h.spare.context.wait(TIMEOUT)  # a clock ends the room on its thread
    assert (h.spare.is_closed, h.spare.members) == (True, [])
    assert h.hub._core.registry.hotline(h.spare.hotline_id) is None


def make_gate(h: House) -> object:
    return h.game.await_inputs([h.client], 1000.0, "default")


def check_gate(h: House) -> None:
    h.spare.done()
    assert list(h.spare.wait(TIMEOUT)) == [h.client]


def check_countdown(h: House) -> None:
    h.spare.done()
    assert h.spare.outcome == "done"


def check_poll(h: House) -> None:
    h.spare.cancel()
    assert h.spare.wait(TIMEOUT) == "cancelled"
    assert h.spare.context.cancelled


def make_contexts(h: House) -> object:
    context = Context()
    return context, [Context(context) for _ in range(2)]


def check_contexts(h: House) -> None:
    context, children = h.spare
    context.cancel()
    assert all(each.cancelled for each in children)


def check_servers(h: House) -> None:
    for server in h.hub.servers():
        if server not in (h.s.server, h.port):
            server.close()
    assert h.hub.servers() == [h.s.server, h.port]


POLL = LongPollingOption(lambda hub, done: None, 1000.0, frequency=1000.0)

CALLS: dict[str, Case] = {
    "room.push": Case(lambda h: h.room.push("struck")),
    "room.answer": Case(lambda h: h.room.answer(h.client)),
    "room.hangup": Case(lambda h: h.room.hangup(h.client)),
    "room.push exclude": Case(lambda h: h.room.push("struck", exclude=[h.other])),
    "watched.answer, push, hangup": Case(lambda h: come_and_go(h.watched, h.client)),
    "arena.answer, push, hangup": Case(lambda h: come_and_go(h.arena, h.client)),
    "shared.push": Case(lambda h: h.shared.push("struck")),
    "shared.hangup, answer": Case(
        lambda h: come_back(h.shared, h.client), check=lambda h: h.shared.answer(h.client)
    ),
    "room.statistics": Case(lambda h: h.room.statistics()),
    "room.is_push_consumed": Case(lambda h: h.room.is_push_consumed(1)),
    "room.wait_push_consumed": Case(
        lambda h: h.room.wait_push_consumed(h.room.push("w"), TIMEOUT)
    ),
    "room.close": Case(lambda h: h.spare.close(), make_room, check_room),
    "game.push": Case(lambda h: h.game.push("struck")),
    "game.exec_async": Case(lambda h: h.game.exec_async(nothing)),
    "game.exec_sync": Case(lambda h: h.game.exec_sync(nothing, TIMEOUT)),
    "game.statistics": Case(lambda h: h.game.statistics()),
    "game.pause": Case(lambda h: h.game.pause(), check=lambda h: h.game.resume()),
    "game.operation_timeout": Case(
        lambda h: h.game.operation_timeout(100, nothing).done(),
    ),
    "game.await_inputs": Case(lambda h: h.game.await_inputs([h.client], 0.001, None)),
    "gate.answer": Case(lambda h: h.spare.answer(h.client, "yes"), make_gate, check_gate),
    "gate.done": Case(lambda h: h.spare.done(), make_gate, check_gate),
    "countdown.done": Case(
        lambda h: h.spare.done(),
        lambda h: h.game.operation_timeout(1000, nothing),
        check_countdown,
    ),
    "hub.push": Case(lambda h: h.hub.push([h.room, h.shared, h.game], "struck")),
    "hub.broadcast": Case(lambda h: h.hub.broadcast("struck")),
    "hub.broadcast_with_filter": Case(
        lambda h: h.hub.broadcast_with_filter("struck", lambda hub, ctx, meta: True)
    ),
    "hub.exec_async": Case(lambda h: h.hub.exec_async(nothing)),
    "hub.exec_sync": Case(lambda h: h.hub.exec_sync(nothing, TIMEOUT)),
    "hub.statistics": Case(lambda h: h.hub.statistics()),
    "hub.clients": Case(lambda h: h.hub.clients()),
    "hub.hotline": Case(lambda h: h.hub.hotline().close()),
    "hub.each_client": Case(lambda h: h.hub.each_client(nothing, timeout=TIMEOUT)),
    "hub.long_polling": Case(
        lambda h: h.hub.long_polling(LongPollingOption(lambda hub, done: done(), 10.0))
    ),
    "server.close": Case(lambda h: h.spare.close(), lambda h: h.hub.serve(), check_servers),
    "poll.cancel": Case(
        lambda h: h.spare.cancel(), lambda h: h.hub.long_polling(POLL), check_poll
    ),
    "context.cancel": Case(lambda h: h.spare[0].cancel(), make_contexts, check_contexts),
    "iteration.wait": Case(
        lambda h: h.spare.wait(TIMEOUT),
        lambda h: h.hub.each_client(nothing, wait_hub=False),
        lambda h: h.spare.wait(TIMEOUT),
    ),
    "client.write": Case(lambda h: h.spare[1].write("struck"), make_client, check_client),
    "client.request": Case(
        lambda h: h.spare[1].request("name", 1, 0.0), make_client, check_client
    ),
    "client.close": Case(lambda h: h.spare[1].close(), make_client, check_client),
    "client.exec_async": Case(lambda h: h.client.exec_async(nothing)),
    "client.exec_sync": Case(lambda h: h.client.exec_sync(nothing, TIMEOUT)),
    "client.statistics": Case(lambda h: h.client.statistics()),
    "client.context": Case(lambda h: h.client.context.cancelled),
    "udp.write": Case(lambda h: h.udp.write("struck")),
    "udp.exec_async": Case(lambda h: h.udp.exec_async(nothing)),
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
