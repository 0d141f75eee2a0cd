"""One client's order when something goes wrong: errors, bounds, the close, no threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hubthread.concurrency.strand import Strand
from hubthread.errors import ClientClosed, ExecTimeout, QueueFull
from tests.concurrency.made import BOUND, Made
from tests.support import TIMEOUT, Items, in_thread, together


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt()])
def test_a_closure_that_raises(made: Made, error: BaseException) -> None:
    """Posted it is reported, called it is raised in the caller; the next one runs."""

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
def test_a_report_that_raises(error: BaseException) -> None:
    """A user's broken log handler does not keep the baton."""

    def report(_: BaseException) -> None:
        raise error

    made = Made()
    made.strand = Strand(made.workers, 10, report, "client 7")
    made.strand.post(lambda: 1 / 0)
    assert in_thread(lambda: made.strand.call(lambda: 1, TIMEOUT))() == 1
    made.strand.close(lambda: 1 / 0)
    made.end()


def test_the_bound() -> None:
    """A full strand refuses, and nothing is done; what was accepted runs."""
    made = Made(bound=3)
    go, busy = threading.Event(), threading.Event()
    ran: list[int] = []

    def block() -> None:
        busy.set()
        go.wait(TIMEOUT)

    made.strand.post(block)
    assert busy.wait(TIMEOUT)
    for number in range(3):
        made.strand.post(partial(ran.append, number))
    for refused in (made.strand.post, made.strand.call):
        with pytest.raises(QueueFull, match="client 7: 3 closures"):
            refused(lambda: ran.append(9))
    assert made.strand.waiting() == 3
    go.set()
    made.strand.close(partial(ran.append, 3))
    made.end()
    assert ran == [0, 1, 2, 3]


def test_close_waits_for_all(made: Made) -> None:
    """Close returns when what was accepted, and then the last callback, have run."""
    go, ran = threading.Event(), Items[str]()
    made.strand.post(lambda: go.wait(TIMEOUT))
    made.strand.post(partial(ran.add, "accepted"))
    closing = in_thread(lambda: made.strand.close(lambda: ran.add("last")))
    assert not ran.now()
    go.set()
    closing()
    assert ran.now() == ["accepted", "last"]
    with pytest.raises(ClientClosed):
        made.strand.call(lambda: None)


def test_an_idle_strand_is_closed_on_the_spot(made: Made) -> None:
    """The reader runs the last callback itself; what that raises is reported."""
    idents: list[int] = []

    def last() -> None:
        idents.append(threading.get_ident())
        with pytest.raises(ClientClosed):
            made.strand.post(lambda: None)
        assert made.strand.call(lambda: 4) == 4  # it is its own turn still
        raise ValueError("last")

    made.strand.close(last)
    assert idents == [threading.get_ident()]
    assert [str(error) for error in made.reported] == ["last"]


def test_close_at_any_moment() -> None:
    """Whoever posts while the reader closes is refused, or runs before the last callback."""
    for _ in range(20):
        made = Made()
        accepted: list[tuple[int, int]] = []
        ran: list[tuple[int, int]] = []

        def use(
            number: int,
            made: Made = made,
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
def test_without_a_worker(made: Made, why: str, no_threads: Callable[[], None]) -> None:
    """No thread to be had: what was accepted runs all the same, here, in its order."""
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


def test_a_closure_may_use_the_strand(made: Made) -> None:
    """It runs under no lock: here, and in a thread that it waits for, all methods work."""
    order = Items[str]()

    def use(who: str) -> None:
        made.strand.post(partial(order.add, who))
        assert made.strand.waiting()
        with pytest.raises(ExecTimeout) if who == "there" else pytest.raises(ZeroDivisionError):
            made.strand.call(lambda: 1 / 0, 0.001)
        order.add("used " + who)

    def closure() -> None:
        use("here")
        in_thread(partial(use, "there"))()

    made.strand.call(closure)
    made.strand.post(closure)
    assert order.wait(8) == ["used here", "used there", "here", "there"] * 2


def test_posts_of_two_strands_without_threads(made: Made, no_threads: Callable[[], None]) -> None:
    """Two clients that post to each other come to an end on one thread, and in order."""
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


def test_nothing_is_kept_of_what_has_run(made: Made) -> None:
    """An idle strand, and the worker it had, hold nothing of the user's."""
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
