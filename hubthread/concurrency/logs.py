"""Logging that survives a log handler which raises.

Layer: concurrency.  Threads: every function may be called on any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NoReturn

__all__ = ["log_safely", "report_safely"]


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
) -> None:
    """Log one record, and go on even if a log handler raises; see ``report_safely``.

    :param error: logged with its traceback.
    """
    try:
        logger.log(level, text, *args, exc_info=error)
    except BaseException as another:  # noqa: BLE001 - passed to the hook
        report_safely(_raise, another)


def _raise(error: BaseException) -> NoReturn:
    raise error
