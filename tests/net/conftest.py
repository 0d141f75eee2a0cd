"""Fixtures of the tests of several transports."""

from __future__ import annotations

import pytest

from hubthread.concurrency import fairness


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return the list of pauses of a reader; no time passes but the CPU time of its work."""
    pauses: list[None] = []
    monkeypatch.setattr(fairness, "yield_gil", lambda: pauses.append(None))
    monkeypatch.setattr(fairness, "monotonic", lambda: 0.0)
    return pauses
