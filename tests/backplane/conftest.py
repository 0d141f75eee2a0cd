"""One Redis server for all files of the folder, a fast heartbeat, and much patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hubthread.backplane.redis import backplane, beats, keeper, presence
from hubthread.core import lease
from tests.support.redis_server import RedisServer, patient_connections, redis_server
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
    patient_connections(monkeypatch)
    monkeypatch.setattr(keeper, "LATE", 1e6)
    monkeypatch.setattr(beats, "LIFE", TIMEOUT)
    monkeypatch.setattr(presence, "LEASE_SECONDS", TIMEOUT)
    monkeypatch.setattr(lease, "SECONDS", TIMEOUT)


@pytest.fixture
def _beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hub be told soon what it learns with its beats."""
    monkeypatch.setattr(backplane, "BEAT", 0.2)
