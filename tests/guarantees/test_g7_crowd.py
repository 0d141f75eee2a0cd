"""G7 and the cost of idling, with a thousand clients: a thread each, and nothing left after."""

from __future__ import annotations

import os
import socket
import threading
from time import monotonic

import pytest

from hubthread import WebsocketPeriod
from tests.support import TIMEOUT, AnyClient, Serving, connect, raw_handshake, serving


def crowd(s: Serving, count: int) -> list[tuple[socket.socket, AnyClient]]:
    """Connected clients that have read their handshake's answer, and their other ends."""
    socks = [connect(s.server) for _ in range(count)]
    for sock in socks:
        sock.sendall(raw_handshake())
    clients = {client.handshake.peer: client for client in (s.came() for _ in range(count))}
    pairs = []
    for sock in socks:
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        pairs.append((sock, clients[sock.getsockname()]))
    return pairs


@pytest.mark.load
@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_clients_cost_a_thread_each_and_leave_nothing() -> None:
    """While they are idle no other thread is there; when they are gone, nothing is."""
    with serving() as s:
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        pairs = crowd(s, 1000)
        assert s.hub.statistics().clients == 1000
        assert threading.active_count() == threads + 1000
        assert len(os.listdir("/proc/self/fd")) == descriptors + 2000
        contexts = [client.context for _, client in pairs]
        for sock, _ in pairs:
            sock.close()
        for context in contexts:
            assert context.wait(TIMEOUT)
        readers = [each for each in threading.enumerate() if each.name.endswith("-reader")]
        for reader in readers:
            reader.join(TIMEOUT)
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert s.hub.statistics().clients == 0
        assert s.server.statistics().connections == 0


@pytest.mark.load
@pytest.mark.usefixtures("many_descriptors")
def test_closing_with_a_thousand_clients_some_stalled() -> None:
    """It ends within its deadline and leaves nothing; those who read are told 1001."""
    with serving(
        outbox_bytes=2**26, period=WebsocketPeriod(write_wait=120.0, close_timeout=120.0)
    ) as s:
        pairs = crowd(s, 1000)
        for _, client in pairs[:20]:
            for _ in range(10):
                client.write(b"\0" * 2**20)
        start = monotonic()
        s.hub.close(12.0)
        took = monotonic() - start
        assert took < 12.0 + 2.0
        assert s.hub.statistics().threads == 0
        assert s.hub.statistics().clients == 0
        assert s.hub.statistics().ended_by == {"server": 1000}
        for sock, _ in pairs[20:]:
            assert sock.recv(100)[:4] == b"\x88\x1a\x03\xe9"
        for sock, _ in pairs:
            sock.close()
    assert s.logs.warnings() == []
