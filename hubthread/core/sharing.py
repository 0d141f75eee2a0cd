"""A hub's connection to its backplane, and the news of it for the program.

Layer: core.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

from hubthread.backplane.interfaces import BackplaneLink, BackplaneState
from hubthread.backplane.memory import MemoryBackplane
from hubthread.checks import checked
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.loop import Loop
from hubthread.concurrency.threads import Threads
from hubthread.errors import Closed
from hubthread.interfaces import IHub
from hubthread.settings import HubSetting
from hubthread.statistics import BackplaneStatistics

__all__ = ["Sharing"]


class Sharing:
    """The hub, as its backplane sees it, and its connection, which the first shared room opens.

    :param node: the name of the hub among all hubs of the backplane.
    :param now: returns the hub's time in seconds.
    """

    def __init__(
        self,
        node: str,
        hub: IHub,
        setting: HubSetting[Any, Any],
        threads: Threads,
        incidents: Incidents,
        loop: Loop[Any],
        now: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._node = node
        self._setting = setting
        self._threads = threads
        self._incidents = incidents
        self._loop = loop
        self._now = now
        self.description: Callable[[], dict[str, Any]] = dict
        """Returns the JSON object that describes this hub to other hubs."""
        self.on_up: Callable[[], object] = lambda: None
        """Called when the backplane becomes available, also after a loss; returns at once."""
        self._lock = threading.RLock()  # guards what follows
        self._link: BackplaneLink | None = None
        self._started = False

    def link(self) -> BackplaneLink:
        """Return the connection; open it first if there is none."""
        with self._lock:
            if self._link is None:
                backplane = self._setting.backplane or MemoryBackplane()
                self._link = backplane.open(self._node, self._now)
                if self._started:
                    self._link.start(self)
            return self._link

    def start(self) -> None:
        """Start the connection, because the hub has started."""
        with self._lock:
            self._started = True
            if self._link is not None:
                self._link.start(self)
            elif self._setting.backplane is not None:
                self.link()

    @property
    def started(self) -> bool:
        """True if the hub has started, so that a connection begins at once."""
        return self._started

    @property
    def node(self) -> str:
        """The name of the hub among all hubs, known from the start of the hub on."""
        return self._node if self._setting.backplane is None else self.link().node

    def statistics(self) -> BackplaneStatistics | None:
        """Return the figures of the connection; None if there is none."""
        link = self._link
        return None if link is None else link.statistics()

    def close(self, timeout: float) -> None:
        """End the connection within ``timeout`` seconds."""
        with self._lock:
            link = self._link
        if link is not None:
            link.close(timeout)

    # The backplane (``BackplaneHost``).

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        """See ``BackplaneHost.start_thread``."""
        self._threads.start(target, what)

    def log_bug(self, error: Exception, part: str) -> None:
        """See ``BackplaneHost.log_bug``."""
        text = "a bug in hubthread: the %s of %s's backplane raised"
        args = part, self._hub.name
        self._incidents.log_exception(error, text, *args, level=logging.CRITICAL)

    def describe(self) -> dict[str, Any]:
        """See ``BackplaneHost.describe``."""
        return self.description()

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        """See ``BackplaneHost.tell_state``."""
        if state is BackplaneState.UP:
            self.on_up()
        level = logging.WARNING if state is BackplaneState.DOWN else logging.INFO
        text = "%s: the backplane is %s: %s"
        args = self._hub.name, state.value, reason
        log_safely(self._setting.logger, level, text, *args, about=self._hub)
        hook = self._setting.on_backplane
        if hook is not None:
            with contextlib.suppress(Closed):  # the hub thread has ended
                self._loop.exec_async(lambda _: checked(hook(self._hub, state)), essential=True)
