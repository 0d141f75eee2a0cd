"""Play the record of a room: the same callbacks with the same inputs, in the same order.

The room is a real room, in a virtual hub.  Its clock and its queue do not run: the record says
what happens next.  Members are clients whose messages go nowhere.

Layer: testing.  Threads: the thread that calls ``replay``.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from hubthread.checks import check_kind
from hubthread.clients.client import Client
from hubthread.concurrency.calls import thread_id
from hubthread.errors import HubThreadError, UsageError
from hubthread.hub.hub import Hub
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame
from hubthread.protocol.request import Headers, Request
from hubthread.rooms.ticking.agenda import Countdown
from hubthread.rooms.ticking.control import FrameControl, HotlineFrameOption
from hubthread.rooms.ticking.inputs import BaseInputGate
from hubthread.rooms.ticking.record import VERSION, hash_of, resolve
from hubthread.rooms.ticking.schedule import Overrun, Tick
from hubthread.settings import HotlineOption, HubSetting
from hubthread.testing.hub import VirtualHub
from hubthread.types import ClientID

__all__ = ["Replay", "replay"]


@dataclass
class Replay:
    """The outcome of a replay."""

    obj: Any = None
    """The state at the end."""
    ticks: int = 0
    """The number of ticks that were played."""
    hashes: list[str] = field(default_factory=list)
    """The hash of the state after each tick; after each closure in a room without ticks."""
    differs: int | None = None
    """The first tick after which the state differs from the record; ``None`` if it never differs.
    In a room without ticks it is the number of the hash, from 1."""
    errors: list[BaseException] = field(default_factory=list)
    """The errors that the callbacks have raised in the replay."""
    recorded_errors: list[str] = field(default_factory=list)
    """The errors that the callbacks had raised in the record, as text."""
    marks: list[str] = field(default_factory=list)
    """The possible causes of a difference that the callbacks use: clocks, and random numbers
    without a seed."""
    end: str = ""
    """The reason of the room's end; empty if the process has died first."""


def replay(path: str | os.PathLike[str], option: HotlineFrameOption[Any]) -> Replay:
    """Play the record of a room again, as fast as possible; return the outcome.

    ::

        def test_that_fault():
            assert replay("arena.jsonl", option).errors == []

    In a replay a client has its ``connection_id`` and its ``user``.  Messages to it go nowhere.

    :param path: a file that ``HotlineFrameOption(record=path)`` has written.
    :param option: the option of the room, or an option with changed functions.
    :raises OSError: if the file cannot be read.
    :raises UsageError: if the file is not a record, or cannot be played: it has a closure without
        a name, or a gate that was not made in the room's own callbacks.
    """
    given: object = option
    check_kind("option", given, HotlineFrameOption, "a HotlineFrameOption")
    with open(path, encoding="utf-8") as file:
        lines = _Lines(file, str(path))
        head = lines.head()
        setting = HubSetting[Any, Any](dict, logger=_SILENT)
        with VirtualHub(setting) as hub:
            player = _Player(hub, option, head)
            hub.clock.run(hub.clock.job(partial(player.play, lines)))
            player.found.errors += hub.errors
    return player.found


_SILENT = logging.Logger("replay", logging.CRITICAL + 1)  # noqa: LOG001 - nobody configures it
"""Logs nothing: the errors of the record have been logged once."""


class _Lines:
    """The lines of a record."""

    def __init__(self, file: Any, path: str) -> None:
        self._file = file
        self._path = path
        self.number = 0

    def head(self) -> dict[str, Any]:
        """Return the first line."""
        first = next(iter(self), None)
        if not isinstance(first, dict) or first.get("hubthread") != VERSION:
            raise UsageError(
                f"{self._path} is not the record of a room: expected a file that "
                f"HotlineFrameOption(record=…) has written"
            )
        return first

    def __iter__(self) -> Iterator[Any]:
        for text in self._file:
            self.number += 1
            if not text.endswith("\n"):
                return  # the process died while it wrote the line
            try:
                yield json.loads(text)
            except ValueError:
                raise self.refusal("it is not JSON") from None

    def refusal(self, why: str) -> UsageError:
        """Return the error of a line that cannot be played."""
        return UsageError(f"{self._path}, line {self.number}: {why}")


class _Player:
    """One replay."""

    def __init__(
        self, hub: Hub[Any, Any], option: HotlineFrameOption[Any], head: dict[str, Any]
    ) -> None:
        self.found = Replay(marks=head.get("marks", []))
        self._hub = hub
        self._members: dict[ClientID, Client[Any, Any]] = {}
        self._countdowns: list[Countdown] = []
        self._main = getattr(option.logic or option.new_obj, "__module__", "__main__")
        hears = option.on_join or _hears  # only a room with a hook is told of its members
        quiet = replace(
            option,
            record=None,
            sync=None,
            own_thread=False,
            on_join=hears,
            # The record says what these have done.  Their jobs would wait among those of members.
            pause_when_empty=None,
            close_when_empty=None,
        )
        plan = option._plan or replace(option, record=os.devnull)._plan
        assert plan is not None
        self._plan = plan
        name = HotlineOption(str(head.get("room", "")))
        self._frame: FrameControl[Any] = quiet.run(hub.hotline(name))
        self._loop = loop = self._frame._loop
        job: Any = loop._drive
        job.over = True  # the clock never runs the room
        loop._drive = _Still()
        loop.random = random.Random(head.get("seed"))
        loop._sync = _NoSync()  # type: ignore[assignment]
        loop.recorder = _Watch(self._countdowns)  # type: ignore[assignment]
        calls = loop._calls
        assert calls is not None
        self._calls = calls
        self.found.obj = calls.obj
        self._queue = loop.agenda._queue
        self._acts: dict[str, Callable[[dict[str, Any]], object]] = {
            "tick": self._tick,
            "join": self._join,
            "leave": self._leave,
            "do": self._do,
            "own": self._own,
            "fire": self._fire,
            "answer": self._answer,
            "done": self._done,
            "begun": self._begun,
            "overrun": self._overrun,
            "closing": self._closing,
            "error": lambda line: self.found.recorded_errors.append(str(line["text"])),
            "end": lambda line: setattr(self.found, "end", str(line["end"])),
        }

    def play(self, lines: _Lines) -> None:
        """Play all lines.  Runs in a job of the clock, which counts as the room's thread."""
        loop = self._loop
        loop.runner = thread_id()
        try:
            self._together(self._calls.on_start)
            for line in lines:
                if isinstance(line, str):
                    self._compare(line)
                    continue
                name = next(iter(line), "") if isinstance(line, dict) else ""
                act = self._acts.get(name)
                if act is None:
                    raise lines.refusal("this is not a line of a record")
                try:
                    act(line)
                except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
                    raise lines.refusal(f"the line does not fit the room: {error!r}") from error
                except HubThreadError as error:
                    raise lines.refusal(str(error)) from error
        finally:
            loop.runner = None

    def _together(self, work: Callable[[], object]) -> None:
        self._loop._send_together(work)

    def _compare(self, told: str) -> None:
        try:
            now = hash_of(self._plan, self._calls.obj)
        except Exception as error:  # noqa: BLE001 - the state is the program's
            now = f"none: {error}"
        self.found.hashes.append(now)
        if now != told and self.found.differs is None:
            tick = self._loop.tick.index
            self.found.differs = tick if self._frame.hz else len(self.found.hashes)

    def _tick(self, line: dict[str, Any]) -> None:
        index, loop = line["tick"], self._loop
        clock: Any = self._frame._core.clock
        clock.spend(max(0.0, index * loop.tick.dt - clock.now()))
        loop.tick = Tick(index, loop.tick.dt, line.get("late", 0.0), line.get("skipped", 0))
        given = line.get("in", ())
        if loop.inputs is not None:
            convert, client = loop.inputs.convert, self._client
            loop.inputs.give([(client(number), convert(data)) for number, data in given])
        elif given:
            raise UsageError("the room takes no inputs: call frame.inputs in on_start")
        self._together(self._calls.logic)
        self.found.ticks += 1

    def _join(self, line: dict[str, Any]) -> None:
        client = self._client(line["join"], line.get("user"))
        self._queued(client not in self._frame, partial(self._frame.answer, client))

    def _leave(self, line: dict[str, Any]) -> None:
        client = self._client(line["leave"])
        self._queued(client in self._frame, partial(self._frame.hangup, client))

    def _queued(self, needed: bool, change: Callable[[], object]) -> None:
        """Run the closure that a change of the membership puts into the queue.

        :param needed: False if a callback of the room has made the change already, so that its
            closure waits in the queue.
        """
        place = 0
        if needed:
            place = len(self._queue)
            change()
        work = self._queue[place][0]
        del self._queue[place]
        self._together(work)

    def _own(self, line: dict[str, Any]) -> None:
        self._together(self._queue.popleft()[0])

    def _do(self, line: dict[str, Any]) -> None:
        name = line["do"]
        if name is None:
            raise UsageError(
                f"a closure without a name: {line['what']}.  Give exec_async a function of a "
                f"module, or a partial of one with JSON and clients, or use frame.inputs"
            )
        function = resolve(name, self._main)
        give, named = line["give"], line["named"]
        if give or named:
            more = {key: self._value(pair) for key, pair in named.items()}
            function = partial(function, *map(self._value, give), **more)
        if "of" not in line:
            self._together(partial(self._calls.call, "a closure", function))
            return
        countdown = self._countdown(line["of"])
        if self._loop.agenda.is_pending(countdown):
            work = partial(function, countdown)
            self._together(partial(self._calls.call, "an operation", lambda frame, obj: work(obj)))

    def _fire(self, line: dict[str, Any]) -> None:
        countdown = self._countdown(line["fire"])
        now = max(countdown.due, self._frame._core.clock.now()) if line["over"] else 0.0
        self._together(partial(countdown.fire, now))

    def _answer(self, line: dict[str, Any]) -> None:
        number, member, value = line["answer"]
        gate: Any = self._countdown(number)
        if not isinstance(gate, BaseInputGate):
            raise UsageError(f"countdown {number} is not a gate")
        gate.answer(self._client(member), value)

    def _done(self, line: dict[str, Any]) -> None:
        countdown: Any = self._countdown(line["done"])
        countdown.done()

    def _begun(self, line: dict[str, Any]) -> None:
        raise UsageError(
            f"{line['what']} was made outside of the room's own callbacks: make it in one, such "
            f"as a closure with a name"
        )

    def _overrun(self, line: dict[str, Any]) -> None:
        work, in_a_row = line["overrun"]
        overrun = Overrun(self._loop.tick, work, in_a_row)
        self._together(partial(self._calls.on_overrun, overrun))

    def _closing(self, line: dict[str, Any]) -> None:
        self._together(self._calls.on_close)

    def _countdown(self, number: int) -> Countdown:
        if not 1 <= number <= len(self._countdowns):
            raise UsageError(f"countdown {number} was not begun: the callbacks have changed")
        return self._countdowns[number - 1]

    def _value(self, pair: list[Any]) -> Any:
        kind, value, *more = pair
        return self._client(value, *more) if kind == "ctx" else value

    def _client(self, number: ClientID, user: str | None = None) -> Client[Any, Any]:
        client = self._members.get(number)
        if client is None:
            core = self._frame._core
            client = Client(core, number, {}, Request("GET", "/", Headers([])))
            client.ws_conn = _Nowhere()
            self._members[number] = client
        client.user = client.user or user
        return client


def _hears(frame: object, obj: object, ctx: object) -> None:
    """Do nothing."""


class _Still:
    """The stand-in for the drive of a room, which never runs by itself."""

    phase = 0.0
    handovers = 0

    def wake(self) -> None:
        """Do nothing."""


class _NoSync:
    """A stand-in for the sender of state, which sends nothing."""

    def joined(self, *_: object) -> None:
        """Do nothing."""

    left = step = joined


class _Watch:
    """The stand-in for the recorder, which numbers the countdowns as the recorder did."""

    def __init__(self, countdowns: list[Countdown]) -> None:
        self.added = countdowns.append

    def own(self, work: Callable[[], object]) -> Callable[[], object]:
        """Return ``work`` unchanged."""
        return work

    def closure(self, work: object, run: Callable[[], object], *_: object) -> Any:
        """Return ``run`` unchanged."""
        return run

    def answer(self, *_: object) -> None:
        """Do nothing."""

    done = join = leave = answer


class _Nowhere:
    """The connection of a member in a replay.  Each message counts as consumed at once."""

    ended_by = code = limit = None
    reason = ""
    clean = lags = False
    dropped = count = 0

    @property
    def outbox(self) -> _Nowhere:
        """The outbox, which is always empty."""
        return self

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Count a message."""
        self.count += 1
        return self.count

    def send_batch(self, batch: FrameBatch) -> int:
        """Count messages."""
        self.count += len(batch.frames)
        return 0

    def send_control(self, frame: Frame) -> None:
        """Do nothing."""

    def close(self, code: int = 1000, reason: str = "", **_: object) -> None:
        """Do nothing: the record says when the member leaves."""

    def is_consumed(self, number: int) -> bool:
        """Return True."""
        return True

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Return True."""
        return True

    def waiting(self) -> tuple[int, int]:
        """Return zeros."""
        return 0, 0
