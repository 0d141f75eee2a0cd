"""Logging that survives log handlers that raise, with ids for each line.

Layer: concurrency.  Threads: every function may be called on any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

__all__ = ["IDS", "LogName", "log_ids", "log_safely", "report_safely"]

IDS: Final = ("hub_name", "client_id", "room_id", "room_name", "request_id")
"""The attributes that each record has."""


class LogName(str):
    """A name in log lines, with the ids of the object that has the name.

    :param ids: values for some of ``IDS``.
    """

    _ids: Mapping[str, object]

    def __new__(cls, name: str, ids: Mapping[str, object] | None = None) -> LogName:
        """Make a name; a copy gets its ids afterwards."""
        made = super().__new__(cls, name)
        made._ids = ids or {}
        return made

    def _log_ids(self) -> Mapping[str, object]:
        return self._ids


def log_ids(things: Iterable[object]) -> dict[str, Any]:
    """Return the ids of the objects that a line is about; None for ids that they do not have.

    Clients, rooms, requests, hubs and ``LogName`` have ids, by their method ``_log_ids``.
    """
    ids: dict[str, Any] = dict.fromkeys(IDS)
    for thing in things:
        # Of the class: an object of the program may do anything when an attribute is read.
        found = getattr(type(thing), "_log_ids", None)
        if found is not None:
            ids.update(found(thing))
    return ids


def report_safely(report: Callable[[BaseException], object], error: BaseException) -> None:
    """Call ``report(error)``, and go on even if it raises.

    ``report`` runs log handlers of the user, and their exceptions must not end the thread that
    logs.  They go to ``threading.excepthook``, as uncaught exceptions of threads do.
    """
    try:
        report(error)
    except BaseException as another:  # noqa: BLE001 - passed to the hook
        here = threading.current_thread()
        shown = (type(another), another, another.__traceback__, here)
        threading.excepthook(threading.ExceptHookArgs(shown))


def log_safely(
    logger: logging.Logger,
    level: int,
    text: str,
    *args: object,
    error: BaseException | None = None,
    about: object = None,
) -> None:
    """Log one record, and go on even if a log handler raises; see ``report_safely``.

    The record has the ids of ``args`` and ``about`` (``IDS``) as attributes.

    :param error: logged with its traceback.
    :param about: something that the line is about and does not name.
    """
    try:
        logger.log(level, text, *args, exc_info=error, extra=log_ids((about, *args)))
    except BaseException as another:  # noqa: BLE001 - passed to the hook
        report_safely(_raise, another)


def _raise(error: BaseException) -> NoReturn:
    raise error
