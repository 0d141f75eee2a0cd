"""The health page of a hub, and the figures on it."""

from __future__ import annotations

import json
import threading
from dataclasses import fields
from functools import partial
from typing import Any

import pytest

from hubthread import Hub, HubSetting, Request, Server
from hubthread.protocol.request import Headers
from hubthread.statistics import HubStatistics
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, AnyHub, Gate, Logs, ask, in_thread, status_of


@pytest.mark.parametrize("limit", [0.3, None])
def test_health_of_a_hub_with_a_stuck_closure_is_503_until_it_ends(limit: float | None) -> None:
    """Without a watchdog it stays 200.  On a busy machine a page may take a part of the limit."""
    gate = Gate()
    hub: AnyHub = Hub(HubSetting[Any, Any](dict, watchdog=limit, logger=(logs := Logs())))
    with hub, hub.serve(pages={"/health": hub.health}) as server:
        status, figures = get(server)
        assert status == 200
        assert list(figures) == [field.name for field in fields(HubStatistics)]
        try:
            hub.exec_async(gate)
            gate.reached()
            hub.exec_async(lambda _: None)
            if limit is not None:
                logs.wait("it is doing:")
            status, figures = get(server)
        finally:
            gate.open()
        assert (status, figures["stuck"]) == ((200, 0) if limit is None else (503, 1))
        assert (figures["state"], figures["queue_depth"]) == ("running", 1)
        hub.exec_sync(lambda _: None)
        if limit is not None:
            logs.wait("has ended")
        status, figures = get(server)
        assert (status, figures["stuck"]) == (200, 0)


def test_health_of_a_hub_not_started_or_closing_is_503() -> None:
    """Other ports than the hub's own may serve the page."""
    request = Request("GET", "/health", Headers([]))
    hub: AnyHub = Hub(HubSetting[Any, Any](dict))
    assert hub.health(request).status == 503  # it was not started yet
    with hub:
        assert hub.health(request).status == 200
        hub.wait_add()
        closing = in_thread(hub.close)
        ended = threading.Event()
        hub.context.add_callback(lambda reason: ended.set())
        while hub.state == "running":
            hub.exec_sync(lambda _: None)
        response = hub.health(request)
        assert (response.status, json.loads(response.body)["state"]) == (503, "closing")
        hub.wait_done()
        closing()
        assert ended.wait(TIMEOUT)
    assert hub.health(request).status == 503


def test_statistics_of_the_queue_count_virtual_seconds() -> None:
    """The wait of the oldest closure, the time of the running one, and the longest."""
    seen: list[tuple[int, float, float, float]] = []
    with VirtualHub(HubSetting[Any, Any](dict, watchdog=None)) as hub:

        def look() -> None:
            s = hub.statistics()
            seen.append((s.queue_depth, s.queue_age, s.closure_running, s.closure_longest))

        def work(seconds: float, dhub: object) -> None:
            hub.clock.spend(seconds)
            look()

        hub.advance(5)
        hub.exec_async(lambda _: None)
        hub.settle()
        for seconds in (3, 1, 2):
            hub.exec_async(partial(work, seconds))
        hub.settle()
        look()
    # Two closures wait behind the first, one behind the second.  The longest takes three seconds.
    assert seen == [(2, 3.0, 3.0, 0.0), (1, 4.0, 1.0, 3.0), (0, 0.0, 2.0, 3.0), (0, 0.0, 0.0, 3.0)]


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def get(server: Server) -> tuple[int, dict[str, Any]]:
    """Return the page's status and its JSON."""
    answer = ask(server, HEALTH)
    return status_of(answer), json.loads(answer.partition(b"\r\n\r\n")[2])
