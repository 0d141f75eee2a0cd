"""The metrics of a hub in a registry of ``prometheus_client``."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from hubthread import HotlineOption, HubSetting, SettingTypeError, UsageError
from hubthread.integrations.prometheus import HubCollector
from hubthread.testing import VirtualHub
from tests.hub.test_metrics import metrics_of


def series(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_collector_shows_what_the_page_shows() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        registry = CollectorRegistry(auto_describe=True)
        collector = HubCollector(hub).register(registry)
        hub.hotline(HotlineOption(kind="table"))
        peer = hub.connect()
        hub.advance(2)
        peer.close()
        assert series(generate_latest(registry).decode()) == series(metrics_of(hub))
        registry.unregister(collector)
        assert generate_latest(registry) == b""


def test_collector_of_a_second_hub_is_refused_by_the_registry() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        registry = CollectorRegistry()
        HubCollector(hub).register(registry)
        with pytest.raises(UsageError, match="a registry of its own"):
            HubCollector(hub).register(registry)


@pytest.mark.parametrize("name", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
def test_collector_is_refused_where_it_would_show_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "/nowhere")
    with (
        VirtualHub(HubSetting[Any, Any](dict)) as hub,
        pytest.raises(UsageError, match=f"{name} is set.*metrics_dir"),
    ):
        HubCollector(hub)


def test_collector_refuses_what_is_no_hub() -> None:
    other: Any = "hub"
    with pytest.raises(SettingTypeError, match="a Hub"):
        HubCollector(other)
