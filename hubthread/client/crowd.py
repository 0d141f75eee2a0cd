"""Many links on few threads: one thread reads and runs every callback, a few others connect.

Layer: client.  Threads: the thread in ``Crowd.run`` reads, and runs the callbacks of all links.
The threads called *diallers* open connections and end them, because both wait for a server.
"""

from __future__ import annotations

import heapq
import itertools
import math
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from hubthread.client.interfaces import Task
from hubthread.client.link import Link
from hubthread.client.socket_driver import Dialed, SocketDriver
from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.threads import Threads
from hubthread.net.dial import detach
from hubthread.net.readiness import READ, open_readiness
from hubthread.net.waker import Waker

__all__ = ["Crowd", "CrowdDriver"]

DIALLERS = 8
"""The number of diallers."""

Step = Callable[[], object]


class Crowd:
    """Runs the links that ``link`` has made.

    Threads: one thread calls ``run``.  This thread calls ``link`` and ``at``, or another thread
    calls them before ``run``.
    """

    def __init__(self) -> None:
        self.now = SocketDriver.now
        self._readiness = open_readiness()
        self.waker = Waker()
        # Never rung, so an unwanted attempt of a dialler ends by itself.
        self._deaf = Waker()
        self._readiness.register(self.waker.fileno(), READ, self.waker.clear)
        self._woken: deque[CrowdDriver] = deque()
        self._timers: list[tuple[float, int, Step]] = []
        self._serials = itertools.count()
        self._work: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._diallers: list[threading.Thread] = []
        self._thread: int | None = None

    def link(self, url: str, **options: Any) -> Link:
        """Return a link that this crowd runs.

        :param options: fields of ``LinkOption``, as for ``Link``.
        """
        return Link._over(partial(CrowdDriver, crowd=self), url, options)

    def at(self, due: float, step: Step) -> None:
        """Run ``step`` at the time ``due`` of the clock ``now``."""
        heapq.heappush(self._timers, (due, next(self._serials), step))

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Run all links while ``goes_on()`` returns True."""
        self._thread = thread_id()
        for number in range(DIALLERS):
            thread = threading.Thread(
                target=self._dial_all, name=f"hubthread-dial-{number}", daemon=True
            )
            thread.start()
            self._diallers.append(thread)
        steps: list[Any] = []
        while goes_on():
            wait = self._timers[0][0] - self.now() if self._timers else None
            late = self._readiness.ready(None if wait is None else max(0.0, wait), steps)
            for step in (*steps, *(step for step, _ in late)):
                step()
            steps.clear()
            while self._timers and self._timers[0][0] <= self.now():
                heapq.heappop(self._timers)[2]()
            while self._woken:
                self._woken.popleft().look()

    def close(self, timeout: float) -> None:
        """Release everything, after ``run``.  Ending connections takes at most ``timeout``."""
        while self._woken:
            self._woken.popleft().look()
        for _ in self._diallers:
            self._work.put(None)
        due = self.now() + timeout
        for thread in self._diallers:
            thread.join(max(0.0, due - self.now()))
        if not any(thread.is_alive() for thread in self._diallers):
            self._end_late()
        self._readiness.close()
        self.waker.close()
        self._deaf.close()

    def _end_late(self) -> None:
        """End the connections that diallers have opened last: at most one each."""
        while self._woken:
            self._woken.popleft().look()
        while not self._work.empty():
            work = self._work.get()
            if work is not None:
                work()

    def wake(self, driver: CrowdDriver) -> None:
        """Call ``driver.look`` soon.  Any thread."""
        self._woken.append(driver)
        if thread_id() != self._thread:
            self.waker.ring()

    def watch(self, fd: int, step: Callable[[], None]) -> None:
        """Run ``step`` whenever there is something to read."""
        self._readiness.register(fd, READ, step)

    def forget(self, fd: int) -> None:
        """Stop watching a descriptor."""
        self._readiness.unregister(fd)

    def aside(self, work: Callable[[Waker], object]) -> None:
        """Run ``work``, which may wait, on a dialler."""
        self._work.put(partial(work, self._deaf))

    def _dial_all(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class _Open(NamedTuple):
    """The connection of a link."""

    epoch: int
    connection: Any
    fd: int


class CrowdDriver(SocketDriver):
    """The driver of one link of a crowd.  See ``SocketDriver``."""

    def __init__(self, link: Any, crowd: Crowd) -> None:
        super().__init__(link)
        self._crowd = crowd
        self._queued = False
        self._scheduled = math.inf
        self._open: _Open | None = None
        self._arrived: deque[tuple[int, Dialed]] = deque()  # the connections of diallers
        self.received = 0
        """The number of received bytes."""
        self.sent = 0
        """The number of bytes and characters in sent messages."""

    def wake(self) -> None:
        """See ``Driver``."""
        if not self._queued:
            self._queued = True
            self._crowd.wake(self)

    def send(self, data: str | bytes) -> None:
        """See ``Driver``."""
        self.sent += len(data)
        super().send(data)

    def start(self) -> None:
        """See ``Work``."""
        self._threads = Threads(f"hubthread-{self._link._name}", self._link._incidents)
        self.wake()

    def stop(self, timeout: float) -> None:
        """Do nothing, because the crowd goes on for its other links.  See ``Work``."""

    def look(self) -> None:
        """Run due deadlines, attempts and callbacks of the link.  The thread of the crowd."""
        self._queued = False
        link = self._link
        machine, delivery = link._machine, link._delivery
        while self._arrived:
            self._take_over(*self._arrived.popleft())
        delivery.run_events()
        with link._lock:
            if machine.due() <= self.now():
                machine.on_time()
            task, due, epoch = machine.task(), machine.due(), machine.epoch
        if self._open is not None and self._open.epoch != epoch:
            self._let_go()
        if task is not None:
            self._crowd.aside(partial(self._fetch, task))
        delivery.run_events()
        if due < self._scheduled:
            self._scheduled = due
            self._crowd.at(due, self._on_time)

    def _on_time(self) -> None:
        self._scheduled = math.inf
        self.look()

    def _fetch(self, task: Task, waker: Waker) -> None:
        """Open a connection, on a dialler."""
        dialed = self._dial(task, waker)
        if dialed is not None:
            self._arrived.append((task.epoch, dialed))
        self.wake()

    def _take_over(self, epoch: int, dialed: Dialed) -> None:
        """Read from a connection that a dialler has opened, from now on."""
        connection = dialed.connection
        if not self._begin(epoch, dialed):
            self._crowd.aside(lambda waker: self._release(connection))
            return
        self._let_go()
        fd = detach(connection.transport)
        self._open = _Open(epoch, connection, fd)
        self._crowd.watch(fd, self._on_readable)
        if not self._receive(epoch, connection, dialed.rest):
            self._let_go()
        self.wake()

    def _on_readable(self) -> None:
        if self._open is None:
            return
        epoch, connection, _ = self._open
        if not self._read(epoch, connection):
            self._let_go()
        self.look()

    def _receive(self, epoch: int, connection: Any, data: bytes) -> bool:
        self.received += len(data)
        return super()._receive(epoch, connection, data)

    def _let_go(self) -> None:
        """End the connection, if there is one.  A dialler does the part that may wait."""
        if self._open is not None:
            _, connection, fd = self._open
            self._open = None
            self._crowd.forget(fd)
            self._crowd.aside(lambda waker: self._release(connection))
