"""Curves over time as one SVG, in the style of the charts, with a panel for each curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.charts import STYLE, text

__all__ = ["write_curves"]

_WIDTH = 760
_LEFT = 80
_RIGHT = 30
_TOP = 44
_PANEL = 110
_PLOT = 70


def write_curves(
    path: Path, title: str, seconds: Sequence[float], curves: Mapping[str, Sequence[float]]
) -> None:
    """Draw each curve over the same time, from zero to just above its maximum."""
    height = _TOP + _PANEL * len(curves) + 10
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<style>{STYLE} .curve {{ fill: none; stroke: #2da44e; stroke-width: 1.5 }}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="6"/>',
        text(20, 28, title, "title"),
    ]
    span = max(seconds) or 1.0
    for number, (name, values) in enumerate(curves.items()):
        bottom = _TOP + _PANEL * number + 24 + _PLOT
        most = max(values) * 1.1 or 1.0
        points = " ".join(
            f"{_LEFT + at / span * (_WIDTH - _LEFT - _RIGHT):.1f},{bottom - v / most * _PLOT:.1f}"
            for at, v in zip(seconds, values, strict=True)
        )
        parts += [
            text(_LEFT, bottom - _PLOT - 6, name, "quiet"),
            text(_LEFT - 8, bottom, "0", "quiet", end=True),
            text(_LEFT - 8, bottom - _PLOT + 10, f"{most:,.0f}", "quiet", end=True),
            f'<path class="range" d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}"/>',
            f'<polyline class="curve" points="{points}"/>',
            text(_WIDTH - _RIGHT, bottom + 14, f"{span / 60:.1f} min", "quiet", end=True),
        ]
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")
