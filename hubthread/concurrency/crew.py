"""A crew: many quiet parts on few threads, and none of them held up by one that blocks.

Layer: concurrency.  Threads: the methods of ``Crew`` and ``Monitor`` may be called on any
thread; steps and ``Source.wait`` run on the crew's threads.

A *source* knows when there is something to do, and returns *steps*: short functions that do
it.  One thread of a crew leads: it waits for the source, and runs the steps itself, one after
another, so that work is not handed from thread to thread.  If a step blocks, another thread
takes the lead and goes on with the steps that wait:

* at once, if the step is about to wait inside the library: ``about_to_wait``;
* after two looks of the monitor, if it waits elsewhere, also for the GIL;
* after five looks, if it computes without the GIL, or waits for a core on a busy machine.

The thread that was left behind finishes its step, and then rests as a spare for a while.  So a
crew has one thread for each step that blocks at the moment, and a constant number besides.

How one thread at a time leads.  ``Crew._leader`` says who leads, and changes only under the
lock, and only while the old leader is not waiting for the source.  A leader that has been left
behind notices at its next look at ``_leader``, between two steps; if it has taken one more step
by then, it runs that step beside the new leader, which does no harm: each step is taken once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Protocol, TypeAlias

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import is_runnable

__all__ = [
    "Crew",
    "Monitor",
    "Source",
    "StartThread",
    "Step",
    "about_to_wait",
    "forget_crews",
    "leads",
    "only_waits",
]

HANDOVER = 0.0025
"""Seconds between two looks of the monitor: a step that blocks is noticed after 1 to 2 of them."""

PATIENCE = 4
"""Looks in a row at a step that makes no progress, after which its thread is left behind although
it needs nothing but a core.  Another thread would need one too, and each change of threads costs
time just when time is short."""

LINGER = 2.0
"""Seconds for which a thread that was left behind stays as a spare."""

Step: TypeAlias = Callable[[], object]
"""Something that is ready to be done.  It must not raise: what it raises is logged as a bug."""

StartThread: TypeAlias = Callable[[Callable[[], None], str], None]
"""Runs a function on a new thread, whose name ends in the second argument.  It raises
``RuntimeError`` if the system cannot start a thread."""


class Source(Protocol):
    """A thing that knows when there is something to do: the maker of steps."""

    def wait(self) -> Iterable[Step] | None:
        """Wait until there are steps to run, and return them, in their order.

        Only one thread of the crew is in it at a time.  The steps may come from a generator,
        which is used up before the first of them runs.  A step that has been returned, and has
        not come to its end, must not be returned again.

        :returns: ``None`` if nothing is left to wait for: the crew ends its threads.  From
            then on ``Crew.start`` is due again when there is something.
        """


class _Hand:
    """One thread of a crew."""

    __slots__ = ("after", "bell", "count", "crew", "name", "step", "thread", "waits")

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.thread: threading.Thread | None = None
        self.name = ""  # of the thread while it leads, or rests
        self.bell = Bell()  # wakes a spare
        self.count = 0  # the number of steps that it has begun
        self.step: Step | None = None  # the step of that number
        self.waits = False  # True while it waits for the source
        # The step that blocks, for whose thread this one is to take over.
        self.after: tuple[_Hand, int] | None = None


_MONITOR = "monitor"

_hands: dict[int, _Hand] = {}  # by the ident of their threads


def about_to_wait() -> None:
    """Let another thread lead, if the calling thread leads a crew: its step is going to wait.

    Call it without any lock.  If the step does not wait for long, nothing changes.
    """
    hand = _hands.get(get_ident())
    if hand is not None:
        hand.crew._call_another(hand, hand.count)


def leads() -> bool:
    """Return False if the calling thread belongs to a crew, and another one leads it."""
    hand = _hands.get(get_ident())
    return hand is None or hand.crew._leader is hand


def only_waits(thread: threading.Thread) -> bool:
    """Return True if ``thread`` belongs to a crew, and runs no step at the moment."""
    hand = _hands.get(thread.ident or 0)
    return thread.name.endswith(_MONITOR) if hand is None else hand.step is None


def forget_crews() -> None:
    """End all crews in a forked child, whose only thread may be one of them."""
    for hand in list(_hands.values()):
        hand.crew._forget()
    _hands.clear()


class Crew:
    """Threads that lead in turn: see the docstring of the module.

    :param start_thread: starts the threads of the crew.
    :param name: the first part of the threads' names, ``<name>-<number>``.
    :param monitor: looks after this crew and others.
    :param on_handover: called with the step that was left behind, on the thread that now
        leads, while the step still runs or just after it.  It must not raise, and not wait.
        It may return a name for the step: the name of its thread ends in it until it is done.
    """

    def __init__(
        self,
        source: Source,
        start_thread: StartThread,
        name: str,
        monitor: Monitor,
        incidents: Incidents,
        on_handover: Callable[[Step], str | None] | None = None,
    ) -> None:
        self._source = source
        self._start_thread = start_thread
        self._name = name
        self._monitor = monitor
        self._incidents = incidents
        self._on_handover = on_handover
        self._ready: deque[Step] = deque()  # taken with popleft, which is atomic
        self._lock = threading.RLock()  # guards what follows; not held while a step runs
        self._leader: _Hand | None = None
        self._coming: _Hand | None = None  # a thread that was called to lead
        self._spares: list[_Hand] = []
        self._number = 0

    def start(self) -> None:
        """Start the thread that leads first.

        Call it when the crew is new, and again after ``Source.wait`` has returned ``None``.

        :raises RuntimeError: if the system cannot start a thread.
        """
        hand = _Hand(self)
        with self._lock:
            self._leader = hand
            self._monitor.watch(self)
        try:
            self._start(hand)
        except BaseException:
            # After an interrupt the thread may run all the same: it ends then.
            self._resign(hand)
            raise

    def _start(self, hand: _Hand) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        self._start_thread(partial(self._run, hand), f"{self._name}-{number}")

    # The threads of the crew.

    def _run(self, hand: _Hand) -> None:
        try:
            _hands[get_ident()] = hand
            hand.thread = threading.current_thread()
            hand.name = hand.thread.name
            while True:
                try:
                    self._take_over(hand)
                    self._lead(hand)
                    if not self._rest(hand):
                        return
                except BaseException as error:  # noqa: BLE001 - logged; the thread goes on
                    hand.waits = False
                    self._log(error)
                    hand.bell.wait(HANDOVER)  # a source that fails again must not keep it busy
        finally:
            _hands.pop(get_ident(), None)
            self._leave(hand)

    def _take_over(self, hand: _Hand) -> None:
        """Take the lead if the step that ``hand`` was called for still blocks its thread."""
        with self._lock:
            if self._coming is hand:
                self._coming = None
            if hand.after is None:
                return
            leader, count = hand.after
            hand.after = None
            if self._leader is not leader or leader.count != count or leader.waits:
                return
            step = leader.step
            self._leader = hand
            if self._on_handover is not None and step is not None:
                what = self._on_handover(step)
                if what is not None and leader.thread is not None:
                    leader.thread.name = f"{leader.name}-{what}"

    def _lead(self, hand: _Hand) -> None:
        """Run steps until another thread leads, or the source has come to its end."""
        ready, monitor = self._ready, self._monitor
        while self._leader is hand:
            if ready:
                try:
                    step = ready.popleft()
                except IndexError:  # a thread that has just been left behind was quicker
                    continue
                hand.step = step
                hand.count += 1
                try:
                    step()
                except BaseException as error:  # noqa: BLE001 - logged
                    self._log(error)
                # A thread that is left behind from now on has left no step.  The step is not
                # kept alive during the wait.
                step = hand.step = None  # type: ignore[assignment]
                continue
            with self._lock:
                if self._leader is not hand:
                    return
                hand.waits = True
            try:
                steps = self._source.wait()
                if steps is None:
                    self._resign(hand)
                    return
                ready.extend(steps)
                steps = None  # not kept alive either
            finally:
                hand.waits = False
            if monitor.asleep:
                monitor.wake()

    def _resign(self, hand: _Hand) -> None:
        """End the threads of the crew: there is nothing left to do."""
        with self._lock:
            if self._leader is not hand:  # it has been started again meanwhile
                return
            self._monitor.forget(self)
            for spare in self._spares:
                spare.bell.ring()
            self._leader = None  # the last step: it is done again if an exception strikes

    def _rest(self, hand: _Hand) -> bool:
        """Wait to be called; return False if the thread is to end."""
        hand.step = None
        with self._lock:
            if hand.thread is not None:
                hand.thread.name = hand.name
            if self._leader is None:
                return False
            if self._leader is hand:
                return True
            if hand not in self._spares:
                self._spares.append(hand)
        hand.bell.wait(LINGER)
        with self._lock:
            if hand not in self._spares:
                return True
            self._spares.remove(hand)
            return self._leader is hand

    def _leave(self, hand: _Hand) -> None:
        """Forget the calling thread; if it leads, which only a strike can cause, replace it."""
        with self._lock:
            if hand in self._spares:
                self._spares.remove(hand)
            if self._coming is hand:
                self._coming = None
            if self._leader is not hand:
                return
        self.start()

    def _log(self, error: BaseException) -> None:
        text = "a bug in hubthread: a step of %s raised"
        self._incidents.log_exception(error, text, self._name, level=logging.CRITICAL)

    # Any thread.

    def _call_another(self, hand: _Hand, count: int) -> None:
        """Have another thread take the lead, if step number ``count`` of ``hand`` still runs."""
        with self._lock:
            if self._leader is not hand or hand.waits:
                return
            if self._coming is not None:
                self._coming.after = (hand, count)
                return
            spare = self._spares.pop() if self._spares else None
            coming = self._coming = spare or _Hand(self)
            coming.after = (hand, count)
        try:
            if spare is not None:
                spare.bell.ring()
            else:
                self._start(coming)
        except BaseException as error:
            with self._lock:
                if self._coming is coming:
                    self._coming = None
            if not isinstance(error, RuntimeError):
                raise
            # The monitor tries again, for as long as the step blocks.
            text = "no thread for %s: its other steps wait for one that blocks (%s)"
            kind = "no thread for a crew"
            self._incidents.log_limited(kind, logging.ERROR, text, self._name, error)

    def _progress(self) -> tuple[_Hand | None, int, bool]:
        """Return the leader, the number of its step, and True if it waits for the source."""
        leader = self._leader
        return (None, 0, True) if leader is None else (leader, leader.count, leader.waits)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._leader = None
        self._spares = []


class Monitor:
    """One thread that notices steps which block, in any number of crews.

    It looks every ``handover`` seconds while steps run, and sleeps without a time-out while
    all leaders wait.  It starts with the first step and ends with the last crew.

    :param start_thread: starts the monitor's thread.
    """

    def __init__(
        self, start_thread: StartThread, incidents: Incidents, handover: float = HANDOVER
    ) -> None:
        self._start_thread = start_thread
        self._incidents = incidents
        self._handover = handover
        self._bell = Bell()
        self.asleep = True
        """True if a leader that begins to work has to call ``wake``."""
        self._lock = threading.RLock()  # guards what follows
        self._crews: dict[Crew, None] = {}
        self._running = False

    def watch(self, crew: Crew) -> None:
        """Look after ``crew`` from now on."""
        with self._lock:
            self._crews[crew] = None

    def forget(self, crew: Crew) -> None:
        """Look after ``crew`` no more; the last one ends the thread."""
        with self._lock:
            self._crews.pop(crew, None)
            if not self._crews:
                self._bell.ring()

    def wake(self) -> None:
        """Look soon: a leader has begun to work."""
        with self._lock:
            self.asleep = False
            start, self._running = not self._running, True
        if not start:
            self._bell.ring()
            return
        try:
            self._start_thread(self._run, _MONITOR)
        except BaseException as error:
            self._stop()
            if not isinstance(error, RuntimeError):
                raise
            text = "no thread to notice callbacks that block: they hold up others (%s)"
            self._incidents.log_limited("no monitor", logging.ERROR, text, error)

    def _stop(self) -> None:
        with self._lock:
            self._running = False
            self.asleep = True

    def _run(self) -> None:
        last: dict[Crew, tuple[_Hand | None, int, bool]] = {}
        looks: dict[Crew, int] = {}  # in a row that have found the same step
        try:
            while True:
                with self._lock:
                    if not self._crews:
                        self._stop()
                        return
                    crews = list(self._crews)
                now = {crew: crew._progress() for crew in crews}
                looks = {
                    crew: looks.get(crew, 0) + 1
                    for crew, (leader, _, waits) in now.items()
                    if leader is not None and not waits and last.get(crew) == now[crew]
                }
                for crew, number in looks.items():
                    leader, count, _ = now[crew]
                    assert leader is not None
                    thread = leader.thread
                    if number >= PATIENCE or thread is None or not is_runnable(thread):
                        crew._call_another(leader, count)
                if now != last or not self._all_wait(now):
                    last = now
                    self._bell.wait(self._handover)
                    continue
                self.asleep = True
                # A leader that has begun before it could see ``asleep`` is seen here.
                if now == {crew: crew._progress() for crew in crews}:
                    self._bell.wait(None)
                self.asleep = False
        except BaseException:
            self._stop()
            raise

    def _all_wait(self, now: dict[Crew, tuple[_Hand | None, int, bool]]) -> bool:
        return all(waits for _, _, waits in now.values())
