"""One page of metrics for two workers of gunicorn, of which one is killed and made anew."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integrations.running import Running, running
from tests.support.waiting import TIMEOUT


def clients_by_worker(server: Running) -> dict[str, int]:
    """Return the number of clients of each worker whose hub runs."""
    status, text = server.ask("/metrics")
    assert status == 200
    found = {}
    for family in parse(text):
        for sample in family.samples:
            if sample.name == "hubthread_clients":
                found[sample.labels["worker"]] = int(sample.value)
    return found


def test_scrape_of_any_worker_answers_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    monkeypatch.setenv("METRICS_DIR", str(folder))
    with contextlib.ExitStack() as stack:
        application = "tests.integrations.metrics_app:app"
        server = stack.enter_context(
            running("gunicorn-gthread", "-w", "2", application=application)
        )
        peers: dict[ClientConnection, int] = {}

        def join_both_workers() -> None:
            while len(set(peers.values())) < 2:  # on a busy machine one begins seconds later
                peer = stack.enter_context(
                    connect(server.url, ping_interval=None, open_timeout=TIMEOUT)
                )
                process = int(peer.recv(TIMEOUT))
                if list(peers.values()).count(process) < 3:
                    peers[peer] = process
                else:
                    peer.close()
            server.until(all_are_counted)

        def all_are_counted() -> bool:
            counted = clients_by_worker(server)
            return set(counted) == {"0", "1"} and sum(counted.values()) == len(peers)

        join_both_workers()
        for _ in range(10):  # a page of either worker
            assert all_are_counted()
        files = sorted(os.listdir(folder))
        assert files == ["0.lock", "0.sock", "1.lock", "1.sock"]

        killed = next(iter(peers.values()))
        os.kill(killed, signal.SIGKILL)
        for peer, process in list(peers.items()):
            if process == killed:
                with contextlib.suppress(ConnectionClosed):
                    peer.recv(TIMEOUT)
                del peers[peer]
        # The others are still counted, and the dead one is not; the new one may be there already.
        server.until(lambda: sum(clients_by_worker(server).values()) == len(peers))
        # The new worker takes the place of the dead one.
        join_both_workers()
        assert sorted(os.listdir(folder)) == files
    assert sorted(os.listdir(folder)) == ["0.lock", "1.lock"]
