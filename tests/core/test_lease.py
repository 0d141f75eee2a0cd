"""The lease of a room, as a hub keeps it, with a backplane whose answers the test gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hubthread import BackplaneDown
from hubthread.backplane.interfaces import LeaseAnswer
from hubthread.concurrency.timers import Timer
from hubthread.core.lease import MARGIN, RENEW, RETRY, SECONDS, Lease

Told = Callable[[LeaseAnswer | None], object]


class Backplane:
    """A link that notes what it is asked, and timers that note when they are due."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float, bytes | None]] = []
        self.told: list[Told] = []
        self.age = math.inf
        self.down = False
        self.time = 100.0
        self.timers: list[tuple[float, Timer]] = []
        self.notes: list[Any] = []
        self.lease = Lease(self.link, "room", self.link, self.now, self.link)

    @property
    def link(self) -> Any:
        return _Link(self)

    def now(self) -> float:
        return self.time

    def answer(self, answer: LeaseAnswer | None) -> None:
        self.told.pop(0)(answer)

    def is_valid(self) -> bool:
        return self.lease.is_valid

    def pass_to_timer(self) -> float:
        """Let time pass until the next timer; return the seconds."""
        due, timer = self.timers[-1]
        seconds, self.time = due - self.time, max(due, self.time)
        timer.fire()
        return seconds


class _Link:
    def __init__(self, backplane: Backplane) -> None:
        self._all = backplane

    def lease(
        self, room: str, token: int, seconds: float, told: Told, saved: bytes | None = None
    ) -> None:
        if self._all.down:
            raise BackplaneDown("away")
        self._all.asked.append((token, seconds, saved))
        if seconds:
            self._all.told.append(told)

    def server_age(self) -> float:
        return self._all.age

    def set(self, delay: float, action: Callable[[], None]) -> Timer:
        self._all.timers.append((self._all.time + delay, Timer(action)))
        return self._all.timers[-1][1]

    def _lease_began(self, token: int, saved: bytes) -> None:
        self._all.notes.append(("began", token, saved))

    def _lease_renewed(self, until: float) -> None:
        self._all.notes.append(until)

    def _lease_late(self) -> None:
        self._all.notes.append("late")

    def _lease_lost(self) -> None:
        self._all.notes.append("lost")


def owned() -> Backplane:
    """Return a backplane whose hub has the lease, with token 7."""
    made = Backplane()
    made.lease.ask()
    made.time += 0.5  # the answer takes a while
    made.answer(LeaseAnswer(True, 7, SECONDS, b"saved"))
    return made


def test_lease_counts_from_the_question_and_is_renewed_in_time() -> None:
    made = owned()
    assert made.asked == [(0, SECONDS, None)]
    assert made.notes == [("began", 7, b"saved"), 100.0 + SECONDS - MARGIN]
    assert made.is_valid()
    assert made.pass_to_timer() == RENEW
    made.lease.ask()  # an answer is due: nothing is asked
    assert made.asked[1:] == [(7, SECONDS, None)]
    made.time = 100.0 + SECONDS - MARGIN
    assert not made.is_valid()
    made.answer(LeaseAnswer(True, 7, SECONDS))
    assert made.notes[2:] == [102.5 + SECONDS - MARGIN]
    assert made.is_valid()


def test_lease_question_that_is_lost_is_asked_again_with_what_it_saved() -> None:
    made = owned()
    made.lease.saved = b"state"
    made.lease.ask()
    made.answer(None)
    assert made.pass_to_timer() == RETRY
    made.down = True
    made.answer(None)
    assert made.pass_to_timer() == RETRY  # which raises BackplaneDown
    made.down = False
    made.time += SECONDS
    assert made.pass_to_timer() <= RETRY
    assert made.asked[1:] == [(7, SECONDS, b"state")] * 3
    assert made.notes[2:] == ["late"]
    made.answer(LeaseAnswer(False, 8, 3.0))
    assert made.notes[3:] == ["lost"]
    assert (made.lease.held, made.lease.other) == (False, 8)
    made.lease.ask()
    assert made.asked[-1] == (0, SECONDS, None)  # the state counts no more


def test_lease_that_comes_after_the_end_is_given_up_at_once() -> None:
    made = Backplane()
    made.lease.ask()
    assert not made.lease.release(b"")
    made.answer(LeaseAnswer(True, 7, SECONDS))
    assert made.asked[1:] == [(7, 0.0, None)]
    assert made.notes == []
    made.lease.ask()
    assert len(made.asked) == 2


def test_lease_released_is_given_up_once_with_the_state() -> None:
    made = owned()
    assert made.lease.release(b"state")
    assert not made.lease.release(b"other")
    assert made.asked[1:] == [(7, 0.0, b"state")]
    assert not made.is_valid()


def test_lease_of_a_new_server_is_asked_for_by_the_last_owner_first() -> None:
    last, other = owned(), Backplane()
    last.time += SECONDS
    for made in (last, other):
        made.age = 0.0
        made.lease.ask()
    assert len(last.asked) == 1
    assert other.asked == []
    waits = [made.timers[-1][0] - made.time for made in (last, other)]
    assert waits == [SECONDS, 1.5 * SECONDS]
    valid = owned()
    valid.age = 0.0
    valid.lease.ask()  # its lease has not ended: it need not wait
    assert len(valid.asked) == 2


def test_lease_that_ended_before_another_server_came_is_asked_for_anew() -> None:
    made = owned()
    made.time += SECONDS
    made.age = SECONDS - 0.5  # the server has come within the lease
    made.pass_to_timer()
    assert made.timers[-1][0] - made.time == RENEW
    made.time += 1.0
    made.age += 1.0
    made.lease.ask()
    assert made.asked[1:] == [(0, SECONDS, None)]
    made.answer(LeaseAnswer(True, 9, SECONDS, b""))
    assert made.notes[3:] == [("began", 9, b""), made.time + SECONDS - MARGIN]
    assert made.lease.token == 9
