"""The check that every fault leaves no memory behind, beside no threads and no sockets."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

LEFT_BYTES = 2**20
"""Bytes that a test may leave: modules and caches of the first use."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(autouse=True)
def _leaves_no_memory_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    # Tracing makes a load five times slower, and the table's test reads all other tests.
    load = request.node.get_closest_marker("load")
    if load is not None or request.path.name == "test_table.py":
        yield
        return
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if left > LEFT_BYTES:
        pytest.fail(f"{left:,} bytes left behind", pytrace=False)
