"""The strand (G2): closures never overlap, and each accepted one runs once, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hubthread.concurrency import strand as module
from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from hubthread.errors import ClientClosed, QueueFull
from tests.concurrency.harness import BOUND, StrandOnWorkers
from tests.support import TIMEOUT, Items, Logs, in_thread, incidents_to, together
from tests.support.examples import examples


class LateWorkers(Workers):
    """Workers whose work runs when the test calls it, on the thread of the test."""

    def __init__(self) -> None:
        super().__init__(Threads("test", incidents_to(Logs())))
        self.due: list[Callable[[], None]] = []

    def submit(self, work: Callable[[], None]) -> None:
        self.due.append(work)


class AnyOrder(RuleBasedStateMachine):
    """A strand on one thread, with late workers, against the list of accepted closures."""

    @initialize(bound=st.integers(1, 6))
    def begin(self, bound: int) -> None:
        self.workers = LateWorkers()
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
TestAnyOrder.settings = settings(max_examples=examples(60))  # of 50 steps each


def test_strand_posts_before_enter_run_before_messages(made: StrandOnWorkers) -> None:
    """Posts after ``enter`` run after the messages."""
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


def test_strand_reader_enters_again_behind_posts_of_its_last_batch(made: StrandOnWorkers) -> None:
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


def test_strand_leave_runs_a_few_closures_and_hands_the_rest_to_a_worker(
    made: StrandOnWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_strand_call_runs_on_holder_or_idle_caller_or_worker(made: StrandOnWorkers) -> None:
    """The holder of the baton runs it, or the caller of an idle strand, or else a worker."""
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


def test_strand_caller_does_not_run_closures_of_others(made: StrandOnWorkers) -> None:
    go, ran = threading.Event(), threading.Event()

    def work() -> int:
        made.strand.post(lambda: go.wait(TIMEOUT))
        made.strand.post(ran.set)
        return 3

    assert made.strand.call(work) == 3
    assert not ran.is_set()
    go.set()
    assert ran.wait(TIMEOUT)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_strand_raising_closure_is_reported_or_raised_in_the_caller(
    made: StrandOnWorkers, error: BaseException
) -> None:
    """The next closure runs."""

    def fail() -> None:
        raise error

    made.strand.post(fail)
    assert made.strand.call(lambda: 1, TIMEOUT) == 1
    assert made.reported == [error]
    for timeout in (None, TIMEOUT):
        with pytest.raises(type(error)) as raised:
            made.strand.call(fail, timeout)
        assert raised.value is error
    assert made.strand.call(lambda: 2) == 2
    assert made.reported == [error]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1)])
def test_strand_raising_report_does_not_keep_the_baton(error: BaseException) -> None:
    """``report`` runs log handlers of the user."""

    def report(_: BaseException) -> None:
        raise error

    made = StrandOnWorkers()
    made.strand = Strand(made.workers, 10, report, "client 7")
    made.strand.post(lambda: 1 / 0)
    assert in_thread(lambda: made.strand.call(lambda: 1, TIMEOUT))() == 1
    made.strand.close(lambda: 1 / 0)
    made.end()


def test_strand_idle_close_runs_the_last_callback_on_the_caller(made: StrandOnWorkers) -> None:
    """An exception of the last callback is reported."""
    idents: list[int] = []

    def last() -> None:
        idents.append(threading.get_ident())
        with pytest.raises(ClientClosed):
            made.strand.post(lambda: None)
        assert made.strand.call(lambda: 4) == 4  # the caller still has the callback slot
        raise ValueError("last")

    made.strand.close(last)
    assert idents == [threading.get_ident()]
    assert [str(error) for error in made.reported] == ["last"]


def test_strand_close_races_with_posts_that_run_before_it_or_are_refused() -> None:
    for _ in range(20):
        made = StrandOnWorkers()
        accepted: list[tuple[int, int]] = []
        ran: list[tuple[int, int]] = []

        def use(
            number: int,
            made: StrandOnWorkers = made,
            accepted: list[tuple[int, int]] = accepted,
            ran: list[tuple[int, int]] = ran,
        ) -> None:
            if number == 0:
                made.strand.enter()
                made.strand.leave()
                made.strand.close(lambda: ran.append((0, 0)))
                return
            for count in range(200):
                try:
                    if count % 3:
                        made.strand.post(partial(ran.append, (number, count)))
                    else:
                        made.strand.call(partial(ran.append, (number, count)))
                except ClientClosed:
                    return
                accepted.append((number, count))

        together(4, use)
        made.end()
        assert ran[-1] == (0, 0)
        assert sorted(ran[:-1]) == sorted(accepted)
        for number in range(1, 4):
            mine = [mark for mark in ran if mark[0] == number]
            assert mine == sorted(mine)


@pytest.mark.parametrize("why", ["no thread", "closed"])
def test_strand_without_workers_runs_closures_on_the_caller_in_order(
    made: StrandOnWorkers, why: str, no_threads: Callable[[], None]
) -> None:
    ran: list[object] = []
    if why == "closed":
        made.workers.close()
    else:
        no_threads()
    made.strand.post(partial(ran.append, 0))
    assert ran == [0]
    assert made.strand.call(lambda: 1, TIMEOUT) == 1

    def posts_more() -> None:
        for number in range(1, 4):
            made.strand.post(partial(ran.append, number))
        ran.append("first")

    made.strand.call(posts_more)
    assert ran == [0, "first", 1, 2, 3]
    made.strand.enter()
    for number in range(4, 100):
        made.strand.post(partial(ran.append, number))
    made.strand.leave()
    made.strand.close(partial(ran.append, "last"))
    assert ran == [0, "first", *range(1, 100), "last"]


def test_two_strands_that_post_to_each_other_without_threads_end_in_order(
    made: StrandOnWorkers, no_threads: Callable[[], None]
) -> None:
    other = Strand(made.workers, BOUND, made.reported.append, "client 8")
    no_threads()
    seen: list[int] = []

    def ping(left: int) -> None:
        seen.append(left)
        if left:
            (other if left % 2 else made.strand).post(partial(ping, left - 1))

    made.strand.post(partial(ping, 100))
    assert seen == list(range(100, -1, -1))
    assert not made.reported
    assert other.runner is None


def test_strand_idle_keeps_no_object_of_the_user(made: StrandOnWorkers) -> None:
    let_go = threading.Event()

    class Big:
        def __call__(self) -> Any:
            return None

        def __del__(self) -> None:
            let_go.set()

    # From a thread of its own: without the GIL, what one thread has made another cannot
    # free while the maker waits.
    in_thread(lambda: made.strand.post(Big()))()
    assert let_go.wait(TIMEOUT)
    let_go.clear()
    in_thread(lambda: made.strand.call(Big()))()
    assert let_go.wait(TIMEOUT)
