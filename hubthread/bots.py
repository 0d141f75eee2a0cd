"""``hubthread bots``: drive a server with many programs as players, and report what they saw.

Layer: top.  Threads: the main thread runs all bots and their links, one step at a time; a few
threads connect.  So a bot must not block, and needs no lock.

A bot is a function that is called with a link.  It may be a generator, which yields the seconds
that it waits::

    def bot(link):
        link.send("play", {"nick": "bot"})
        while True:
            link.send("steer", {"x": random.uniform(-1, 1), "y": random.uniform(-1, 1)})
            yield 0.5
"""

from __future__ import annotations

import argparse
import inspect
import math
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TextIO

from hubthread.checks import check_number
from hubthread.client import Link, LinkOption
from hubthread.client.crowd import Crowd, CrowdDriver
from hubthread.errors import SettingTypeError, WrongValue
from hubthread.protocol.client_handshake import Address

__all__ = ["Bots", "Plan", "add_arguments", "made_of"]

Bot = Callable[[Link], object]

PROGRESS = 2.0
"""Seconds between two lines of progress."""
PULSE = 0.05
"""Seconds between two measurements of the bots' own lateness."""
SAMPLES = 20_000
"""The most measurements of each kind that are kept, chosen at random."""
GOODBYE = 3.0
"""Seconds for the end of all connections."""
MORE_FILES = 64
"""Descriptors that the process needs in addition to those of the connections."""


@dataclass(frozen=True)
class Plan:
    """The bots to run.

    :raises SettingError: for a number out of range.
    """

    url: str
    bot: Bot
    count: int
    rate: float = 50.0
    """New connections per second."""
    seconds: float | None = None
    """The seconds until the end; ``None`` ends when all bots have ended."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of ``LinkOption``."""

    def __post_init__(self) -> None:
        check_number("count", self.count, 1, whole=True)
        check_number("rate", self.rate, 0)
        check_number("seconds", self.seconds, 0, optional=True)
        Address.of(self.url)
        LinkOption(**self.options)


def made_of(chosen: argparse.Namespace, bot: object, headers: dict[str, str]) -> Bots:
    """Return the bots of a command line.

    :param headers: header fields of the handshake.
    :raises WrongValue, WrongType: for arguments that cannot be used.
    """
    options = {"token": chosen.token, "headers": headers, "plain": chosen.plain}
    plan = Plan(chosen.url, _checked(bot), chosen.count, chosen.rate, chosen.seconds, options)
    _allow_files(plan.count)
    return Bots(plan, sys.stdout)


def _checked(bot: object) -> Bot:
    """Return ``bot``, if it can be called with a link.

    :raises SettingTypeError: for any other object, and for an ``async def``.
    """
    wanted = "a function of a link, def bot(link): it may yield the seconds that it waits"
    if not callable(bot):
        raise SettingTypeError("bot", f"expected {wanted}; got {bot!r}")
    if inspect.iscoroutinefunction(bot) or inspect.isasyncgenfunction(bot):
        raise SettingTypeError("bot", f"expected {wanted}; got the async def {bot!r}")
    try:
        inspect.signature(bot).bind(None)
    except (TypeError, ValueError) as error:
        raise SettingTypeError("bot", f"expected {wanted}; {bot!r}: {error}") from None
    return bot


def _allow_files(count: int) -> None:
    """Raise the process's limit of open files for ``count`` connections.

    :raises WrongValue: if the system does not allow so many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + MORE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise WrongValue(
            f"count: {count} bots need {wanted} open files, and the system allows {hard}: "
            f"raise it (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the server, the number of bots, and the time."""
    parser.add_argument("url", metavar="URL", help="such as ws://localhost:8000/ws")
    parser.add_argument("--count", type=int, default=50, help="bots (default: 50)")
    parser.add_argument(
        "--rate", type=float, default=50.0, help="new connections a second (default: 50)"
    )
    parser.add_argument(
        "--seconds", type=float, help="end after so many (default: when all bots have ended)"
    )


class Bots:
    """Runs a plan.

    :param out: gets the progress and the report.
    """

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self._plan = plan
        self._out = out
        self._crowd = Crowd()
        self._players = [_Player(self, number) for number in range(plan.count)]
        self._begun = self._crowd.now()
        self._stopped = False
        self.seen = Seen(self._crowd.now)

    def stop(self) -> None:
        """End the run.  Any thread, and a signal handler."""
        self._stopped = True
        self._crowd.waker.ring()

    def run(self) -> bool:
        """Run the bots, print what they saw, and return True if any has connected."""
        plan, crowd = self._plan, self._crowd
        self._begun = crowd.now()
        for number, player in enumerate(self._players):
            crowd.at(self._begun + number / plan.rate, player.begin)
        if plan.seconds is not None:
            crowd.at(self._begun + plan.seconds, self.stop)
        self.seen.marked = (0, 0, self._begun)
        crowd.at(self._begun + PROGRESS, self._on_progress)
        self._pulse(self._begun)
        crowd.run(lambda: not self._stopped)
        took = crowd.now() - self._begun
        at_end = self.seen.open
        self.seen.ends = True
        for player in self._players:
            player.link.close()
        crowd.close(GOODBYE)
        self._report(took, at_end)
        return self.seen.most_open > 0

    # For the players, on the thread of the crowd.

    def ended(self) -> None:
        """Note that a bot has ended."""
        if all(player.ended for player in self._players):
            self.stop()

    def at(self, delay: float, step: Callable[[], object]) -> None:
        """Run a step after some seconds."""
        self._crowd.at(self._crowd.now() + delay, step)

    def _pulse(self, due: float) -> None:
        """Measure how late the bots run themselves, because a busy machine delays all figures."""
        now = self._crowd.now()
        self.seen.own_lateness.add(now - due)
        following = max(due + PULSE, now)
        self._crowd.at(following, lambda: self._pulse(following))

    def link(self) -> Link:
        """Return a new link."""
        return self._crowd.link(self._plan.url, **self._plan.options)

    @property
    def bot(self) -> Bot:
        """The program of each player."""
        return self._plan.bot

    # The report.

    def _on_progress(self) -> None:
        seen = self.seen
        messages, size = seen.messages, sum(player.received for player in self._players)
        old_messages, old_size, before = seen.marked
        seen.marked = (messages, size, self._crowd.now())
        passed = max(self._crowd.now() - before, 0.001)
        late = seen.recent.percentile(0.99)
        seen.recent = Samples()
        parts = [
            f"{self._crowd.now() - self._begun:5.0f} s",
            f"{seen.open} open",
            f"{(messages - old_messages) / passed:,.0f} messages/s",
            f"{(size - old_size) / passed / 1e6:.2f} MB/s",
        ]
        if late is not None:
            parts.append(f"late p99 {late * 1000:.1f} ms")
        parts += [f"{seen.gaps} gaps", f"{sum(seen.closes.values())} closes"]
        self._say("  ".join(parts))
        self._crowd.at(self._crowd.now() + PROGRESS, self._on_progress)

    def _report(self, took: float, at_end: int) -> None:
        seen = self.seen
        took = max(took, 0.001)
        received = sum(player.received for player in self._players)
        sent = sum(player.sent for player in self._players)
        trips = Samples()
        for player in self._players:
            if player.link.rtt is not None:
                trips.add(player.link.rtt)
        self._say(f"{self._plan.count} bots, {took:.1f} s, {self._plan.url}")
        self._row("open", f"{seen.most_open} at the most, {at_end} at the end")
        self._row("connecting", seen.connecting.text())
        self._row("received", _amount(seen.messages, received, took))
        self._row("sent", _amount(seen.sent, sent, took))
        self._row("lateness", seen.lateness.text("messages with a time"))
        self._row("round trip", trips.text())
        self._row("gaps", f"{seen.gaps} missed, {seen.resynced} whole states instead of patches")
        self._row("closes", _counts(seen.closes))
        self._row("refused", _counts(seen.refused))
        self._row("bots failed", _counts(seen.failures))
        self._row("own lateness", f"of the bots' machine: {seen.own_lateness.text()}")

    def _row(self, name: str, text: str) -> None:
        self._say(f"  {name:<12} {text}")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class Samples:
    """Measured seconds.  Of many measurements, ``SAMPLES`` are kept, chosen at random."""

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._count = 0
        self._most = 0.0

    def add(self, value: float) -> None:
        """Keep a measurement."""
        self._count += 1
        self._most = max(self._most, value)
        if len(self._kept) < SAMPLES:
            self._kept.append(value)
        elif (place := random.randrange(self._count)) < SAMPLES:
            self._kept[place] = value

    def percentile(self, share: float) -> float | None:
        """Return the value that this share of the measurements does not exceed."""
        if not self._kept:
            return None
        return sorted(self._kept)[min(len(self._kept) - 1, int(share * len(self._kept)))]

    def text(self, nothing: str = "") -> str:
        """Return a text with percentiles of the measurements, in milliseconds.

        :param nothing: the name of the missing things, for a text without measurements.
        """
        half, most = self.percentile(0.5), self.percentile(0.99)
        if half is None or most is None:
            return f"no {nothing or 'measurement'}"
        return (
            f"p50 {half * 1000:.1f} ms, p99 {most * 1000:.1f} ms, "
            f"at the most {self._most * 1000:.1f} ms"
        )


class Seen:
    """The counters and measurements of all bots."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.messages = 0
        self.sent = 0
        self.gaps = 0
        self.resynced = 0
        self.open = 0
        self.most_open = 0
        self.marked = (0, 0, 0.0)
        self.ends = False
        """True once the run is over.  Connections that end from then on do not count."""
        self.closes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.connecting = Samples()
        self.lateness = Samples()
        self.recent = Samples()
        self.own_lateness = Samples()


class _Player:
    """One bot: its link, and its program."""

    def __init__(self, bots: Bots, number: int) -> None:
        self._bots = bots
        self._number = number
        self._program: Generator[object, None, object] | None = None
        self._tried_at = 0.0
        self._states: dict[object, int] = {}  # the number of the last state of each room
        self._open = False
        self.begun = False
        self.ended = False
        self.link = bots.link()
        machine: Any = self.link._machine
        for name in ("_on_message", "on_closed", "on_refused", "on_unreachable", "begin", "post"):
            _tap(machine, name, getattr(self, f"_{name.lstrip('_')}"))
        self.link.on("state", self._on_state)
        self.link.on("open", self._on_open)

    @property
    def received(self) -> int:
        """The number of received bytes."""
        return self._driver.received

    @property
    def sent(self) -> int:
        """The number of sent bytes."""
        return self._driver.sent

    @property
    def _driver(self) -> CrowdDriver:
        driver = self.link._driver
        assert isinstance(driver, CrowdDriver)
        return driver

    def begin(self) -> None:
        """Connect."""
        self.link.connect()

    # Calls of the link's machine.  ``_tap`` has each of these called just before the machine.

    def _begin(self, epoch: int) -> None:
        self._tried_at = self._bots.seen.now()

    def _post(self, data: object, **how: object) -> None:
        self._bots.seen.sent += 1

    def _on_closed(self, code: int, reason: str) -> None:
        if not self._bots.seen.ends:
            self._bots.seen.closes[f"{code} {reason}".strip()] += 1

    def _on_refused(self, status: int | None, text: str, retry_after: float) -> None:
        self._bots.seen.refused[text if status is None else str(status)] += 1

    def _on_unreachable(self, reason: str) -> None:
        self._bots.seen.refused[reason] += 1

    def _on_message(self, data: str | bytes, message: object) -> None:
        seen = self._bots.seen
        seen.messages += 1
        if not isinstance(message, dict):
            return
        if message.get("type") == "hub:gap":
            seen.gaps += 1
        inner = message.get("data")
        body = inner if "type" not in message and isinstance(inner, dict) else message
        time: Any = body.get("time")
        if type(time) in (int, float) and self.link.rtt is not None:
            late = self.link.now() - time / 1000
            seen.lateness.add(late)
            seen.recent.add(late)
        if body.get("type") == "hub:state" and "mine" not in body:
            self._on_number(body)

    def _on_number(self, body: dict[str, Any]) -> None:
        room, number = body.get("room"), body.get("n")
        known = self._states.get(room)
        if type(number) is not int:
            return
        if known is not None and "full" in body:
            self._bots.seen.resynced += 1
        elif known is not None and number != known + 1:
            self._bots.seen.gaps += 1
        self._states[room] = number

    def _on_state(self, state: str, reason: str) -> None:
        if self._open and state != "open":
            self._open = False
            self._bots.seen.open -= 1
            self._states.clear()
        if state == "ended":
            self._bots.seen.refused[reason] += 1
            self._end()

    def _on_open(self) -> None:
        seen = self._bots.seen
        seen.connecting.add(seen.now() - self._tried_at)
        self._open = True
        seen.open += 1
        seen.most_open = max(seen.most_open, seen.open)
        if not self.begun:
            self.begun = True
            self._run(self._first)

    # The program.

    def _first(self) -> None:
        made = self._bots.bot(self.link)
        if isinstance(made, Generator):
            self._program = made
            self._next()

    def _next(self) -> None:
        assert self._program is not None
        try:
            wait: Any = next(self._program)
        except StopIteration:
            self._end()
            return
        good = type(wait) in (int, float) and 0 <= wait < math.inf
        if not good:
            raise WrongValue(f"a bot yields the seconds that it waits, got {wait!r}")
        # The program runs as a callback of the link, so a blocking call raises DeadlockError.
        self._bots.at(wait, lambda: self.link._delivery.run_soon(lambda: self._run(self._next)))

    def _run(self, step: Callable[[], None]) -> None:
        if self.ended:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - counted, and shown once of each kind
            kind = f"{type(error).__name__}: {error}"
            if not self._bots.seen.failures[kind]:
                traceback.print_exc(file=sys.stderr)
            self._bots.seen.failures[kind] += 1
            self._end()

    def _end(self) -> None:
        if not self.ended:
            self.ended = True
            self.link.close()
            self._bots.ended()


def _tap(machine: Any, name: str, hear: Callable[..., None]) -> None:
    """Have ``hear`` called with the arguments of each call of a machine's method, before it."""
    method = getattr(machine, name)

    def heard(*arguments: Any, **more: Any) -> Any:
        hear(*arguments, **more)
        return method(*arguments, **more)

    setattr(machine, name, heard)


def _amount(messages: int, size: int, seconds: float) -> str:
    return (
        f"{messages:,} messages, {size / 1e6:,.2f} MB: "
        f"{messages / seconds:,.0f} messages and {size / seconds / 1e6:,.2f} MB a second"
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} times {text}" for text, count in counts.most_common(5)) or "none"
