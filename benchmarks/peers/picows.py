"""picows: Cython on asyncio, with callbacks, and a loop over send() for rooms.

The saturated publisher waits while the buffer of any transport is full (``pause_writing``), and
yields to the event loop after each message.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from benchmarks.peers.contract import JOINED, Job, listening, publish_async

picows: Any = importlib.import_module("picows")


class _Room:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.members: dict[Any, None] = {}
        self.stop = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._full: set[object] = set()
        self._task: asyncio.Task[None] | None = None

    def told(self, message: bytes) -> None:
        if message == b"go":
            self._task = asyncio.create_task(publish_async(self.job, self.stop, self._push))
        elif message == b"stop":
            self.stop.set()

    def to_all(self, message: bytes) -> None:
        text = picows.WSMsgType.TEXT
        for member in self.members:
            member.send(text, message)

    async def _push(self, message: str) -> None:
        self.to_all(message.encode())
        if not self.job.rate:
            await self._flowing.wait()

    def paused(self, listener: object) -> None:
        self._full.add(listener)
        self._flowing.clear()

    def resumed(self, listener: object) -> None:
        self._full.discard(listener)
        if not self._full:
            self._flowing.set()


class _Listener(picows.WSListener):  # type: ignore[misc]
    def __init__(self, room: _Room) -> None:
        super().__init__()
        self._room = room
        self._mode = room.job.mode

    def on_ws_connected(self, transport: Any) -> None:
        if self._mode != "echo":
            self._room.members[transport] = None
            transport.send(picows.WSMsgType.TEXT, JOINED.encode())

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type != picows.WSMsgType.TEXT:
            return
        if self._mode == "echo":
            transport.send(picows.WSMsgType.TEXT, frame.get_payload_as_bytes())
        elif self._mode == "room":
            self._room.to_all(frame.get_payload_as_bytes())
        else:
            self._room.told(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: Any) -> None:
        self._room.members.pop(transport, None)
        self._room.resumed(self)

    def pause_writing(self) -> None:
        self._room.paused(self)

    def resume_writing(self) -> None:
        self._room.resumed(self)


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    asyncio.run(_serve(job))


async def _serve(job: Job) -> None:
    room = _Room(job)
    server = await picows.ws_create_server(
        lambda request: _Listener(room), "127.0.0.1", 0, ssl=job.tls(), backlog=1024
    )
    listening(server.sockets[0].getsockname()[1])
    await server.serve_forever()
