"""The source of shared readers: sockets, deadlines, and steps that were left behind."""

from __future__ import annotations

import gc
import math
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread.concurrency.fairness import SLICE, fan_outs
from hubthread.net import selecting
from hubthread.net.selecting import Selecting, Step, Watch
from hubthread.net.steps import Drained, Steps, Writable
from tests.support import TIMEOUT, Task


class Place:
    """A source that the test drives itself, and one connection of it."""

    def __init__(self) -> None:
        self.source = Selecting()
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.notes: list[Any] = []
        self.watch = Watch(self.source, self.ours)

    def begin(self, *wants: Any) -> None:
        """Begin a connection that yields ``wants`` one after another, and then reads."""
        self.watch.begin(self.steps(*wants))

    def steps(self, *wants: Any) -> Steps[None]:
        for number, want in enumerate(wants):
            yield want
            self.notes.append(number)
        self.watch.end()

    def turn(self) -> int:
        """Run what is ready; return the number of steps."""
        steps = self.source.wait()
        assert steps is not None
        for step in steps:
            step()
        return len(steps)

    def close(self) -> None:
        self.watch.end()
        self.source.close()
        while self.source.wait() is not None:
            pass
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()
    yield found
    found.close()


def test_watch_runs_on_when_its_socket_is_readable(place: Place) -> None:
    place.begin(math.inf, math.inf)
    place.theirs.send(b"x")
    place.turn()
    assert place.notes == [0]


def test_watch_runs_on_at_its_deadline_and_not_before(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(selecting, "monotonic", lambda: now)
    place.begin(5.0, math.inf)
    now = 104.9
    place.source.wake()
    place.turn()
    assert place.notes == []
    now = 105.0
    place.turn()
    assert place.notes == [0]


def test_watch_deadline_begins_anew_with_each_byte(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``None`` changes nothing in the heap; the entry that comes up re-arms itself."""
    now = 100.0
    monkeypatch.setattr(selecting, "monotonic", lambda: now)
    place.begin(5.0, None, math.inf)
    now = 103.0
    place.theirs.send(b"x")
    place.turn()
    assert place.notes == [0]
    assert place.ours.recv(1) == b"x"
    now = 105.0
    place.turn()
    assert place.notes == [0]
    now = 108.0
    place.turn()
    assert place.notes == [0, 1]


def test_watch_that_wants_to_write_runs_on_when_there_is_room(place: Place) -> None:
    place.begin(Writable(60.0), math.inf)
    place.theirs.send(b"x")  # not asked for
    place.turn()
    assert place.notes == [0]


def test_watch_that_waits_for_its_outbox_does_not_read(place: Place) -> None:
    place.begin(Drained(60.0), math.inf)
    place.theirs.send(b"x")
    place.source.wake()
    place.turn()
    assert place.notes == []


def test_watch_runs_an_inner_generator_to_its_end_first(place: Place) -> None:
    def outer() -> Steps[None]:
        try:
            yield place.steps(math.inf)
        except ValueError as error:
            place.notes.append(str(error))
        yield inner()
        place.notes.append("outer")

    def inner() -> Steps[None]:
        place.notes.append("inner")
        yield from ()

    place.watch.begin(outer())
    place.theirs.send(b"x")
    place.turn()
    assert place.notes == [0, "inner", "outer"]


def test_watch_whose_step_raises_is_taken_out_and_the_error_goes_to_the_crew(
    place: Place,
) -> None:
    def steps() -> Steps[None]:
        yield math.inf
        raise ValueError("a bug")

    place.watch.begin(steps())
    place.theirs.send(b"x")
    with pytest.raises(ValueError, match="a bug"):
        place.turn()
    place.source.close()
    assert place.source.wait() is None


def test_watch_left_behind_is_not_read_until_its_step_has_ended(place: Place) -> None:
    inside, release = threading.Event(), threading.Event()

    def steps() -> Steps[None]:
        yield math.inf
        inside.set()
        assert release.wait(TIMEOUT)
        yield None
        place.notes.append("again")
        yield None

    place.watch.begin(steps())
    place.theirs.send(b"x")
    behind = Task(place.turn)
    assert inside.wait(TIMEOUT)
    place.turn()  # another thread leads: the socket is found readable, and let be
    place.source.wake()
    assert place.turn() == 1  # the call of wake, and nothing else
    release.set()
    behind.result()
    place.turn()
    assert place.notes == ["again"]


def test_watch_left_behind_by_a_closed_source_goes_on_alone(place: Place) -> None:
    inside, release = threading.Event(), threading.Event()

    def steps() -> Steps[None]:
        yield math.inf
        inside.set()
        assert release.wait(TIMEOUT)
        yield 0.0
        place.notes.append("ended")
        place.watch.end()

    place.watch.begin(steps())
    place.theirs.send(b"x")
    behind = Task(place.turn)
    assert inside.wait(TIMEOUT)
    place.source.close()
    while place.source.wait() is not None:
        pass
    release.set()
    behind.result()
    assert place.notes == ["ended"]


def test_watch_lets_nothing_be_collected_once_its_thread_was_left_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that was just before the step began, so that the watch was not told."""
    uncorked: list[int] = []

    class Box:
        def uncork(self) -> None:
            uncorked.append(1)

    assert place.watch.watch(Box())
    place.watch.left_behind()
    assert uncorked == [1]
    assert not place.watch.watch(Box())
    place.watch.behind = False
    monkeypatch.setattr(selecting, "leads", lambda: False)
    assert not place.watch.watch(Box())


def test_watch_left_behind_in_a_write_blames_no_function(place: Place) -> None:
    def steps() -> Steps[None]:
        yield math.inf
        place.watch.left_behind()
        yield math.inf

    place.watch.begin(steps())
    place.watch.left_behind()  # no step of the generator runs
    assert not place.watch.habits
    place.theirs.send(b"x")
    place.turn()
    assert place.watch.habits


def test_watch_of_work_that_never_waits_is_done_at_once(place: Place) -> None:
    place.begin()
    place.source.close()
    assert place.source.wait() is None


def test_source_that_is_closed_takes_no_connection(place: Place) -> None:
    place.source.close()
    with pytest.raises(RuntimeError):
        place.begin(math.inf)


def test_source_forgets_the_deadlines_of_connections_that_have_ended(place: Place) -> None:
    """Thousands of short connections do not stay in memory until their deadlines."""
    place.begin(math.inf)
    alive: weakref.WeakSet[Steps[None]] = weakref.WeakSet()
    for _ in range(500):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            watch, steps = Watch(place.source, ours), place.steps(1000.0, math.inf)
            alive.add(steps)
            watch.begin(steps)
            watch.end()
    del watch, steps
    gc.collect()
    assert len(alive) < 100


def test_source_lets_a_fan_out_go_first_after_a_slice_of_work(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work of several waits counts together, unless the source has rested in between."""
    time, waits = [0.0], []
    monkeypatch.setattr(selecting, "monotonic", lambda: time[0])
    monkeypatch.setattr(fan_outs, "running", 1)
    monkeypatch.setattr(fan_outs, "wait_for_one", lambda: waits.append(time[0]))
    place.source.now = 0.0
    place.source.post(lambda: None)  # so that no wait blocks
    for work, waited in ((0.6, 0), (0.6, 1), (0.6, 1), (0.6, 2)):
        time[0] += work * SLICE
        place.source.post(lambda: None)
        place.turn()
        assert len(waits) == waited
    ready = place.source._readiness.ready

    def rest_first(timeout: float | None, steps: Any) -> Any:
        time[0] += SLICE
        return ready(timeout, steps)

    monkeypatch.setattr(place.source._readiness, "ready", rest_first)
    for _ in range(4):
        time[0] += 0.6 * SLICE
        place.source.post(lambda: None)
        place.turn()
    assert len(waits) == 2


def test_source_that_is_woken_as_it_ends_raises_nothing() -> None:
    """The step of the wake-up may run on a thread that was left behind, after the end."""
    source = Selecting()
    source.close()
    steps: list[Step] = []
    source._readiness.ready(0, steps)
    while source.wait() is not None:
        pass
    (hear,) = steps
    hear()
