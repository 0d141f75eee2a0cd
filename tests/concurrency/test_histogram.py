"""Durations counted by bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.concurrency.histogram import BOUNDS, Histogram


@given(st.lists(st.floats(0, 100)))
def test_histogram_counts_each_value_in_the_first_bucket_that_holds_it(
    values: list[float],
) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for place, (low, high) in enumerate(
        zip((-1.0, *BOUNDS), (*BOUNDS, float("inf")), strict=True)
    ):
        assert histogram.counts[place] == sum(low < value <= high for value in values)
    assert histogram.total == pytest.approx(sum(values))  # 3.12 rounds sums otherwise
