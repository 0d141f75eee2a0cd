"""The metrics of a hub in a registry of ``prometheus_client``, beside those of the program.

::

    HubCollector(hub).register()                  # in prometheus_client.REGISTRY

A program without a registry needs neither this module nor the library: see ``Hub.metrics``.

Layer: integrations.  Threads: ``collect`` runs on the thread of the scrape.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hubthread.checks import check_kind
from hubthread.errors import UsageError
from hubthread.hub.hub import Hub

__all__ = ["HubCollector"]

_MULTIPROCESS = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class HubCollector(Collector):
    """The metrics of a hub, as ``prometheus_client`` collects them.

    They are those of ``Hub.metrics``, and with ``HubSetting.metrics_dir`` those of all processes.

    :param hub: the hub.
    :raises UsageError: in the multiprocess mode of ``prometheus_client``, which shows no
        collectors.
    """

    def __init__(self, hub: Hub[Any, Any]) -> None:
        check_kind("hub", hub, Hub, "a Hub")
        for name in _MULTIPROCESS:
            if name in os.environ:
                raise UsageError(
                    f"{name} is set, and in this multiprocess mode prometheus_client leaves "
                    f"collectors out without a word: serve hub.metrics or hub.metrics_app as a "
                    f"page of its own, with HubSetting(metrics_dir=...) for all processes"
                )
        self._hub = hub

    def register(self, registry: CollectorRegistry = REGISTRY) -> HubCollector:
        """Add the metrics to a registry; return the collector, for ``registry.unregister``.

        :raises UsageError: if the registry has the metrics of a hub already.
        """
        try:
            registry.register(self)
        except ValueError as error:
            raise UsageError(
                f"the registry has the metrics of a hub already; give each hub a registry of its "
                f"own: {error}"
            ) from None
        return self

    def describe(self) -> Iterator[Metric]:
        """Yield the names, for the registry."""
        for family in self._hub._lifecycle.metrics.names():
            yield Metric(family.name, family.help, family.type)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        for family in self._hub._lifecycle.metrics.families():
            metric = Metric(family.name, family.help, family.type)
            for sample in family.samples:
                metric.add_sample(family.name + sample.suffix, dict(sample.labels), sample.value)
            yield metric
