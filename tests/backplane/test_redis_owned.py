"""Rooms that one hub owns, by way of Redis."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubthread import (
    BackplaneDown,
    CallTimeout,
    FrameControl,
    History,
    HotlineOption,
    Hub,
    HubSetting,
    NodeGone,
    NotOwner,
    OwnedOption,
    OwnedRoom,
    RedisBackplane,
)
from hubthread.rooms.ticking import owned
from tests.support.redis_server import RedisServer
from tests.support.waiting import TIMEOUT, Items, tries

PROGRAM = Path(__file__).parents[1] / "support" / "owner_program.py"
LEASE = 1.0
"""Seconds of a lease of the process that is stopped: it has the room, however busy it is."""


@pytest.fixture(autouse=True)
def _no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hub end when it has said its last word, however busy the machine is."""
    monkeypatch.setattr(owned, "PLACED", TIMEOUT)


class Game:
    """The callbacks of a room, and what they have noted."""

    def __init__(self) -> None:
        self.notes: Items[str] = Items()
        self._added: set[str] = set()
        self.option = OwnedOption[list[int]](
            lambda: [0],
            self.logic,
            hz=20,
            calls={"add": self.add},
            on_close=lambda frame, obj: frame.push(f"bye {frame.hub.name}"),
            save=lambda obj: b"%d" % obj[0],
            load=lambda saved: [int(saved)],
            room=HotlineOption(shared=True, history=History()),
        )

    def logic(self, frame: FrameControl[list[int]], obj: list[int]) -> None:
        assert isinstance(frame, OwnedRoom)
        frame.push(f"{frame.token} {frame.hub.name} {obj[0]}")
        self.notes.add(f"{frame.hub.name} {obj[0]}")

    def add(self, frame: FrameControl[list[int]], obj: list[int], payload: list[Any]) -> int:
        """Add a number, once for each name of a call."""
        name, number = payload
        if name not in self._added:
            self._added.add(name)
            obj[0] += number
        return obj[0]


@contextlib.contextmanager
def hub_with_redis(server: RedisServer, prefix: str, name: str) -> Iterator[Hub[Any, Any]]:
    backplane = RedisBackplane(server.url, prefix=prefix)
    with Hub(HubSetting[Any, Any](dict, hub_name=name, backplane=backplane)) as hub:
        try:
            yield hub
        finally:
            hub.close(TIMEOUT)


def call(hub: Hub[Any, Any], room: OwnedRoom[Any], number: int) -> Any:
    """Call until a hub that owns the room has answered; an answer may be lost."""
    name = secrets.token_hex(4)
    for _ in tries():
        with contextlib.suppress(NodeGone, CallTimeout, BackplaneDown):
            return hub.call(room, "add", [name, number])
    raise AssertionError("no hub has owned the room")


def stream_with(text: bytes, server: RedisServer, prefix: str) -> bytes:
    """Return all pushes of the room that have a place, in their order, when ``text`` has one."""
    pushed = b""
    with server.client() as client:
        for _ in tries():
            entries = client.xrange(f"{prefix}:{{arena}}:s")
            pushed = b"".join(fields[b"d"] for _, fields in entries)
            if text in pushed:
                break
    return pushed


def test_owner_that_closes_hands_its_state_over(server: RedisServer) -> None:
    played, prefix = Game(), secrets.token_hex(4)
    with hub_with_redis(server, prefix, "two") as two:
        with hub_with_redis(server, prefix, "one") as one:
            first = one.own("arena", played.option)
            played.notes.until(lambda notes: "one 0" in notes)
            second = two.own("arena", played.option)
            assert call(two, second, 7) == 7
            with pytest.raises(NotOwner):
                second.exec_async(lambda frame, obj: None)
            first.post("add", ["posted", 1])
            played.notes.until(lambda notes: "one 8" in notes)
        played.notes.until(lambda notes: "two 8" in notes)
        assert second.token > first.token
        notes = played.notes.now()
        assert not any(note.startswith("one") for note in notes[notes.index("two 8") :])
        pushed = stream_with(b"two 8", server, prefix)
        assert 0 < pushed.index(b"bye one") < pushed.index(b"two 8")
        second.close()
        assert second.join(TIMEOUT)
        third = two.own("arena", played.option)
        assert call(two, third, 0) == 0  # a room that was closed begins anew


def test_server_that_starts_again_keeps_the_owner(server: RedisServer) -> None:
    played, prefix = Game(), secrets.token_hex(4)
    with (
        hub_with_redis(server, prefix, "one") as one,
        hub_with_redis(server, prefix, "two") as two,
    ):
        first = one.own("arena", played.option)
        assert call(one, first, 5) == 5
        second = two.own("arena", played.option)
        with server.client() as client:
            client.flushall()
        server.restart()
        assert call(two, second, 0) == 5
        assert (first.is_owner, second.is_owner) == (True, False)


def test_owner_that_was_stopped_in_a_tick_reaches_no_member_afterwards(
    server: RedisServer,
) -> None:
    played, prefix = Game(), secrets.token_hex(4)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), server.url, prefix, f"{LEASE}"],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    said: Items[str] = Items()

    def read() -> None:
        for line in process.stdout or ():
            said.add(line)

    reader = threading.Thread(target=read)
    reader.start()
    with process, hub_with_redis(server, prefix, "two") as two:
        try:
            assert process.stdin is not None
            assert said.wait(1) == ["in the tick\n"]
            room = two.own("arena", played.option)
            process.send_signal(signal.SIGSTOP)
            played.notes.until(lambda notes: len(notes) > 2)
            process.stdin.write("\n")
            process.stdin.flush()
            process.send_signal(signal.SIGCONT)
            assert said.wait(3)[1:] == ["pushed\n", "orphan\n"]
            process.wait(TIMEOUT)  # its hub has closed: what it pushed has been judged
        finally:
            process.kill()
            reader.join(TIMEOUT)
        assert call(two, room, 1) == 1
        pushed = stream_with(b"two 0", server, prefix)
        assert b"in time" in pushed
        assert b"too late" not in pushed
        assert b"orphan" not in pushed
