"""A client that comes back in another process, by way of a real server, also after kill -9."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubthread.client import Room, connect
from hubthread.publisher import Publisher
from tests.support.redis_server import Proxy, redis_server
from tests.support.waiting import TIMEOUT

ROOT = Path(__file__).parents[2]


def start(stack: contextlib.ExitStack, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integrations.session_node", str(path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.communicate, timeout=TIMEOUT)
    return process


def test_client_moves_to_another_process_and_back_when_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server() as redis, contextlib.ExitStack() as stack:
        monkeypatch.setenv("REDIS_URL", redis.url)
        paths = tmp_path / "one", tmp_path / "two"
        one, two = [start(stack, path) for path in paths]
        for process in (one, two):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        proxy = Proxy(paths[0])
        stack.callback(proxy.close)
        publisher = stack.enter_context(Publisher(redis.url, prefix="sessions"))
        link = stack.enter_context(connect(proxy.url.replace("redis", "ws"), timeout=TIMEOUT))
        room = link.room("table 7")
        here = link.receive(TIMEOUT)
        assert here["in"] == one.pid

        def told(room: Room, count: int) -> list[Any]:
            return [room.receive(TIMEOUT)["n"] for _ in range(count)]

        # The record of the session goes out with the own push at the latest.
        link.send("say", {"n": 1})
        assert told(room, 1) == [1]
        proxy.lead_to(paths[1])  # the process lives, and is asked
        for number in (2, 3):
            publisher.push_json("table 7", {"n": number})
        assert told(room, 2) == [2, 3]
        assert link.receive(TIMEOUT) == {**here, "in": two.pid, "said": 1}
        link.send("say", {"n": 4})
        assert told(room, 1) == [4]

        os.kill(two.pid, 9)
        proxy.lead_to(paths[0])
        for number in (5, 6):
            publisher.push_json("table 7", {"n": number})
        assert told(room, 2) == [5, 6]
        assert link.receive(TIMEOUT) == {**here, "in": one.pid, "said": 1}
        assert link.id == here["id"]
