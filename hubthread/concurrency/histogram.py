"""A histogram of durations with fixed buckets.

Layer: concurrency.  Threads: the owner of a histogram says which thread adds to it; any thread
may read it, and may miss the value that is being added.
Source: the histogram of Prometheus' exposition format.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["BOUNDS", "LONG_BOUNDS", "QUICK", "Histogram"]

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets in seconds, for work that takes milliseconds."""

QUICK: Final = BOUNDS[0]
"""The end of the first bucket, in which nearly all work is: see ``add_quick``."""

LONG_BOUNDS: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper ends of the buckets in seconds, for connections."""


class Histogram:
    """Counts of values by bucket, and their sum.

    :param bounds: the upper ends of the buckets, rising; values above go into one bucket more.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """The number of values in each bucket."""
        self.total = 0.0
        """The sum of all values."""

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_quick(self, number: int, total: float) -> None:
        """Count so many values in the first bucket, without a call for each."""
        self.counts[0] += number
        self.total += total

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram with the same buckets."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
