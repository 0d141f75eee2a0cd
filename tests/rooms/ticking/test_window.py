"""The figures of a room's ticks."""

from __future__ import annotations

from hubthread import Tick
from hubthread.rooms.ticking.window import WINDOW, TickWindow
from hubthread.statistics import Spread


def test_window_empty_has_zeros() -> None:
    window = TickWindow()
    assert (window.ticks, *window.spreads()) == (0, Spread(0, 0, 0), Spread(0, 0, 0))


def test_window_counts_all_ticks_and_keeps_the_times_of_the_last() -> None:
    """One tick in a hundred is the 99th percentile; older ones are forgotten."""
    window = TickWindow()
    for index in range(1, 701):
        late = 0.125 if index == 650 else 9.0 if index <= 700 - WINDOW else 0.0
        window.add(Tick(index, 1.0, late, 2), 0.25 if index % 100 else 0.5)
    assert (window.ticks, window.skipped) == (700, 1400)
    assert window.spreads() == (Spread(0.25, 0.5, 0.5), Spread(0, 0, 0.125))


def test_window_copy_does_not_change() -> None:
    window = TickWindow()
    window.add(Tick(1, 1.0, 0.5, 0), 0.25)
    copied = window.copy()
    window.add(Tick(2, 1.0, 0.0, 0), 4.0)
    window.late = 1
    assert (copied.ticks, copied.late) == (1, 0)
    assert copied.spreads() == (Spread(0.25, 0.25, 0.25), Spread(0.5, 0.5, 0.5))
