"""One Redis server for all files of the folder, and a fast heartbeat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hubthread.backplane.redis import backplane
from tests.support.redis_server import RedisServer, redis_server


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


@pytest.fixture
def _beat_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hub notice soon that a connection is silent; a busy machine may be silent, too."""
    monkeypatch.setattr(backplane, "BEAT", 0.2)
