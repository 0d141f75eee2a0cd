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
    """Call ``report(error)`` and go on, whatever it raises.

    A log handler of the user may raise, and must not end the thread that logs.  Its exception
    goes to ``threading.excepthook``, where uncaught exceptions of threads go.
    """
    try:
        report(error)
    except BaseException as another:  # noqa: BLE001 - shown by the hook
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
    """Log one record and go on, whatever a log handler raises (see ``report_safely``).

    :param error: logged with its traceback.
    """
    try:
        logger.log(level, text, *args, exc_info=error)
    except BaseException as another:  # noqa: BLE001 - shown by the hook
        report_safely(_raise, another)


def _raise(error: BaseException) -> NoReturn:
    raise error
