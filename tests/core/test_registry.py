"""The clients and hotlines of a hub, and the counters of those that are gone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hubthread import Closed, Hub, HubSetting
from hubthread.core.push_log import PushLog
from hubthread.core.registry import Registry
from hubthread.testing import VirtualHub
from tests.support import AnyHub


def registry_of(hub: AnyHub) -> Registry[Any, Any]:
    return hub._core.registry


def test_registry_numbers_are_never_given_twice() -> None:
    registry: Registry[Any, Any] = Registry(PushLog(lambda flush: None, 1, "all"), time.monotonic)
    assert [registry.next_client_id() for _ in range(3)] == [1, 2, 3]
    assert [registry.next_hotline_id() for _ in range(3)] == [1, 2, 3]


def test_registry_client_is_found_until_its_connection_has_ended() -> None:
    """Then its counters are added to those of the hub."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        registry = registry_of(hub)
        peer = hub.connect()
        client = peer.ctx
        assert registry.client(client.connection_id) is client
        assert registry.everyone.members() == [client]
        peer.close()
        assert registry.client(client.connection_id) is None
        assert registry.everyone.members() == []
        assert registry.counts() == (0, 1, 0, {"peer": 1})


def test_registry_sealed_refuses_a_client() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        registry = registry_of(hub)
        registry.everyone.seal()
        peer = hub.connect()
        assert peer.close_code == 1001
        with pytest.raises(Closed):
            registry.everyone.join(object())


def test_registry_replace_of_a_removed_hotline_does_nothing() -> None:
    hub = Hub(HubSetting[Any, Any](dict))
    registry, one, two = registry_of(hub), hub.hotline(), hub.hotline()
    assert registry.hotlines() == [one, two]
    assert registry.hotline(one.hotline_id) is one
    registry.remove(one)
    registry.remove(one)
    registry.replace(one)
    assert registry.hotline(one.hotline_id) is None
    registry.replace(two)
    assert registry.hotlines() == [two]
    hub.close()


def test_registry_busy_caller_is_watched_while_it_is() -> None:
    registry: Registry[Any, Any] = Registry(PushLog(lambda flush: None, 1, "all"), time.monotonic)
    caller: Any = object()
    with registry.busy(caller):
        assert registry.watched() == [caller]
    assert registry.watched() == []
