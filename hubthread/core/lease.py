"""The lease of a room that one hub at a time owns, as one of the hubs keeps it.

The hub asks for the lease, and renews it every two seconds.  It counts the time of a lease from
the moment before it asks, on its own clock, and one second less than the backplane does.  So the
hub knows that it has no lease any more before another hub can have it.

Layer: core.  Threads: every method may be called on any thread, and returns at once.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from hubthread.backplane.interfaces import BackplaneLink, LeaseAnswer
from hubthread.concurrency.timers import Timer, Timers
from hubthread.errors import BackplaneDown, Closed, QueueFull

__all__ = ["Lease", "Owner"]

SECONDS = 6.0
"""The time of a lease, unless it is renewed."""

RENEW = 2.0
"""Seconds between two renewals."""

MARGIN = 1.0
"""Seconds by which the hub ends its lease before the backplane does."""

RETRY = 0.5
"""Seconds until the hub asks again after a question that was perhaps not heard."""

SLACK = 0.05
"""Seconds after the end of another hub's lease at which the hub asks."""


class Owner(Protocol):
    """The room.  The lease calls it in the order of what happens; the methods return at once."""

    def _lease_began(self, token: int, saved: bytes) -> None:
        """Learn that this hub has the lease, and what the owner before has saved.

        Also if the hub has the lease again, with a higher token, from a server that does not know
        the one before.
        """

    def _lease_renewed(self, until: float) -> None:
        """Learn the time at which the lease ends; called also when it has begun."""

    def _lease_late(self) -> None:
        """Learn that the lease has ended, and could not be renewed yet."""

    def _lease_lost(self) -> None:
        """Learn that another hub has the lease now."""


class Lease:
    """See the module.

    :param room: the name of the room.
    :param now: returns the time of the hub's clock.
    """

    def __init__(
        self,
        link: BackplaneLink,
        room: str,
        timers: Timers,
        now: Callable[[], float],
        owner: Owner,
    ) -> None:
        self._link = link
        self._room = room
        self._timers = timers
        self._now = now
        self._owner = owner
        self._lock = threading.RLock()  # guards what follows; held while the owner is told
        self.token = 0
        """That of the last lease of this hub; 0 before the first."""
        self.other = 0
        """That of another hub, as far as this one was told; 0 while this hub has the lease."""
        self.until = -math.inf
        """The time at which the lease ends."""
        self.held = False
        """True from the begin of the lease until it is given up, or another hub has it."""
        self.saved: bytes | None = None
        """A state for the next renewal to save."""
        self._granted_at = -math.inf  # the time of the question
        self._stopped = self._asking = self._late = False
        self._timer: Timer | None = None

    @property
    def is_valid(self) -> bool:
        """True if no other hub can have the lease now."""
        return self.held and self._now() < self.until

    def ask(self) -> None:
        """Ask for the lease, or renew it, unless an answer is due."""
        with self._lock:
            if self._stopped:
                return
            now = self._now()
            over = now >= self.until
            late = self.held and over and not self._late
            self._late |= late
            # Another server may have lost the lease of another hub, which ends by itself.  The
            # last owner asks first, as it has the state.
            patience = SECONDS if self.held else 1.5 * SECONDS
            wait = patience - self._link.server_age() if over else 0.0
            self._set_timer(max(RENEW, wait))
            asks = not self._asking and wait <= 0
            self._asking |= asks
            token, saved = (self.token, self.saved) if self.held else (0, None)
            if over and self._link.server_age() < now - self._granted_at:
                # The last server may have given a higher token to another hub.
                token = 0
            if asks:
                self.saved = None
        if late:
            self._owner._lease_late()
        if asks:
            self._send(token, saved, now)

    def _send(self, token: int, saved: bytes | None, now: float) -> None:
        told = partial(self._told, now, saved)
        try:
            self._link.lease(self._room, token, SECONDS, told, saved)
        except (BackplaneDown, QueueFull):
            told(None)
        except BaseException:  # an interrupt: ask again
            told(None)
            raise

    def _told(self, asked_at: float, saved: bytes | None, answer: LeaseAnswer | None) -> None:
        with self._lock:
            self._asking = False
            if answer is None:
                if self.saved is None:
                    self.saved = saved
                self._set_timer(RETRY)
            elif not answer.held:
                self.other = answer.token
                self._set_timer(answer.seconds + SLACK)
                if self.held:
                    self.held, self.until, self.saved = False, -math.inf, None
                    self._owner._lease_lost()
            elif self._stopped and not self.held:
                self._give_up(answer.token, None)  # it has come too late
            else:
                began = not self.held or answer.token != self.token
                self._granted_at = asked_at
                self.held, self.token, self._late = True, answer.token, False
                self.other = 0
                self.until = asked_at + SECONDS - MARGIN
                self._set_timer(RENEW)
                if began:
                    self._owner._lease_began(answer.token, answer.saved)
                self._owner._lease_renewed(self.until)

    def _set_timer(self, seconds: float) -> None:
        """Ask in so many seconds, and not before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._stopped else self._timers.set(seconds, self.ask)

    def stop(self) -> None:
        """Ask no more; the lease is held on, but not renewed."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def release(self, saved: bytes | None) -> bool:
        """Give up the lease; return False if this hub does not have it.

        :param saved: a state for the next owner; empty to keep none, None to keep the last one.
        """
        self.stop()
        with self._lock:
            held, self.held, self.until = self.held, False, -math.inf
        if held:
            self._give_up(self.token, saved)
        return held

    def _give_up(self, token: int, saved: bytes | None) -> None:
        with contextlib.suppress(BackplaneDown, QueueFull, Closed):  # then it ends by itself
            self._link.lease(self._room, token, 0.0, lambda answer: None, saved)
