"""A snapshot of one hub's counters, and the page that shows it.

Layer: hub.  Threads: pure reads; any thread may call these functions.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hubthread.core.core import Core
from hubthread.hub.lifecycle import Lifecycle
from hubthread.protocol.http import Response
from hubthread.serving.wsgi import WSGIBridge
from hubthread.statistics import HubStatistics

__all__ = ["described", "health_page", "snapshot", "state_of"]


def state_of(core: Core[Any, Any]) -> str:
    """Return the hub's state; ``failed`` if a bug of the library has stopped it."""
    if core.state.failure is not None:
        return "failed"
    running = core.state.value == "running"
    return "draining" if running and core.state.draining else core.state.value


def described(core: Core[Any, Any]) -> dict[str, Any]:
    """Return the description of this hub for other hubs."""
    return {
        "name": core.name,
        "state": state_of(core),
        "clients": core.registry.everyone.members_num(),
        "hotlines": core.registry.counts()[0],
    }


def snapshot(core: Core[Any, Any], lifecycle: Lifecycle, bridge: WSGIBridge) -> HubStatistics:
    """Return the hub's counters."""
    hotlines, total, dropped, ended = core.registry.counts()
    return HubStatistics(
        name=core.name,
        state=state_of(core),
        clients=core.registry.everyone.members_num(),
        hotlines=hotlines,
        threads=core.threads.count(),
        queue_depth=core.loop.depth(),
        closures_run=core.loop.closures_run,
        closures_failed=core.loop.closures_failed,
        clients_total=total,
        handshakes_refused=core.refusals.count,
        messages_dropped=dropped,
        ended_by=ended,
        wsgi_moved=bridge.moved,
        wsgi_parked=bridge.parked,
        queue_age=core.loop.oldest(),
        closure_running=core.loop.running(),
        closure_longest=core.loop.longest,
        limits_struck=core.incidents.counts(),
        stuck=lifecycle.watchdog.stuck,
        backplane=core.sharing.statistics(),
    )


def health_page(statistics: HubStatistics, watchdog: float | None) -> Response:
    """Return ``statistics`` as JSON: with status 200 if the hub is well, or else 503.

    :param watchdog: the seconds after which a closure counts as stuck; None: never.
    """
    stuck = watchdog is not None and statistics.closure_running > watchdog
    well = statistics.state == "running" and not stuck
    return Response.json(asdict(statistics), 200 if well else 503)
