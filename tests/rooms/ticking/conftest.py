"""The virtual hub of the tests that need no threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import HubSetting
from hubthread.testing import VirtualHub
from tests.rooms.ticking.rooms import AnyVirtualHub


@pytest.fixture
def hub() -> Iterator[AnyVirtualHub]:
    """Run a virtual hub: nothing happens in it until the test lets time pass, or settles."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub
    assert hub.errors == []
