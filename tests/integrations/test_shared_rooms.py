"""One room in four workers of gunicorn, by way of Redis."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from hubthread.client import connect as connect_link
from hubthread.publisher import Publisher
from tests.integrations.running import running
from tests.support.redis_server import redis_server
from tests.support.waiting import TIMEOUT, tries


def test_members_in_all_workers_see_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is older than the workers, and one of them is killed at the end."""
    with redis_server() as redis, contextlib.ExitStack() as stack:
        monkeypatch.setenv("REDIS_URL", redis.url)
        application = "tests.integrations.shared_app:app"
        server = stack.enter_context(
            running("gunicorn-gthread", "-w", "4", "--preload", application=application)
        )
        members: dict[str, ClientConnection] = {}  # one in each worker
        for _ in tries():  # on a busy machine the workers come one after another
            peer = stack.enter_context(
                connect(server.url, ping_interval=None, open_timeout=TIMEOUT)
            )
            if members.setdefault(str(peer.recv(TIMEOUT)), peer) is not peer:
                peer.close()
            elif len(members) == 3:
                break
        assert len(members) == 3
        for number in range(20):
            status, _ = server.ask("/push", f"push {number}")
            assert status == 200
        with Publisher(redis.url, prefix="shared-app") as publisher:
            assert publisher.push("table 7", "the end").offset == 21
        seen = {tuple(str(peer.recv(TIMEOUT)) for _ in range(21)) for peer in members.values()}
        (order,) = seen
        assert order[-1] == "the end"
        assert sorted(order[:-1]) == sorted(f"push {number}" for number in range(20))

        # The workers that are left go on when one is killed.
        killed = next(iter(members))
        os.kill(int(killed.split()[1]), signal.SIGKILL)
        with Publisher(redis.url, prefix="shared-app") as publisher:
            publisher.push("table 7", "after all")
        heard = 0
        for peer in members.values():
            with contextlib.suppress(ConnectionClosed):
                heard += peer.recv(TIMEOUT) == "after all"
        assert heard > 0


def test_clients_of_a_worker_that_has_had_its_requests_go_on_in_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with redis_server() as redis, contextlib.ExitStack() as stack:
        monkeypatch.setenv("REDIS_URL", redis.url)
        server = stack.enter_context(
            running(
                *("gunicorn-gthread", "-w", "4", "--max-requests", "10"),
                application="tests.integrations.shared_app:app",
            )
        )
        status, page = server.ask("/health")
        assert (status, json.loads(page)["state"]) == (200, "running")
        links = [stack.enter_context(connect_link(server.url, timeout=TIMEOUT)) for _ in range(4)]
        rooms = [link.room("table 7", replay=50) for link in links]
        numbers = [link.id for link in links]
        server.ask("/push", "ready")
        assert [room.receive(TIMEOUT) for room in rooms] == ["ready"] * 4
        ends: list[str] = []
        for link in links:
            link.on("state", lambda state, reason: ends.append(reason))
        pushes: list[str] = []
        while not any("server" in reason for reason in ends):
            pushes.append(f"push {len(pushes)}")
            assert server.ask("/push", pushes[-1])[0] == 200
        for room in rooms:
            assert [room.receive(TIMEOUT) for _ in pushes] == pushes
        server.until_logged("Autorestarting worker after current request")
        assert [link.id for link in links] == numbers
