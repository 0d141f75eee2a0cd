"""The metrics of a hub as instruments of OpenTelemetry, and the trace that a client came with.

Layer: integrations.  Threads: instruments are read on the thread of the SDK that collects.

::

    instrument(hub)

    def spans(ctx, meta):                         # HubSetting(around_callback=spans)
        return tracer.start_as_current_span("chat callback", trace_context(ctx))

The library is the API of OpenTelemetry alone.  The program sets up the SDK and the exporters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final

from opentelemetry import metrics, propagate
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from hubthread.checks import check_kind
from hubthread.hub.exposition import Family
from hubthread.hub.hub import Hub
from hubthread.interfaces import IOContext
from hubthread.version import VERSION

__all__ = ["instrument", "trace_context"]

_UNITS: Final = {"_seconds": "s", "_bytes": "By", "_ratio": "1"}  # UCUM

_FRESH: Final = 0.1
"""Seconds for which a snapshot serves: the instruments of one collection are read in turn."""

_SUFFIXES: Final = ("_bucket", "_count", "_sum")


def instrument(hub: Hub[Any, Any], meter: Meter | None = None) -> None:
    """Make an observable instrument of each metric of a hub.

    The names are those of ``Hub.metrics`` with ``hubthread.`` in front and the unit apart, such
    as ``hubthread.messages_sent``.  OpenTelemetry has no observable histogram: a histogram becomes
    the counters ``.count``, ``.sum`` and ``.bucket``, whose attribute ``le`` is the end of the
    bucket.

    The instruments live as long as the meter, and keep the hub.

    :param hub: the hub; call the function once for it.
    :param meter: by default the meter ``hubthread`` of the program's provider.
    """
    check_kind("hub", hub, Hub, "a Hub")
    if meter is None:
        meter = metrics.get_meter("hubthread", VERSION)
    snapshot = _Snapshot(hub._lifecycle.metrics.families)
    for family in hub._lifecycle.metrics.names():
        name, unit = _split(family.name)
        if family.type == "histogram":
            for suffix in _SUFFIXES:
                read = partial(snapshot.read, family.name, suffix)
                whole = f"{name}.{suffix[1:]}"
                in_unit = unit if suffix == "_sum" else ""
                meter.create_observable_counter(whole, [read], in_unit, family.help)
        else:
            total = family.type == "counter"
            read = partial(snapshot.read, family.name, "_total" if total else "")
            make = meter.create_observable_counter if total else meter.create_observable_gauge
            make(name, [read], unit, family.help)


def trace_context(ctx: IOContext) -> Context:
    """Return the context of the trace that a client's handshake belongs to.

    It is read from the headers of the handshake (``traceparent``, or what the program's propagator
    reads), and is empty without them.  A browser sends none; a proxy or another program may.

    :param ctx: the client.
    """
    return propagate.extract(dict(ctx.handshake.headers), Context())


class _Snapshot:
    """The metrics of one collection.

    Threads: any; the lock is held for one snapshot.
    """

    def __init__(self, families: Callable[[], list[Family]]) -> None:
        self._families = families
        self._lock = threading.Lock()
        self._until = 0.0
        self._found: dict[str, Family] = {}

    def read(self, name: str, suffix: str, options: CallbackOptions) -> Iterable[Observation]:
        """Return the numbers of an instrument."""
        with self._lock:
            if monotonic() >= self._until:
                self._found = {family.name: family for family in self._families()}
                self._until = monotonic() + _FRESH
            family = self._found[name]
        return [
            Observation(sample.value, dict(sample.labels))
            for sample in family.samples
            if sample.suffix == suffix
        ]


def _split(name: str) -> tuple[str, str]:
    """Return the name and the unit of a metric."""
    name = name.replace("_", ".", 1)
    for ending, unit in _UNITS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), unit
    return name, ""
