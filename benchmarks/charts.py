"""Bar charts of the results: one SVG for each case, for light and dark pages.

Each is a few kilobytes and needs no other file, so that a set can be committed and shown with
 ``.. image:: benchmarks/charts/storm-200-clients.svg``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from benchmarks.peers import BARE, SUBJECT
from benchmarks.runner import Result

__all__ = ["STYLE", "text", "write_charts"]

_WIDTH = 760
_LEFT = 170
_RIGHT = 170
_TOP = 64
_ROW = 30
_BAR = 18
_FOOT = 34

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 }
  .quiet { fill: #6e7781; font-size: 12px }
  .ours { font-weight: 600 }
  .bar { fill: #afb8c1 }
  .bar.ours { fill: #2da44e }
  .bar.limit { fill: #d8dee4; stroke: #8c959f; stroke-dasharray: 3 3 }
  .range { stroke: #24292f; stroke-width: 1.5 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quiet { fill: #8d96a0 }
    .bar { fill: #484f58 }
    .bar.ours { fill: #3fb950 }
    .bar.limit { fill: #21262d; stroke: #6e7681 }
    .range { stroke: #f0f6fc }
    .ground { fill: #0d1117 }
  }
"""


def write_charts(folder: Path, machine: str, results: Sequence[Result]) -> list[Path]:
    """Draw a chart of each case that has figures; return the paths.

    :param machine: the measured machine, in one line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (work, name), group in groupby(results, key=lambda one: (one.case.work, one.case.name)):
        # A peer must not win by losing or garbling messages.
        good = [one for one in group if one.values(one.case.chart.key) and not one.faults()]
        if good:
            path = folder / (re.sub(r"\W+", "-", f"{work} {name}").strip("-") + ".svg")
            path.write_text(_chart(good, machine))
            written.append(path)
    return written


def _chart(results: list[Result], machine: str) -> str:
    case = results[0].case
    column = case.chart
    results = sorted(
        results, key=lambda one: one.median(column.key) or 0.0, reverse=column.more_is_better
    )
    height = _TOP + _ROW * len(results) + _FOOT
    most = max(max(one.values(column.key)) for one in results) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    better = "more is better" if column.more_is_better else "less is better"
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    label = escape(case.title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="6"/>',
        text(20, 28, case.title, "title"),
        text(
            20, 48, f"{column.heading}, {better}; medians, with the range of the rounds", "quiet"
        ),
    ]
    for number, one in enumerate(results):
        parts += _bar(one, _TOP + _ROW * number, scale)
    parts += [text(20, height - 12, machine, "quiet"), "</svg>"]
    return "\n".join(parts) + "\n"


def _bar(result: Result, top: float, scale: float) -> list[str]:
    column, name = result.case.chart, result.peer.name
    values = result.values(column.key)
    middle = result.median(column.key) or 0.0
    kind = "ours" if name == SUBJECT else "limit" if name == BARE else ""
    line = top + _BAR / 2
    size = f'width="{max(1.0, middle * scale):.1f}" height="{_BAR}"'
    parts = [
        text(_LEFT - 10, top + 14, name, kind, end=True),
        f'<rect class="bar {kind}" x="{_LEFT}" y="{top}" {size} rx="3"/>',
        text(_LEFT + max(values) * scale + 8, top + 14, column.show(middle), kind),
    ]
    if len(values) > 1:
        low, high = (_LEFT + value * scale for value in (min(values), max(values)))
        parts.append(
            f'<path class="range" d="M{low:.1f} {line}H{high:.1f}M{low:.1f} {line - 4}v8'
            f'M{high:.1f} {line - 4}v8"/>'
        )
    return parts


def text(x: float, y: float, text: str, kind: str = "", *, end: bool = False) -> str:
    """Return a text element of one of the style's kinds, which begins or ends at ``x``."""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{anchor}>{escape(text)}</text>'
