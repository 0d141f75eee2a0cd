"""The flight recorder of a room: all inputs of the room's callbacks, as lines of JSON.

Layer: rooms.ticking.  Threads: the tick thread writes most lines.  Any thread may call ``answer``,
``done`` and ``added``.

The first line is the head.  Then there is one line for each event, in the order of the room::

    {"hubthread":1,"room":"arena","hz":20,"seed":81…,"state":"Arena","marks":[]}
    {"join":17,"user":"ann"}
    {"tick":820,"late":0.0003,"in":[[17,{"dx":1}]]}         and "skipped", if ticks were
    "5f1c2a…"                                               the hash of the state after the tick
    {"do":"game:deal","give":[["json","ace"],["ctx",17]],"named":{}}    a closure of another thread
    {"do":null,"what":"<lambda> at game.py:7"}              a closure without a name
    {"own":1}                                               a closure that the room gave to itself
    {"fire":3}  {"answer":[3,17,{"card":4}]}  {"done":3}    a countdown or gate, by its number
    {"overrun":[0.07,1]}  {"error":"logic","text":"…"}  {"closing":1}  {"leave":17}
    {"end":"the hotline was closed"}

``hubthread.testing.replay`` plays these lines.  A room without ticks has a hash after each
closure.  A record contains only the hash of the state, and so no private field of a member.
"""

from __future__ import annotations

import dis
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from hubthread.clients.client import Client
from hubthread.errors import UsageError
from hubthread.matcher.compile import marshal_json
from hubthread.state.shadow import Difference

if TYPE_CHECKING:
    from hubthread.rooms.ticking.agenda import Countdown
    from hubthread.rooms.ticking.schedule import Overrun, Tick
    from hubthread.state.plan import Node

__all__ = ["Recorder", "hash_of", "marks_of", "resolve"]

VERSION: Final = 1

MOST_BYTES: Final = 64 << 20
"""Bytes after which a record ends: hours of a room with ten players."""

FLUSHED: Final = 1 << 14
"""Bytes after which the file is flushed.  It is also flushed after an error."""

_lock = threading.RLock()  # guards what follows
_open: set[str] = set()
"""The files that rooms of this process record to."""


def hash_of(plan: Node, state: Any) -> str:
    """Return the hash of all fields of a state that are not ``Unsynced``.

    :raises WrongType: for a value that the plan does not allow.
    :raises Exception: for a missing field, and for a value that JSON cannot express.
    """
    return blake2b(_dump(plan.plain(state, Difference())).encode(), digest_size=8).hexdigest()


class Recorder:
    """The record of one room.

    :param path: the file, which is overwritten.
    :param here: returns True on the tick thread.
    :param report: called with an error that has ended the record.
    :raises UsageError: if another room records to the file.
    :raises OSError: if the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Node,
        here: Callable[[], bool],
        report: Callable[[BaseException, str], object],
    ) -> None:
        self._path = str(Path(path).resolve())
        self._plan = plan
        self._here = here
        self._report = report
        self.seed = random.SystemRandom().getrandbits(53)
        """The seed of ``frame.random``."""
        self._lock = threading.RLock()  # guards what follows
        self._size = self._flushed = 0
        self._over = False
        self._failure: BaseException | None = None
        self._numbers: WeakKeyDictionary[Countdown, int] = WeakKeyDictionary()
        self._begun = 0
        with _lock:
            if self._path in _open:
                raise UsageError(
                    f"record: another room records to {path}: give each room an option with a "
                    f"path of its own (dataclasses.replace)"
                )
            self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115 - until the end
            _open.add(self._path)

    def head(self, **fields: Any) -> None:
        """Write the first line."""
        python = ".".join(map(str, sys.version_info[:3]))
        self._write({"hubthread": VERSION, **fields, "seed": self.seed, "python": python})

    def close(self, reason: str) -> None:
        """Write the last line, and close the file."""
        self._write({"end": reason})
        self._shut()
        self._tell_failure()

    # What happens to the room.

    def join(self, ctx: Client[Any, Any]) -> None:
        """Note a member that joins."""
        user = {} if ctx.user is None else {"user": ctx.user}
        self._write({"join": ctx.connection_id, **user})

    def leave(self, ctx: Client[Any, Any]) -> None:
        """Note a member that leaves."""
        self._write({"leave": ctx.connection_id})

    def tick(self, tick: Tick, given: list[tuple[Any, Any]]) -> None:
        """Note a tick that begins, with its inputs."""
        line: dict[str, Any] = {"tick": tick.index}
        if tick.late:
            line["late"] = tick.late
        if tick.skipped:
            line["skipped"] = tick.skipped
        if given:
            line["in"] = [[ctx.connection_id, _Raw(value)] for ctx, value in given]
        self._write(line)

    def state(self, obj: Any) -> None:
        """Note the hash of the state."""
        self._tell_failure()
        if not self._over:
            try:
                self._write(hash_of(self._plan, obj))
            except Exception as error:  # noqa: BLE001 - the state is the program's
                self._write({"error": "state", "text": str(error)})

    def closure(
        self, work: Any, run: Callable[[], Any], of: Countdown | None = None
    ) -> Callable[[], Any]:
        """Return a function that notes a closure and then calls ``run``.

        A closure of the room's own callbacks is noted without a name: the same callbacks make it
        anew in the replay.

        :param work: the closure, as the program gave it.
        :param run: calls ``work``.
        :param of: the countdown, if the closure is the operation of a countdown.
        """
        if self._here():
            return self.own(run)
        line = _line_of(work) | ({} if of is None else {"of": self._number(of)})

        def noted() -> Any:
            self._write(line)
            return run()

        return noted

    def own(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that notes a closure of the room's own, and then calls ``run``."""

        def noted() -> Any:
            self._write({"own": 1})
            return run()

        return noted

    def added(self, countdown: Countdown) -> None:
        """Number a countdown or gate."""
        with self._lock:
            self._begun += 1
            self._numbers[countdown] = self._begun
        if not self._here():
            self._write({"begun": self._begun, "what": type(countdown).__name__})

    def fire(self, countdown: Countdown, *, over: bool) -> None:
        """Note a countdown that fires.

        :param over: True if its time is over.
        """
        self._write({"fire": self._number(countdown), "over": over})

    def answer(
        self, gate: Countdown, ctx: Client[Any, Any], value: Any
    ) -> Callable[[], object] | None:
        """Return a function that notes a member's answer to a gate; None for the room's callbacks.

        This call encodes the answer, because the gate must not encode it under its lock.
        """
        if self._here():
            return None
        line = {"answer": [self._number(gate), ctx.connection_id, _Raw(value)]}
        return partial(self._put, self._text(line))

    def done(self, countdown: Countdown) -> None:
        """Note the end of a countdown or gate, unless the room's own callbacks end it."""
        if not self._here():
            self._write({"done": self._number(countdown)})

    def _number(self, countdown: Countdown) -> int:
        with self._lock:
            return self._numbers.get(countdown, 0)

    def overrun(self, overrun: Overrun) -> None:
        """Note an overrun that ``on_overrun`` is called with."""
        self._write({"overrun": [overrun.work, overrun.in_a_row]})

    def closing(self) -> None:
        """Note that ``on_close`` runs."""
        self._write({"closing": 1})

    def error(self, what: str, error: BaseException) -> None:
        """Note a callback that has raised."""
        self._write({"error": what, "text": f"{type(error).__name__}: {error}"[:500]})
        self._flush()

    # The file.

    def _write(self, line: object) -> None:
        self._put(self._text(line))

    def _text(self, line: object) -> str:
        try:
            return _dump(line)
        except Exception as error:  # noqa: BLE001 - the values are the program's
            return _dump({"error": "record", "text": f"{type(error).__name__}: {error}"})

    def _put(self, text: str) -> None:
        with self._lock:
            if self._over:
                return
            self._size += len(text) + 1
            if self._size > MOST_BYTES:
                text = _dump({"end": "the record is full"})
            try:
                self._file.write(text + "\n")
            except (OSError, ValueError) as error:
                self._failure = error
                self._shut()
                return
            if self._size > MOST_BYTES:
                self._shut()
            elif self._size - self._flushed > FLUSHED:
                self._flush()

    def _flush(self) -> None:
        with self._lock:
            if not self._over:
                self._flushed = self._size
                try:
                    self._file.flush()
                except OSError as error:  # the disk is full
                    self._failure = error
                    self._shut()

    def _shut(self) -> None:
        with self._lock:
            self._over = True
            with _lock:
                _open.discard(self._path)
            try:
                self._file.close()
            except OSError as error:
                self._failure = error

    def _tell_failure(self) -> None:
        """Report an error of the file.  On the tick thread, because it calls log handlers."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self._report(failure, f"the record {self._path} has ended")


class _Raw:
    """A value of a message, encoded as a message."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def plain(self) -> Any:
        """Return the value in JSON."""
        value: object = self.value
        return json.loads(marshal_json(value))


def _default(value: Any) -> Any:
    if isinstance(value, _Raw):
        return value.plain()
    raise TypeError(f"{value!r:.100} is not JSON")


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_default)
_dump = _encoder.encode


def _line_of(work: Any) -> dict[str, Any]:
    """Return the line of a closure: with its name, or with the reason why it has no name."""
    function: Any = work
    give: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if isinstance(work, partial):
        function, give, named = work.func, work.args, work.keywords
    name = _name_of(function)
    try:
        if name is not None:
            return {
                "do": name,
                "give": [_pair(value) for value in give],
                "named": {key: _pair(value) for key, value in named.items()},
            }
    except ValueError as error:
        return {"do": None, "what": f"{name}: {error}"}
    return {"do": None, "what": _place(function)}


def _name_of(function: Any) -> str | None:
    """Return ``module:name`` of a function; None if this name does not lead to the function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "").split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is function and found is not None else None


def resolve(name: str, main: str) -> Callable[..., Any]:
    """Return the function of a name.

    :param main: the module that stands for ``__main__``.
    :raises UsageError: if there is no such function.
    """
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(main if module == "__main__" else module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the closure {name!r} of the record is not found: {error}") from None
    function: Callable[..., Any] = found
    return function


def _pair(value: Any) -> list[Any]:
    if isinstance(value, Client):
        return ["ctx", value.connection_id, value.user]
    if not _is_plain(value):
        raise ValueError(f"{value!r:.100} is neither JSON nor a client")
    return ["json", value]


def _is_plain(value: Any) -> bool:
    """Return True if a value is the same after its way through JSON."""
    if value is None or type(value) in (bool, int, float, str):
        return True
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) is dict and all(
        type(key) is str and _is_plain(each) for key, each in value.items()
    )


def _place(function: Any) -> str:
    code = getattr(function, "__code__", None)
    name = getattr(function, "__qualname__", None) or f"{function!r:.100}"
    return name if code is None else f"{name} at {code.co_filename}:{code.co_firstlineno}"


# What is not deterministic.

_CLOCKS = frozenset({"time", "random", "uuid", "secrets"})
_NOW = frozenset({"now", "utcnow", "today"})


def marks_of(*functions: Any) -> list[str]:
    """Return the clocks and sources of random numbers that the given functions use.

    A replay cannot repeat these.  Functions that the given functions call in their own module are
    searched, too.  The search finds the usual names; the hash of the state finds all other causes
    in the replay.
    """
    marks: dict[str, None] = {}
    seen: set[FunctionType] = set()
    todo = list(functions)
    while todo:
        function = todo.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        for code in _codes(function.__code__):
            for name in _global_names(code):
                used = function.__globals__.get(name)
                if isinstance(used, FunctionType) and used.__module__ == function.__module__:
                    todo.append(used)
                elif _is_clock(used, code):
                    marks[f"{function.__qualname__} uses {name}"] = None
    return sorted(marks)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _global_names(code: CodeType) -> list[str]:
    return [each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"]


def _is_clock(used: Any, code: CodeType) -> bool:
    if isinstance(used, ModuleType):
        tells = used.__name__ == "datetime" and not _NOW.isdisjoint(code.co_names)
        return used.__name__ in _CLOCKS or tells
    if isinstance(used, type):
        return issubclass(used, date) and not _NOW.isdisjoint(code.co_names)
    return getattr(used, "__module__", None) in _CLOCKS
