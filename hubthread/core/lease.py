"""The lease of a room that one hub at a time owns, as one of the hubs keeps it.

The hub asks for the lease, and renews it every two seconds.  The hub measures a lease on its own
clock from the moment before it asks, and ends it one second earlier than the backplane does.  So
the hub knows of the end of its lease before another hub can have the lease.

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
"""Seconds until the hub asks again if a question gets no answer."""

SLACK = 0.05
"""Seconds that the hub waits after the end of another hub's lease before it asks."""


class Owner(Protocol):
    """The room, as its lease sees it.

    The lease calls the methods in the order of the events.  They return at once.
    """

    def _lease_began(self, token: int, saved: bytes) -> None:
        """Learn that this hub has got the lease, and the state that the owner before has saved.

        Called again when a new server, which did not know the lease, gives it a higher token.
        """

    def _lease_renewed(self, until: float) -> None:
        """Learn the time at which the lease ends.  Called after ``_lease_began``, too."""

    def _lease_late(self) -> None:
        """Learn that the lease has ended before it could be renewed."""

    def _lease_lost(self) -> None:
        """Learn that another hub has the lease now."""


class Lease:
    """The lease of one room, as this hub keeps it; see the module.

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
        """The token of this hub's last lease; 0 before the first."""
        self.other = 0
        """The last known token of another hub's lease; 0 while this hub has the lease."""
        self.until = -math.inf
        """The time at which the lease ends."""
        self.held = False
        """True from the begin of the lease until it is given up or lost to another hub."""
        self.saved: bytes | None = None
        """The state that the next renewal saves; None to save none."""
        self._granted_at = -math.inf  # the time at which the hub asked for its present lease
        self._stopped = self._asking = self._late = False
        self._timer: Timer | None = None

    @property
    def is_valid(self) -> bool:
        """True if no other hub can have the lease now."""
        return self.held and self._now() < self.until

    def ask(self) -> None:
        """Ask for the lease or renew it, unless a question waits for its answer."""
        with self._lock:
            if self._stopped:
                return
            now = self._now()
            over = now >= self.until
            late = self.held and over and not self._late
            self._late |= late
            # A new server may not know the lease of another hub: wait until that lease has ended
            # by itself.  The last owner waits for less time, because it has the state.
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
                self._give_up(answer.token, None)  # the lease has come after ``stop``
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
        """Ask no more.  A lease that this hub has is not renewed, and ends in time."""
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
