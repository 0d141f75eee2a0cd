"""hubthread with its defaults: a hotline for the room, and the program's thread to publish.

The publisher hands over ``job.window`` pushes and then waits until the batch before is consumed
(``wait_push_consumed``), as a program that wants to keep pace does.  So up to two batches are in
flight.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.peers.contract import BLOCK, JOINED, Job, Publisher, listening
from hubthread import (
    History,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    PingPongPlan,
    Position,
    Readers,
    RedisBackplane,
    Sessions,
    Upgrader,
    WebsocketPeriod,
)

_PATIENCE_S = 30.0


def serve(job: Job, name: str) -> None:
    """Serve until the process ends."""
    hub: Hub[dict[str, Any], str]

    def echo(ctx: IOContext, meta: object) -> bool:
        ctx.write(ctx.payload)
        return False

    def sleepy(ctx: IOContext, meta: object) -> bool:
        if job.pause > 0:
            time.sleep(job.pause)
        elif ctx.payload == BLOCK:
            time.sleep(_PATIENCE_S)
        ctx.write(ctx.payload)
        return False

    def to_room(ctx: IOContext, meta: object) -> bool:
        room.push(ctx.payload)
        return False

    def told(ctx: IOContext, meta: object) -> bool:
        publisher.told(ctx.payload)
        return False

    def join(ctx: IOContext, meta: object) -> None:
        if job.since:
            room.answer(ctx, since=Position(job.since, 0))
        else:
            room.answer(ctx)
        ctx.write(JOINED)

    handlers = {"echo": sleepy if job.pause else echo, "room": to_room, "publish": told}
    period: WebsocketPeriod[Any] = WebsocketPeriod(
        upgrader=Upgrader(compression=job.deflate), ping_pong_plan=PingPongPlan()
    )
    hub = Hub(
        HubSetting(
            dict,
            on_receive_message=handlers[job.mode],
            on_connection_start=None if job.mode == "echo" else join,
            websocket_period=period,
            readers=Readers.SHARED if name.endswith(("shared", "sessions")) else Readers.OWN,
            backplane=RedisBackplane(job.redis) if job.redis else None,
            sessions=Sessions() if name.endswith("sessions") else None,
        )
    )
    shared = bool(job.redis) or name.endswith("history")
    history = History(size=1000) if shared else None
    room = hub.hotline(HotlineOption("room", shared=shared, history=history))
    handed_over: list[int] = []

    def push(message: str) -> None:
        number = room.push(message)
        if not job.rate and number % job.window == 0:
            handed_over.append(number)
            if len(handed_over) > 1:
                room.wait_push_consumed(handed_over.pop(0), _PATIENCE_S)

    publisher = Publisher(job, push)
    with hub, hub.serve(max_connections=20_000, ssl=job.tls()) as server:
        while job.redis and hub.statistics().backplane.state != "up":  # type: ignore[union-attr]
            time.sleep(0.01)
        listening(int(server.address[1]))
        threading.Event().wait()
