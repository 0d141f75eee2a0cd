"""The number of examples that hypothesis tries of a model."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(count: int) -> int:
    """Return ``count``, or fewer where ``conftest.py`` makes all numbers smaller."""
    of_hundred: int = settings().max_examples
    return count * of_hundred // 100
