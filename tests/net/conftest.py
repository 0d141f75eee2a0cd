"""What tests of several transports share."""

from __future__ import annotations

import pytest

from hubthread.concurrency import fairness


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Where the reader has given way, so far: no time passes but that of its work."""
    pauses: list[None] = []
    monkeypatch.setattr(fairness, "yield_gil", lambda: pauses.append(None))
    monkeypatch.setattr(fairness, "monotonic", lambda: 0.0)
    return pauses
