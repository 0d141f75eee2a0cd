"""A chat whose callbacks are spans of OpenTelemetry, and whose metrics are instruments.

Layer: top.  Threads: ``span`` runs on the thread of the callback that it is around.

::

    pip install 'hubthread[otel]' opentelemetry-sdk
    hubthread serve hubthread.examples.tracing:create_hub

The spans and the metrics go to the terminal; a program gives its own exporters instead.  Each
callback of a client is a span of the trace that the client's handshake belongs to
(``traceparent``), or of a trace of its own.  An exception of a callback is in its span.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.trace import Tracer

from hubthread import Hub, HubSetting, IOContext, JsonHeader, MatcherMap
from hubthread.integrations.opentelemetry import instrument, trace_context

__all__ = ["create_hub", "setting_with_spans"]

Meta = dict[str, str]


def setting_with_spans(tracer: Tracer) -> HubSetting[Meta, str]:
    """Return the setting of a chat whose callbacks are spans."""

    def span(ctx: IOContext, meta: Meta) -> AbstractContextManager[object]:
        attributes = {"hubthread.client_id": ctx.connection_id}
        return tracer.start_as_current_span("callback", trace_context(ctx), attributes=attributes)

    matcher = MatcherMap[Meta, str](JsonHeader("type"))  # {"type": "say", "text": "hello"}

    @matcher.handle("say")
    def say(ctx: IOContext, meta: Meta, message: dict[str, str]) -> None:
        trace.get_current_span().update_name("say")  # the handler knows which callback this is
        ctx.hub.broadcast(ctx.hub.marshal({"type": "said", **message}))

    return HubSetting(dict, receive_matcher=matcher, around_callback=span)


def create_hub() -> Hub[Any, Any]:
    """Return a hub that tells the terminal its spans, and each minute its metrics."""
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(
        MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())])
    )
    hub = Hub(setting_with_spans(trace.get_tracer("chat")))
    instrument(hub)
    return hub
