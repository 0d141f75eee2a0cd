"""One client's order (G2): nothing overlaps, everything that was accepted runs once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hubthread.concurrency import strand as module
from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from hubthread.errors import ClientClosed, ExecTimeout, QueueFull
from tests.concurrency.made import Made
from tests.support import TIMEOUT, Items, Logs, in_thread, telling, together


class Late(Workers):
    """Workers that come when a test wants them to, on its own thread."""

    def __init__(self) -> None:
        super().__init__(Threads("test", telling(Logs())))
        self.due: list[Callable[[], None]] = []

    def submit(self, work: Callable[[], None]) -> None:
        self.due.append(work)


class AnyOrder(RuleBasedStateMachine):
    """A strand in one thread, with workers that come late, against the list of acceptance."""

    @initialize(bound=st.integers(1, 6))
    def begin(self, bound: int) -> None:
        self.workers = Late()
        self.reported: list[BaseException] = []
        self.strand = Strand(self.workers, bound, self.reported.append, "client 7")
        self.bound = bound
        self.accepted: list[int] = []
        self.ran: list[int] = []
        self.number = 0
        self.raised = 0
        self.inside = False
        self.closed = False

    def _work(self, number: int, more: int, raises: bool) -> int:
        self.ran.append(number)
        for _ in range(more):
            self._post(0, raises)
        if raises:
            raise ValueError(number)
        return number

    def _post(self, more: int, raises: bool) -> None:
        self.number += 1
        work = partial(self._work, self.number, more, raises)
        if self.closed:
            with pytest.raises(ClientClosed, match="client 7"):
                self.strand.post(work)
        elif self.strand.waiting() >= self.bound:
            with pytest.raises(QueueFull, match="client 7"):
                self.strand.post(work)
        else:
            self.accepted.append(self.number)
            self.raised += raises
            self.strand.post(work)

    @rule(more=st.integers(0, 3), raises=st.booleans())
    def post(self, more: int, raises: bool) -> None:
        self._post(more, raises)

    @precondition(lambda self: self.strand.runner is None and not self.closed)
    @rule()
    def call(self) -> None:
        self.number += 1
        self.accepted.append(self.number)
        assert self.strand.call(partial(self._work, self.number, 0, False)) == self.number

    @precondition(lambda self: self.workers.due)
    @rule()
    def a_worker_comes(self) -> None:
        assert not self.inside
        (work,) = self.workers.due
        self.workers.due.clear()
        work()
        assert self.ran == self.accepted

    @precondition(lambda self: self.strand.runner is None)
    @rule()
    def enter(self) -> None:
        self.strand.enter()
        self.inside = True

    @precondition(lambda self: self.inside)
    @rule()
    def message(self) -> None:
        """A message's handler runs, and asks for something at once."""
        assert self.strand.call(lambda: 5, timeout=0) == 5

    @precondition(lambda self: self.inside)
    @rule()
    def leave(self) -> None:
        self.inside = False
        self.strand.leave()
        assert self.ran == self.accepted or self.workers.due

    @precondition(lambda self: self.strand.runner is None and not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.accepted.append(-1)
        self.strand.close(lambda: self.ran.append(-1))
        assert self.ran == self.accepted

    @invariant()
    def in_the_order_of_acceptance(self) -> None:
        assert self.ran == self.accepted[: len(self.ran)]
        assert self.strand.waiting() == len(self.accepted) - len(self.ran)
        assert len(self.workers.due) <= 1
        if self.ran == self.accepted and not self.inside and not self.workers.due:
            assert self.strand.runner is None
            assert len(self.reported) == self.raised


TestAnyOrder = AnyOrder.TestCase


def test_order_under_contention(made: Made) -> None:
    """From many threads: nothing overlaps, all runs once, each thread's in its order."""
    seen: list[tuple[int, int]] = []
    busy = threading.Lock()

    def work(mark: tuple[int, int]) -> tuple[int, int]:
        assert busy.acquire(blocking=False)
        seen.append(mark)
        busy.release()
        return mark

    def use(number: int) -> None:
        for count in range(120):
            mark = (number, count)
            if number == 0:  # the reader
                made.strand.enter()
                work(mark)
                made.strand.leave()
            elif count % 5 == 0:
                timeout = TIMEOUT if count % 2 else None
                assert made.strand.call(partial(work, mark), timeout) == mark
            else:
                made.strand.post(partial(work, mark))

    together(5, use)
    made.strand.close(lambda: seen.append((5, 0)))
    assert not made.reported
    for number in range(5):
        assert [count for who, count in seen if who == number] == list(range(120))
    assert seen[-1] == (5, 0)


def test_a_post_before_the_reader_comes_runs_first(made: Made) -> None:
    """What was accepted before ``enter`` runs before the messages, what comes later after."""
    order = Items[str]()
    go, turn_over = threading.Event(), threading.Event()
    made.strand.post(lambda: go.wait(TIMEOUT))
    for number in range(3):
        made.strand.post(partial(order.add, f"before {number}"))

    def reader() -> None:
        made.strand.enter()
        order.add("message")
        turn_over.wait(TIMEOUT)
        order.add("message")
        made.strand.leave()

    reading = in_thread(reader)
    go.set()
    order.wait(4)
    for number in range(3):
        made.strand.post(partial(order.add, f"after {number}"))
    assert len(order.now()) == 4
    turn_over.set()
    reading()
    before, after = ([f"{when} {n}" for n in range(3)] for when in ("before", "after"))
    assert order.wait(8) == [*before, "message", "message", *after]


def test_between_two_turns_of_the_reader(made: Made) -> None:
    """A reader that enters again stands behind what was posted in its turn."""
    order: list[object] = []

    def reader() -> None:
        for turn in range(100):
            made.strand.enter()
            order.append(turn)
            for number in range(3):
                made.strand.post(partial(order.append, (turn, number)))
            made.strand.leave()

    in_thread(reader)()
    expected: list[object] = []
    for turn in range(100):
        expected += [turn, *((turn, number) for number in range(3))]
    assert order == expected


def test_the_reader_does_its_share(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its messages the reader runs a few closures; the rest goes to a worker, in order."""
    monkeypatch.setattr(module, "FAIR_SHARE", 3)
    seen = Items[tuple[int, int]]()
    reader = threading.get_ident()
    made.strand.enter()
    for number in range(10):
        made.strand.post(lambda number=number: seen.add((number, threading.get_ident())))  # type: ignore[misc]
    made.strand.leave()
    ran = seen.wait(10)
    assert [number for number, _ in ran] == list(range(10))
    assert [ident == reader for _, ident in ran] == [True] * 3 + [False] * 7


def test_where_calls_run(made: Made) -> None:
    """In its own turn at once; on an idle strand by the caller; with a time-out by a worker."""
    me = threading.get_ident()
    assert made.strand.call(threading.get_ident) == me
    assert made.strand.call(threading.get_ident, TIMEOUT) != me
    made.strand.enter()  # the worker may still hold the baton
    made.strand.leave()
    assert made.strand.call(lambda: made.strand.call(threading.get_ident, TIMEOUT)) == me
    made.strand.enter()
    assert made.strand.call(threading.get_ident) == me
    assert in_thread(made.strand.waiting)() == 0
    made.strand.leave()


def test_who_calls_does_its_own_only(made: Made) -> None:
    """A caller that ran its work itself does not stay for what others posted meanwhile."""
    go, ran = threading.Event(), threading.Event()

    def work() -> int:
        made.strand.post(lambda: go.wait(TIMEOUT))
        made.strand.post(ran.set)
        return 3

    assert made.strand.call(work) == 3
    assert not ran.is_set()
    go.set()
    assert ran.wait(TIMEOUT)


def test_a_call_that_takes_too_long(made: Made) -> None:
    """The caller is told what the strand is doing; its work still runs in its place."""
    go, order = threading.Event(), Items[int]()

    def a_slow_callback() -> None:
        busy.set()
        go.wait(TIMEOUT)

    busy = threading.Event()
    made.strand.post(a_slow_callback)
    assert busy.wait(TIMEOUT)
    with pytest.raises(ExecTimeout, match="a_slow_callback"):
        made.strand.call(lambda: order.add(1), 0.001)
    made.strand.post(lambda: order.add(2))
    go.set()
    assert order.wait(2) == [1, 2]
