"""What each fault is held to beyond threads and sockets: memory returns to where it was."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

LEFT_BYTES = 2**20
"""What a test may leave in Python's memory: what is imported and cached at first use."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")


@pytest.fixture(autouse=True)
def _leaves_no_memory_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    # A load is five times slower when it is traced, and the table's test reads all the others.
    if request.node.get_closest_marker("load") or request.path.name == "test_table.py":
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
