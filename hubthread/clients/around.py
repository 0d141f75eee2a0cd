"""A context manager around each callback of one client: the program's, and one that measures.

``HubSetting.around_callback`` is the first, ``HubSetting.callback_times`` asks for the second.

Layer: clients.  Threads: ``run`` is called in the client's order, ``run_apart`` on any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias, TypeVar

from hubthread.checks import checked
from hubthread.core.core import Core
from hubthread.net.traffic import Traffic

__all__ = ["Around", "around_of"]

T = TypeVar("T")

Factory: TypeAlias = Callable[[Any, Any], AbstractContextManager[object]]
"""Called with client and meta; returns a context manager for one callback."""


def around_of(client: Any, core: Core[Any, Any]) -> Around | None:
    """Return the wrapper of a client's callbacks; None if there is none."""
    factory: Factory | None = core.setting.around_callback
    if core.setting.callback_times:
        factory = partial(_Measured, factory, core.meter.traffic(client.kind), core.clock.now)
    return None if factory is None else Around(client, factory)


class Around:
    """Runs the callbacks of one client inside context managers.

    :param client: the client.
    :param factory: called with client and meta for each callback; returns its manager.
    """

    __slots__ = ("_client", "_factory", "noted")

    def __init__(self, client: Any, factory: Factory) -> None:
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


class _Measured:
    """Measures one callback, inside the program's own context manager if there is one."""

    __slots__ = ("_began", "_inner", "_now", "_traffic")

    def __init__(
        self,
        factory: Factory | None,
        traffic: Traffic,
        now: Callable[[], float],
        client: Any,
        meta: Any,
    ) -> None:
        self._traffic = traffic
        self._now = now
        self._inner = None if factory is None else checked(factory(client, meta))

    def __enter__(self) -> None:
        if self._inner is not None:
            self._inner.__enter__()
        self._began = self._now()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._traffic.counts.callbacks.add(self._now() - self._began)
        return None if self._inner is None else self._inner.__exit__(kind, error, traceback)
