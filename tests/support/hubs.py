"""A hub that serves for one test, and the clients that it has."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

from hubthread import (
    Client,
    ConnectionProtocols,
    Hub,
    HubSetting,
    IHub,
    Server,
    SocketServer,
    Upgrader,
    WebsocketPeriod,
)
from tests.support.logs import Logs
from tests.support.peers import RawPeer, connect
from tests.support.waiting import TIMEOUT

AnyHub = Hub[Any, Any]
AnyClient = Client[Any, Any]


class Serving:
    """A hub that runs and listens, and the clients that came."""

    def __init__(self, hub: AnyHub, server: Server, logs: Logs, came: queue.Queue[Any]) -> None:
        self.hub = hub
        self.server = server
        self.logs = logs
        self._came = came
        self._peers: list[RawPeer] = []

    def came(self) -> AnyClient:
        """Wait for the next client whose start callback has run."""
        client: AnyClient = self._came.get(timeout=TIMEOUT)
        return client

    def peer(self, *, receive_buffer: int | None = None, **kwargs: Any) -> RawPeer:
        """Connect a bare peer."""
        peer = RawPeer(connect(self.server, receive_buffer), **kwargs)
        self._peers.append(peer)
        return peer

    def pair(self, **kwargs: Any) -> tuple[RawPeer, AnyClient]:
        """Connect a bare peer; return it and the hub's client of the same connection."""
        peer = self.peer(**kwargs)
        return peer, self.came()

    def pairs(self, count: int) -> list[tuple[RawPeer, AnyClient]]:
        """Connect ``count`` peers, one after another."""
        return [self.pair() for _ in range(count)]

    def close_peers(self) -> None:
        for peer in self._peers:
            peer.close()


@contextlib.contextmanager
def serving(
    *,
    close_timeout: float = TIMEOUT,
    upgrader: Upgrader | None = None,
    period: WebsocketPeriod[Any] | None = None,
    serve: dict[str, Any] | None = None,
    **fields: Any,
) -> Iterator[Serving]:
    """Run a hub with these settings on a free port of localhost; its log is ``logs``."""
    logs = Logs()
    came: queue.Queue[Any] = queue.Queue()
    on_start = fields.pop("on_connection_start", None)

    def start(ctx: Any, meta: Any) -> None:
        try:
            if on_start is not None:
                on_start(ctx, meta)
        finally:
            came.put(ctx)

    fields.setdefault("meta_gen", dict)
    fields.setdefault("logger", logs)
    if upgrader is not None:
        period = WebsocketPeriod(upgrader=upgrader)
    setting = HubSetting[Any, Any](
        on_connection_start=start,
        websocket_period=WebsocketPeriod() if period is None else period,
        **fields,
    )
    hub = Hub(setting)
    hub.start()
    try:
        served = Serving(hub, hub.serve(**(serve or {})), logs, came)
        try:
            yield served
        finally:
            served.close_peers()
    finally:
        hub.close(close_timeout)


def fence(hub: IHub) -> None:
    """Wait until the hub has done everything that was submitted and pushed before."""
    hub.exec_sync(lambda _: None, TIMEOUT)


def listen(s: Serving, protocol: ConnectionProtocols = ConnectionProtocols.TCP) -> SocketServer:
    """Open a raw port of the hub on localhost."""
    return s.hub.socket_handles("127.0.0.1", 0, protocol)


def ended(s: Serving, count: int = 1) -> dict[str, int]:
    """Wait for ``count`` raw peers to end; return the causes, counted."""
    s.logs.records.until(
        lambda records: sum(" ended: " in record.getMessage() for record in records) >= count
    )
    return dict(s.hub.statistics().ended_by)


def how_it_ended(s: Serving) -> tuple[int, str]:
    """Return level and text of the only log line about the end of a raw peer."""
    (record,) = [each for each in s.logs.records.now() if " ended: " in each.getMessage()]
    return record.levelno, record.getMessage()
