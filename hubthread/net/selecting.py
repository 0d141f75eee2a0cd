"""The connections of one crew: their ready sockets, and their deadlines.

Layer: net.  Threads: one thread at a time is in ``Selecting.wait``; any thread may call the other
methods.

A ``Selecting`` is the source of a crew (``concurrency/crew.py``), and a ``Watch`` is one of its
connections.  The watch holds the generator of the connection (``steps.py``), and resumes it when
the socket is ready.

A step of a watch may be left behind on a thread that blocks, while another thread leads.  The
socket of the watch may become readable meanwhile.  The new leader then finds the watch taken, and
only then takes the socket out of the selector.  The thread that was left behind puts the socket
back.  So a message costs no system call for this.

A deadline is re-armed lazily.  The heap has one entry for each watch.  When an entry is due, and
the connection has received something meanwhile, the entry goes back into the heap.  The entries of
ended connections are removed together, before they are half of the heap.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from time import monotonic
from types import GeneratorType
from typing import Any

from hubthread.concurrency.crew import leads
from hubthread.concurrency.fairness import SLICE, fan_outs, yield_gil
from hubthread.concurrency.flusher import Corked
from hubthread.concurrency.habits import HOOKS, Habits
from hubthread.net.readiness import READ, WRITE, open_readiness
from hubthread.net.steps import Drained, Shared, Steps, Writable, Writer

__all__ = ["Selecting", "Watch"]

_LONGEST = 1_000_000.0
"""The most seconds of one wait.  A selector refuses a number that is far larger."""

_SPARE_ENTRIES = 64
"""Entries of ended connections that may stay in the heap of an idle hub."""

Step = Callable[[], None]


class Selecting:
    """The sockets and deadlines of one crew's connections."""

    def __init__(self) -> None:
        self._readiness = open_readiness()
        self._waker, self._bell = socket.socketpair()
        self._waker.setblocking(False)
        self._bell.setblocking(False)
        self._readiness.register(self._waker.fileno(), READ, self._hear)
        self.lock = threading.RLock()  # guards what follows, and the watches' registration
        self._heap: list[tuple[float, int, Watch]] = []
        self._tie = count()
        self._posted: deque[Step] = deque()
        self._until = -math.inf  # the end of the wait, while a thread waits
        self._watches: set[Watch] = set()
        self.closed = False
        """True after ``close``."""
        self.ended = False
        """True if no thread waits any more."""
        self.habits = Habits()
        self.busy = False
        """True if a read has cost much CPU time since the last wait: others run first then."""
        self.now = monotonic()
        """The time at which the last wait has ended."""
        # Seconds of steps, minus seconds of waits.  It grows under a flood, where no wait lasts.
        self._work = 0.0

    # The leader.

    def wait(self) -> list[Step] | None:
        """Wait for ready sockets and deadlines; return the steps of their connections.

        :returns: None if the source is closed and its last connection has ended.  A step that
            runs on a thread that was left behind then goes on alone to the end of its connection.
        """
        began = monotonic()
        self._work += began - self.now
        if self.busy:
            self.busy = False
            yield_gil()
            began = monotonic()
        elif fan_outs.running and self._work >= SLICE:
            fan_outs.wait_for_one()
            self._work = 0.0
            began = monotonic()
        with self.lock:
            if self.closed and all(watch.taken for watch in self._watches):
                self._release()
                return None
            heap = self._heap
            due = heap[0][0] if heap else math.inf
            self._until = -math.inf if self._posted else due
            timeout: float | None = None
            if self._posted:
                timeout = 0.0
            elif heap:
                timeout = due - began
                if not 0.0 < timeout < _LONGEST:
                    timeout = 0.0 if timeout <= 0.0 else _LONGEST
        steps: list[Step] = []
        others = self._readiness.ready(timeout, steps)
        self._until = -math.inf
        self.now = now = monotonic()
        self._work = max(0.0, self._work + began - now)
        for step, mask in others:
            if mask & WRITE:
                steps.append(step.__self__.write)  # type: ignore[attr-defined]  # a watch
            if mask & READ:
                steps.append(step)
        if due <= now:
            steps += self._overdue(now)
        while self._posted:
            steps.append(self._posted.popleft())
        return steps

    def _hear(self) -> None:
        """Read the bytes that ``wake`` has sent."""
        with contextlib.suppress(OSError):  # there is none, or the source has ended meanwhile
            self._waker.recv(4096)

    def _overdue(self, now: float) -> Iterator[Step]:
        while True:
            with self.lock:
                if not self._heap or self._heap[0][0] > now:
                    return
                due, _, watch = heapq.heappop(self._heap)
                if due != watch.queued:
                    continue  # an earlier entry has replaced it
                watch.queued = math.inf
                step = watch.overdue(now)
                self._queue(watch, watch.next_due(now))
            if step is not None:
                yield step

    def _release(self) -> None:
        self.ended = True
        self._readiness.close()
        self._waker.close()
        self._bell.close()

    # Any thread.

    def wake(self) -> None:
        """Let ``wait`` return soon."""
        with contextlib.suppress(OSError):  # it is full, so it wakes already; or all has ended
            self._bell.send(b"x")

    def post(self, step: Step) -> None:
        """Have ``wait`` return ``step``."""
        with self.lock:
            self._posted.append(step)
            waiting = self._until > -math.inf
        if waiting:
            self.wake()

    def schedule(self, watch: Watch, due: float) -> None:
        """Check the deadline of ``watch`` at the time ``due``, or earlier."""
        if due >= watch.queued:
            return
        with self.lock:
            self._queue(watch, due)
            early = due < self._until
        if early:
            self.wake()

    def _queue(self, watch: Watch, due: float) -> None:
        if due < watch.queued:
            watch.queued = due
            heapq.heappush(self._heap, (due, next(self._tie), watch))

    def add(self, watch: Watch) -> None:
        """Take a connection in.

        :raises RuntimeError: when the source is closed.
        """
        with self.lock:
            if self.closed:
                raise RuntimeError("the hub is closed")
            self._watches.add(watch)

    def remove(self, watch: Watch) -> None:
        """Forget a connection."""
        with self.lock:
            self._watches.discard(watch)
            watch.queued = math.inf
            # A storm of short connections must not fill the memory until their deadlines.
            if len(self._heap) > 2 * len(self._watches) + _SPARE_ENTRIES:
                self._heap = [entry for entry in self._heap if entry[0] == entry[2].queued]
                heapq.heapify(self._heap)
        if self.closed:
            self.wake()

    def register(self, watch: Watch, before: int, mask: int) -> None:
        """Wait for the events ``mask`` of the watch's socket.  The caller holds the lock.

        :param before: the events that were waited for until now.
        """
        if self.ended:
            return
        if not before:
            self._readiness.register(watch.fd, mask, watch.ready)
        elif mask:
            self._readiness.modify(watch.fd, mask, watch.ready)
        else:
            self._readiness.unregister(watch.fd)
        if not self._readiness.live and self._until > -math.inf:
            self.wake()

    def close(self) -> None:
        """Accept no more connections, and end after the last of them."""
        with self.lock:
            self.closed = True
        self.wake()


class Watch:
    """One connection of a crew.

    A watch is also the flusher (``concurrency/flusher.py``) of its connection: an outbox that a
    step has corked is uncorked when the step is left behind.

    Threads: any thread may call ``start_writer`` and ``end``.  The threads of the crew call the
    other methods.

    :param sock: the socket, for its descriptor.
    """

    __slots__ = (
        "_corked", "_gone", "_left", "_mask", "_missed", "_next", "_outer", "_patience", "_since",
        "_source", "_steps", "_turn", "_wants", "_write_due", "_writer", "behind", "client", "fd",
        "habits", "queued", "ready",
    )  # fmt: skip

    def __init__(self, source: Selecting, sock: socket.socket) -> None:
        self._source = source
        self.fd = sock.fileno()
        self._turn = threading.Lock()  # taken while a step of the generator runs
        self._missed = False  # the socket was ready while a step was running
        self._gone = False
        self._mask = 0  # the events that the selector waits for
        self._wants = READ  # READ, WRITE, or 0 while the generator waits for the outbox
        self._steps: Steps[Any] | None = None
        self._outer: Steps[Any] | None = None
        self._next: Callable[[], Any] = _nothing
        self._writer: Writer | None = None  # while it waits for the socket
        self._corked: Corked | None = None
        self._left: tuple[object, float] | None = None  # the function that blocks, and since when
        self._since = source.now
        self._patience = math.inf
        self._write_due = math.inf
        self.habits = source.habits
        self.client: Shared | None = None
        self.behind = False
        """True if another thread leads since the last step of this watch began."""
        self.queued = math.inf
        """The time of the watch's entry in the heap."""
        self.ready = self.step
        """``step``, bound once."""

    def begin(self, steps: Steps[Any]) -> None:
        """Run ``steps``: on this thread up to the first ``yield``, and then on the crew.

        :raises RuntimeError: when the source is closed; the steps have not begun.
        """
        self._source.add(self)
        self._steps = steps
        self._next = steps.__next__
        with self._turn:
            try:
                self._expect(next(steps))
            except BaseException as error:
                self._steps = None
                self.end()
                if isinstance(error, StopIteration):  # all is done already
                    return
                raise
            with self._source.lock:
                self._refresh()
        if self._missed:
            self._catch_up()

    @property
    def seconds_left(self) -> float:
        """The rest of the seconds that the generator has yielded."""
        return self._since + self._patience - monotonic()

    @property
    def taken(self) -> bool:
        """True while a step of the generator runs."""
        return self._turn.locked()

    # The generator.

    def step(self) -> None:
        """Resume the generator, unless it still runs on a thread that was left behind."""
        if not self._turn.acquire(False):
            self._miss()
            return
        self.behind = False
        try:
            want = self._next()
            if want is None and not self.behind:
                self._since = self._source.now
            else:
                self._expect(want)
        except BaseException as error:  # noqa: BLE001 - StopIteration, or raised again
            self._expect(self._after(error))
        finally:
            self._turn.release()
            if self._missed:
                self._catch_up()
            if self._source.closed:
                self._go_on_alone()

    def _go_on_alone(self) -> None:
        """Run the generator to its end, if no thread waits for its socket any more."""
        with self._source.lock:  # ``Selecting.wait`` reads ``taken`` under it
            if not self._source.ended:
                return
        while self._steps is not None:
            with selectors.DefaultSelector() as selector:
                if self._wants and not self._gone:
                    selector.register(self.fd, self._wants)
                selector.select(min(max(0.0, self.seconds_left), 1.0))
            try:
                self._expect(self._next())
            except BaseException as error:  # noqa: BLE001 - StopIteration, or raised again
                self._expect(self._after(error))

    def _after(self, error: BaseException) -> Any:
        """Go on with the outer generator after the inner one has ended, or end.

        :returns: what the outer generator yields next.
        """
        outer, self._outer = self._outer, None
        self._steps = outer
        if outer is None:
            self._next = _nothing
            self.end()
            # Client and watch refer to each other, and would wait for the garbage collector.
            self.client = None
            if isinstance(error, StopIteration):
                return None
            raise error
        self._next = outer.__next__
        try:
            return next(outer) if isinstance(error, StopIteration) else outer.throw(error)
        except BaseException as another:  # noqa: BLE001 - the outer generator handles it
            return self._after(another)

    def _expect(self, want: Any) -> None:
        """Wait for the event that the generator has yielded."""
        while type(want) is GeneratorType:
            self._outer, self._steps = self._steps, want
            self._next = want.__next__
            try:
                want = want.__next__()
            except BaseException as error:  # noqa: BLE001 - the outer generator handles it
                want = self._after(error)
        if self._steps is None:
            return
        source = self._source
        self._since = monotonic()
        if self._left is not None:
            (running, when), self._left = self._left, None
            self.habits.took(running, self._since - when)
        wants = READ
        if want is not None:
            self._patience = float(want)
            wants = WRITE if type(want) is Writable else 0 if type(want) is Drained else READ
            source.schedule(self, self._since + self._patience)
        if wants != self._wants:
            with source.lock:
                self._wants = wants
                self._refresh()

    def _miss(self) -> None:
        """Take the socket out of the selector until the running step has ended."""
        with self._source.lock:
            self._missed = True
            self._refresh()
        if self._turn.acquire(False):  # the step ended meanwhile, perhaps before ``_missed``
            self._turn.release()
            self._catch_up()

    def _catch_up(self) -> None:
        """Put the socket back into the selector, after a step that has missed an event."""
        with self._source.lock:
            self._missed = False
            self._refresh()
        if not self._wants:
            self._source.post(self.ready)

    # The flusher.

    def watch(self, corked: Corked) -> bool:
        """Uncork ``corked`` when the running step is left behind; return False if it is."""
        self._corked = corked  # set before ``behind`` is read: see ``left_behind``
        # ``leads`` also finds a thread that was left behind just before its step began.
        if self.behind or not leads():
            self._corked = None
            return False
        return True

    def forget(self, corked: Corked) -> None:
        """Stop watching ``corked``."""
        self._corked = None

    def left_behind(self) -> str | None:
        """Note that another thread leads, while the step of this watch runs.

        :returns: the name of the client, for the name of the thread; None before the handshake.
        """
        self.behind = True
        corked = self._corked
        if corked is not None:
            corked.uncork()
        client = self.client
        if self._gone or not self.taken:  # a write, or the end of a step: no function blocks
            return None if client is None else client.name.replace(" ", "-")
        running = HOOKS if client is None else client.running
        self._left = running, monotonic()
        self.habits.blocked(running)
        return None if client is None else client.name.replace(" ", "-")

    def note_busy(self) -> None:
        """Let other threads run before the next wait: a read has cost much CPU time."""
        self._source.busy = True

    # The outbox.

    def start_writer(self, writer: Writer) -> None:
        """Have ``writer`` send its backlog when the socket takes bytes."""
        source = self._source
        with source.lock:
            if self._gone:
                return
            self._writer = writer
            self._write_due = monotonic() + writer.write_wait
            self._refresh()
        source.schedule(self, self._write_due)

    def write(self) -> None:
        """Send the backlog, because the socket takes bytes; or resume the generator."""
        if self._wants == WRITE:
            self.step()
        else:
            self._write(writable=True)

    def _write_late(self) -> None:
        """Try to send, although the socket has not said that it takes bytes."""
        self._write(writable=False)

    def _write(self, *, writable: bool) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.write_some(writable=writable):
            self._write_due = monotonic() + writer.write_wait
            self._source.schedule(self, self._write_due)
            return
        with self._source.lock:
            if not writer.has_writer:
                self._writer = None
                self._write_due = math.inf
            self._refresh()
        if not self._wants:
            self.step()

    # For the source.  The caller holds its lock.

    def overdue(self, now: float) -> Step | None:
        """Return the step that is due, if one is."""
        if self._write_due <= now:
            return self._write_late
        return self.ready if self._since + self._patience <= now else None

    def next_due(self, now: float) -> float:
        """Return the time at which the deadlines are to be checked again."""
        due = self._since + self._patience
        if due <= now:  # the step that runs next sets a new time, unless the watch is taken
            due = now + max(self._patience, 0.01)
        return min(due, self._write_due if self._write_due > now else math.inf)

    def _refresh(self) -> None:
        """Register the socket for the events that are waited for now."""
        mask = 0 if self._missed else self._wants
        if self._writer is not None:
            mask |= WRITE
        if self._gone:
            mask = 0
        if mask != self._mask:
            before, self._mask = self._mask, mask
            self._source.register(self, before, mask)

    def end(self) -> None:
        """Take the socket out of the selector, before it is closed.  Idempotent."""
        source = self._source
        with source.lock:
            if self._gone:
                return
            self._gone = True
            self._writer = None
            self._patience = self._write_due = math.inf
            self._refresh()
            self.ready = _nothing
        source.remove(self)


def _nothing() -> None:
    """Do nothing: the step of a connection that has ended."""
