"""Make the hubs of a process refuse calls in a child that was forked from it.

The threads of a hub do not come along into a child, but its objects and copies of its sockets
do.  A push would be accepted and go nowhere, and a write would end up between the frames of the
parent.  A hub cannot know of the fork by itself without asking for each call, so the child is
told once, and the methods of its copies are replaced by one that raises.

Layer: hub.  Threads: after a fork the child has one thread, which runs these functions before
``os.fork`` returns.  Locks that other threads of the parent held are replaced.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from hubthread.concurrency import calls, ending, fairness
from hubthread.concurrency.crew import forget_crews
from hubthread.concurrency.strand import Strand
from hubthread.core.core import Core
from hubthread.errors import UsageError
from hubthread.net import connection

__all__ = ["refusal", "watch_forks"]

_LOCKS = (type(threading.Lock()), type(threading.RLock()))

_cores: weakref.WeakSet[Core[Any, Any]] = weakref.WeakSet()


def watch_forks(core: Core[Any, Any]) -> None:
    """Make ``core`` refuse calls in each child that is forked while it has threads."""
    _cores.add(core)


def refusal(name: str) -> str:
    """Return why the hub ``name`` does nothing in a forked process, and what to do instead."""
    return (
        f"hub {name} was started in another process before this one was forked, and has no "
        f"threads here: make it with Hub(setting), let the first request start it, and begin "
        f"ticking rooms and polls in HubSetting.delayed_execution; or let the parent do the call"
    )


def _after_fork_in_child() -> None:
    forget_crews()
    # The locks of the process, which hubs that the child makes need, too.
    for part in (calls, connection, ending, fairness.fan_outs):
        _renew_locks(part)
    for core in list(_cores):
        _renew_locks(core.threads)
        if core.threads.left_behind():
            _disown(core)


def _disown(core: Core[Any, Any]) -> None:
    """Replace the methods of a hub's parts; its statistics still work."""
    text = refusal(core.name)

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise UsageError(text)

    core.state.refusal = text
    core.make_frame = refuse
    registry = core.registry
    parts = [
        core.context,
        core.state,
        core.incidents,
        core.refusals,
        core.address_limit,
        core.servers,
    ]
    for part in [registry, core.connections, *parts]:
        _renew_locks(part)
    _replace(core.loop, refuse, "exec_async", "exec_sync", "submit", "schedule", "refuse_here")
    _replace_log(registry.everyone, refuse)
    # The rest is read without the registry's methods, which hand out what is in their order.
    for hotline in registry.hotlines():
        hotline._disown(refuse)
        _replace_log(hotline._log, refuse)
        loop = getattr(hotline, "_loop", None)
        if loop is not None:
            names = "post", "note", "add", "pause", "resume", "cancel", "end", "wait_over"
            _replace(loop.agenda, refuse, *names)
    strand_class = type(
        "ForkedStrand", (Strand,), {"__slots__": (), "post": refuse, "call": refuse}
    )
    for client in list(registry._clients.values()):
        client._make_frame = refuse
        for part in (client, client._strand, client._rooms, client.ws_conn.outbox):
            _renew_locks(part)
        client._strand.__class__ = strand_class
        _replace(client.ws_conn, refuse, "send", "send_batch", "send_control", "close", "cut")


def _replace_log(log: Any, refuse: Callable[..., NoReturn]) -> None:
    _replace(log, refuse, "admit", "join", "leave", "push", "run", "close", "wait_consumed")


def _replace(part: Any, refuse: Callable[..., NoReturn], *names: str) -> None:
    _renew_locks(part)
    for name in names:
        setattr(part, name, refuse)


def _renew_locks(part: Any) -> None:
    """Give ``part`` new locks: a thread of the parent may have held the old ones."""
    slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
    renewed: dict[int, Any] = {}
    conditions: dict[str, threading.Condition] = {}
    for name in [*getattr(part, "__dict__", ()), *slots]:
        value = getattr(part, name, None)
        if isinstance(value, _LOCKS):
            renewed[id(value)] = type(value)()
            setattr(part, name, renewed[id(value)])
        elif isinstance(value, threading.Condition):
            conditions[name] = value
    for name, condition in conditions.items():
        lock = renewed.get(id(condition._lock))  # type: ignore[attr-defined]
        setattr(part, name, threading.Condition(lock))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
