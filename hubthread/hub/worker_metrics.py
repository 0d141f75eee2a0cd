"""The metrics of all processes of one program: the scraped process asks the other processes.

Each process answers with its families as JSON, through a socket in ``HubSetting.metrics_dir``.
Nothing is kept in files: the figures of a process end with it, as after any restart.

Layer: hub.  Threads: a thread of the hub answers other processes.  Any thread may call
``families``.
"""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hubthread.concurrency.clock import RealClock
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.hub.exposition import Family, Sample
from hubthread.hub.metrics import families
from hubthread.net.worker_sockets import WorkerSocket, ask_workers

__all__ = ["WorkerMetrics"]

_SECONDS: Final = 1.0
"""The time that all other processes together get for their answers."""

_UP: Final = "hubthread_up"


class WorkerMetrics:
    """The metrics of a hub, and of the other processes with the same folder.

    :param core: the core of the hub.
    """

    def __init__(self, core: Core[Any, Any]) -> None:
        self._core = core
        folder = core.setting.metrics_dir
        self._folder = None if folder is None else Path(folder)
        self._lock = threading.RLock()  # guards what follows
        self._place: WorkerSocket | None = None
        self._closed = False

    def start(self) -> None:
        """Take a place in the folder, if the setting has one; log a failure."""
        if self._folder is None or not isinstance(self._core.clock, RealClock):
            return
        try:
            place = WorkerSocket(self._folder)
            with self._lock:
                if self._closed:
                    place.close()
                self._place = place
            try:
                self._core.threads.start(lambda: place.run(self._answer), "metrics")
            except RuntimeError:
                place.close()
                place.run(self._answer)  # releases the place
                raise
        except (OSError, RuntimeError) as error:
            text = "%r: metrics_dir %s: %s; other processes do not show the metrics of this one"
            args = self._core.hub, self._folder, error
            log_safely(self._core.logger, logging.ERROR, text, *args)

    def close(self) -> None:
        """Leave the place."""
        with self._lock:
            self._closed = True
            place, self._place = self._place, None
        if place is not None:
            place.close()

    def names(self) -> list[Family]:
        """Return the families of this hub only; return at once."""
        return families(self._core, self._core.hub.statistics())

    def families(self) -> list[Family]:
        """Return the metrics of this hub; with a folder, those of all processes, by worker."""
        own = families(self._core, self._core.hub.statistics())
        if self._folder is None:
            return own
        place = self._place
        number = None if place is None else place.number
        found = {family.name: Family(family.name, family.type, family.help) for family in own}
        # A hub that does not run has no number.
        _merge(found, own, "" if number is None else str(number))
        for other, text in ask_workers(self._folder, number, _SECONDS).items():
            worker = str(other)
            if text is None:  # the process does not answer
                found[_UP].add(0, worker=worker)
            else:
                with suppress(ValueError, TypeError, KeyError):  # it has ended just now
                    _merge(found, _decode(text), worker)
        return list(found.values())

    def _answer(self) -> bytes:
        return _encode(families(self._core, self._core.hub.statistics()))


def _merge(found: dict[str, Family], new: list[Family], worker: str) -> None:
    for family in new:
        whole = found.setdefault(family.name, Family(family.name, family.type, family.help))
        for sample in family.samples:
            labels = {"worker": worker, **sample.labels}
            whole.samples.append(Sample(sample.value, labels, sample.suffix))


def _encode(found: list[Family]) -> bytes:
    return json.dumps(
        [
            (
                family.name,
                family.type,
                family.help,
                [(sample.value, sample.labels, sample.suffix) for sample in family.samples],
            )
            for family in found
        ]
    ).encode()


def _decode(text: bytes) -> list[Family]:
    """Return the families of another process.

    :raises ValueError, TypeError, KeyError: for a text that was cut, or is of another version.
    """
    return [
        Family(name, kind, about, [Sample(*sample) for sample in samples])
        for name, kind, about, samples in json.loads(text)
    ]
