"""One Redis server for all files of the folder, a fast heartbeat, and much patience."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hubthread.backplane.redis import backplane, beats, keeper, presence, wire
from hubthread.core import lease
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import TIMEOUT


@pytest.fixture(scope="session")
def kept_server() -> Iterator[RedisServer]:
    """A server that keeps everything over a restart."""
    with redis_server("--appendonly", "yes") as server:
        yield server


@pytest.fixture(scope="module")
def server(kept_server: RedisServer) -> RedisServer:
    """The server, which is empty at the begin of a file."""
    with kept_server.client() as client:
        client.flushall()
    return kept_server


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing count as lost or dead only because a busy machine stands still for a while."""
    monkeypatch.setattr(wire, "CONNECT", TIMEOUT)
    monkeypatch.setattr(wire, "REPLY", TIMEOUT)
    ask: Any = wire.Wire.ask
    monkeypatch.setitem(ask.__kwdefaults__, "timeout", TIMEOUT)
    monkeypatch.setattr(keeper, "LATE", 1e6)
    monkeypatch.setattr(beats, "LIFE", TIMEOUT)
    monkeypatch.setattr(presence, "LEASE_SECONDS", TIMEOUT)
    monkeypatch.setattr(lease, "SECONDS", TIMEOUT)


@pytest.fixture
def _beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hub be told soon what it learns with its beats."""
    monkeypatch.setattr(backplane, "BEAT", 0.2)
