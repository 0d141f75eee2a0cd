"""``HubSetting.around_callback``: a context manager around each callback of one client.

Layer: clients.  Threads: ``run`` is called in the client's order, ``run_apart`` on any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from hubthread.checks import checked

__all__ = ["Around"]

T = TypeVar("T")


class Around:
    """Runs the callbacks of one client inside context managers.

    :param client: the client.
    :param factory: called with client and meta for each callback; returns its manager.
    """

    __slots__ = ("_client", "_factory", "noted")

    def __init__(
        self, client: Any, factory: Callable[[Any, Any], AbstractContextManager[object]]
    ) -> None:
        self._client = client
        self._factory = factory
        self.noted: BaseException | None = None
        """The error of the present callback, if it was handled on its way to the manager."""

    def run(self, work: Callable[[], T]) -> T | None:
        """Return ``work()``, or None if the manager swallows its exception."""
        result: T | None = None
        noted = self.noted = None
        try:
            with self._manager():
                result = checked(work())
                noted, self.noted = self.noted, None
                if noted is not None:
                    raise noted
        except BaseException as error:
            if error is not noted:
                raise
        finally:
            noted = None  # the traceback of the exception refers to this frame
        return result

    def run_apart(self, work: Callable[[], object]) -> None:
        """Call ``work`` beside the callbacks of the client's order."""
        with self._manager():
            work()

    def _manager(self) -> AbstractContextManager[object]:
        return checked(self._factory(self._client, self._client.meta))
