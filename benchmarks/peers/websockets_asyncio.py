"""websockets on asyncio: with its ``broadcast``, or (``websockets-loop``) awaiting each send.

``broadcast`` has no backpressure, as its documentation says: the saturated publisher yields to the
event loop after each message, and buffers grow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed

from benchmarks.peers.contract import JOINED, Job, listening, publish_async


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    asyncio.run(_serve(job, loops=name.endswith("loop")))


async def _serve(job: Job, loops: bool) -> None:
    members: dict[ServerConnection, None] = {}
    one_order = asyncio.Lock()
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def by_loop(message: str) -> None:
        async with one_order:
            for member in list(members):
                try:
                    await member.send(message)
                except ConnectionClosed:
                    members.pop(member, None)

    async def by_broadcast(message: str) -> None:
        broadcast(members, message)

    to_all: Callable[[str], Awaitable[None]] = by_loop if loops else by_broadcast

    async def attend(connection: ServerConnection) -> None:
        if job.mode == "echo":
            async for message in connection:
                await connection.send(message)
            return
        members[connection] = None
        await connection.send(JOINED)
        try:
            async for message in connection:
                if job.mode == "room":
                    await to_all(str(message))
                elif message == "go":
                    tasks.append(asyncio.create_task(publish_async(job, stop, to_all)))
                elif message == "stop":
                    stop.set()
        finally:
            members.pop(connection, None)

    async with serve_websockets(
        attend,
        "127.0.0.1",
        0,
        ssl=job.tls(),
        compression="deflate" if job.deflate else None,
        backlog=1024,
    ) as server:
        listening(server.sockets[0].getsockname()[1])
        await server.serve_forever()
