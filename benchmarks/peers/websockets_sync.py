"""websockets.sync, threads: a loop over ``send``, or (``sync-broadcast``) its ``broadcast``.

A lock keeps one order for all members, as the other servers do; ``sync-unlocked`` is the usual
loop, run by all threads at once, without a common order.  All block while a member's socket is
full.
"""

from __future__ import annotations

import contextlib
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websockets

from benchmarks.peers.contract import JOINED, Job, Publisher, listening

try:
    from websockets.sync.server import broadcast
except ImportError:  # before 17
    broadcast = None  # type: ignore[assignment]


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    members: dict[ServerConnection, None] = {}
    locked = not name.endswith("unlocked")
    one_order = threading.Lock()

    def by_loop(message: str) -> None:
        with one_order if locked else contextlib.nullcontext():
            for member in list(members):
                try:
                    member.send(message)
                except ConnectionClosed:
                    members.pop(member, None)

    def by_broadcast(message: str) -> None:
        with one_order:
            broadcast(list(members), message)

    to_all = by_broadcast if name.endswith("broadcast") else by_loop
    publisher = Publisher(job, to_all)

    def attend(connection: ServerConnection) -> None:
        if job.mode == "echo":
            for message in connection:
                connection.send(message)
            return
        with one_order:
            connection.send(JOINED)
            members[connection] = None
        try:
            for message in connection:
                if job.mode == "room":
                    to_all(str(message))
                else:
                    publisher.told(message)
        finally:
            with one_order:
                members.pop(connection, None)

    with serve_websockets(
        attend,
        "127.0.0.1",
        0,
        ssl=job.tls(),
        compression="deflate" if job.deflate else None,
    ) as server:
        listening(server.socket.getsockname()[1])
        server.serve_forever()
