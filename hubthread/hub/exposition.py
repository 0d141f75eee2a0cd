"""Families of metrics, and the two text formats that Prometheus reads.

Layer: hub.  Threads: pure functions; any thread may call them.
Source: Prometheus' text exposition format 0.0.4 and OpenMetrics 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from hubthread.concurrency.histogram import Histogram

__all__ = ["OPEN_METRICS", "TEXT", "Family", "Sample", "render", "wants_open_metrics"]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a family."""

    value: float
    labels: Labels = field(default_factory=dict)
    suffix: str = ""
    """Follows the family's name: ``_total`` of a counter, ``_bucket`` of a histogram."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, its type, and its numbers by label."""

    name: str
    """Without the ``_total`` of a counter."""
    type: Literal["counter", "gauge", "histogram"]
    help: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add one number of a counter or gauge."""
        self.samples.append(Sample(value, labels, "_total" if self.type == "counter" else ""))

    def add_histogram(self, histogram: Histogram, **labels: str) -> None:
        """Add the buckets, the count and the sum of a histogram."""
        counts = list(histogram.counts)  # once: another thread may add to it
        total = 0
        for bound, count in zip((*map(str, histogram.bounds), "+Inf"), counts, strict=True):
            total += count
            self.samples.append(Sample(total, {**labels, "le": bound}, "_bucket"))
        self.samples.append(Sample(total, labels, "_count"))
        self.samples.append(Sample(histogram.total, labels, "_sum"))


def wants_open_metrics(accept: str) -> bool:
    """Return True if the header ``Accept`` asks for OpenMetrics.

    A scraper that names OpenMetrics prefers it to the older format.
    """
    return "application/openmetrics-text" in accept.lower()


def render(families: Iterable[Family], *, open_metrics: bool = False) -> str:
    """Return the families as text, with the content type ``TEXT`` or ``OPEN_METRICS``."""
    lines: list[str] = []
    for family in families:
        name = family.name
        if family.type == "counter" and not open_metrics:
            name += "_total"
        lines.append(f"# HELP {name} {_escaped(family.help)}")
        lines.append(f"# TYPE {name} {family.type}")
        for sample in family.samples:
            labels = ",".join([_pair(*each) for each in sample.labels.items()])
            braces = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{sample.suffix}{braces} {sample.value}")
    if open_metrics:
        lines.append("# EOF")
    return "\n".join(lines) + "\n"


@lru_cache(maxsize=1024)  # labels have few values, and each of them is in many series
def _pair(label: str, value: str) -> str:
    return f'{label}="{_escaped(value, quoted=True)}"'


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text
