"""The transport of shared readers: it never blocks, and sizes its reads by what they cost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread.concurrency.fairness import SLICE
from hubthread.net.shared import SharedTransport


class Watched:
    """Stands for the place among those that share threads."""

    def end(self) -> None:
        pass


@pytest.fixture
def pair() -> Iterator[tuple[SharedTransport, socket.socket]]:
    ours, theirs = socket.socketpair()
    watch: Any = Watched()
    transport = SharedTransport(ours, watch)
    yield transport, theirs
    transport.close()
    theirs.close()


Pair = tuple[SharedTransport, socket.socket]


def read(pair: Pair, took: float) -> int:
    """Read from a peer that has sent plenty, and say what the bytes have cost."""
    transport, theirs = pair
    theirs.setblocking(False)
    theirs.send(b"x" * 10_000)
    data = transport.recv()
    assert transport.full
    transport.adapt_reads(took)
    return len(data)


def test_transport_without_bytes_raises_timeout(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[0].recv()


def test_transport_reads_grow_for_a_peer_whose_bytes_cost_little(pair: Pair) -> None:
    assert [read(pair, 0.0) for _ in range(3)] == [512, 2048, 8192]


def test_transport_reads_shrink_and_stay_small_for_a_peer_whose_bytes_cost_much(
    pair: Pair,
) -> None:
    assert read(pair, 0.0) == 512
    assert [read(pair, 2 * SLICE) for _ in range(4)] == [2048, 1024, 512, 256]
    assert [read(pair, SLICE) for _ in range(3)] == [256, 256, 256]


def test_transport_reads_are_of_the_usual_size_again_after_a_small_one(pair: Pair) -> None:
    transport, theirs = pair
    for _ in range(3):
        read(pair, 0.0)
    while len(transport.recv()) == transport.size:
        pass
    theirs.send(b"x")
    assert transport.recv() == b"x"
    assert not transport.full
    assert transport.size == 2048
