"""A logger that keeps its records, and the incidents that are logged to it."""

from __future__ import annotations

import logging
from time import monotonic

from hubthread.concurrency.incidents import Incidents
from tests.support.waiting import Items


class Logs(logging.Logger):
    """A logger that keeps its records."""

    def __init__(self) -> None:
        super().__init__("test")
        self.records: Items[logging.LogRecord] = Items()

    def handle(self, record: logging.LogRecord) -> None:
        self.records.add(record)

    def at_least(self, level: int) -> list[str]:
        """Return the messages of ``level`` and above, tracebacks included."""
        return [
            logging.Formatter().format(record)
            for record in self.records.now()
            if record.levelno >= level
        ]

    def warnings(self) -> list[str]:
        """Return the messages that a user sees by default."""
        return self.at_least(logging.WARNING)

    def wait(self, text: str) -> str:
        """Wait for a message that contains ``text``, and return all of it."""

        def found() -> list[str]:
            return [each for each in self.at_least(logging.DEBUG) if text in each]

        self.records.until(lambda _: bool(found()))
        return found()[0]


def incidents_to(logger: logging.Logger) -> Incidents:
    """Return the incidents of a hub whose log is ``logger``."""
    return Incidents(logger, monotonic)
