"""The metrics of a hub as instruments of OpenTelemetry, and callbacks as spans."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hubthread import HotlineOption, HubSetting, SettingTypeError
from hubthread.examples.tracing import setting_with_spans
from hubthread.integrations import opentelemetry
from hubthread.integrations.opentelemetry import instrument
from hubthread.testing import VirtualHub

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def collected(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Return the unit and the numbers of each instrument, by its attributes as text."""
    data: Any = reader.get_metrics_data()
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    return {
        metric.name: (
            metric.unit,
            {
                ",".join(f"{key}={value}" for key, value in point.attributes.items()): point.value
                for point in metric.data.data_points
            },
        )
        for metric in scope.metrics
    }


def test_instruments_show_the_metrics() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], shutdown_on_exit=False)
        instrument(hub, provider.get_meter("test"))
        hub.hotline(HotlineOption(kind="table"))
        hub.connect().send("hello")
        peer = hub.connect()
        hub.advance(2)
        peer.close()
        found = collected(reader)
        assert found["hubthread.rooms"] == ("", {"kind=table": 1})
        assert found["hubthread.clients"] == ("", {"kind=websocket": 1})
        assert found["hubthread.received"][0] == "By"
        assert found["hubthread.client.sum"] == ("s", {"kind=websocket": 2.0})
        assert found["hubthread.client.count"] == ("", {"kind=websocket": 1})
        assert found["hubthread.client.bucket"][1]["kind=websocket,le=1.0"] == 0
        assert found["hubthread.client.bucket"][1]["kind=websocket,le=10.0"] == 1


def test_collection_takes_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentelemetry, "_FRESH", 1000.0)
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        taken: list[None] = []
        families = hub._lifecycle.metrics.families

        def counted() -> Any:
            taken.append(None)
            return families()

        hub._lifecycle.metrics.families = counted  # type: ignore[method-assign]
        reader = InMemoryMetricReader()
        instrument(hub, MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
        collected(reader)
        assert len(taken) == 1


def test_instrument_refuses_what_is_no_hub() -> None:
    other: Any = "hub"
    with pytest.raises(SettingTypeError, match="a Hub"):
        instrument(other)


def test_example_has_a_span_for_each_callback_in_the_trace_of_the_handshake() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with VirtualHub(setting_with_spans(provider.get_tracer("test"))) as hub:
        traced = hub.connect(headers={"traceparent": PARENT})
        untraced = hub.connect()
        for peer in (traced, untraced):
            peer.send('{"type": "say", "text": "hello"}')
            for each in (traced, untraced):
                assert json.loads(each.take()) == {"type": "said", "text": "hello"}
        traced.send(json.dumps({"type": "say", "text": 7}))
    said = [span for span in spans.get_finished_spans() if span.name == "say"]
    contexts: list[Any] = [span.context for span in said]
    assert format(contexts[0].trace_id, "032x") == TRACE
    assert format(contexts[1].trace_id, "032x") != TRACE
    assert said[1].parent is None
    assert (said[0].attributes or {})["hubthread.client_id"] == 1
    (failed,) = [span for span in spans.get_finished_spans() if span.events]
    assert failed.events[0].name == "exception"
