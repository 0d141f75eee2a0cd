"""The metrics of a hub: a snapshot of its counters as families of numbers.

The counters are in the parts that count: ``net/traffic.py`` counts messages and bytes,
``core/figures.py`` clients and rooms by kind, and each ticking room its ticks.  A snapshot adds
them up.

Layer: hub.  Threads: any thread may call these functions.
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

from hubthread.checks import check_kind
from hubthread.core.core import Core
from hubthread.core.figures import OTHER, RoomFigures
from hubthread.hub.exposition import OPEN_METRICS, TEXT, Family, render, wants_open_metrics
from hubthread.net.traffic import Counts, Meter
from hubthread.protocol.http import Response
from hubthread.protocol.request import Request
from hubthread.statistics import BackplaneStatistics, HubStatistics
from hubthread.version import VERSION

__all__ = ["answer_scrape", "answer_wsgi_scrape", "families"]

_room_figures = attrgetter("_kind", "members_num", "push_count", "_load", "_ticks")


def answer_scrape(found: Callable[[], Iterable[Family]], request: Request) -> Response:
    """Answer a request for metrics; see ``Hub.metrics``."""
    check_kind("request", request, Request, "a Request")
    return _page(found(), request.headers.get("Accept"))


def answer_wsgi_scrape(
    found: Callable[[], Iterable[Family]],
    environ: dict[str, Any],
    start_response: Callable[..., Any],
) -> list[bytes]:
    """Answer a request for metrics inside a WSGI server; see ``Hub.metrics_app``."""
    check_kind("environ", environ, dict, "the environ of a WSGI request")
    page = _page(found(), environ.get("HTTP_ACCEPT"))
    start_response("200 OK", [("Content-Type", page.content_type)])
    return [page.body]


def _page(found: Iterable[Family], accept: str | None) -> Response:
    """Return metrics as a page.

    :param accept: the header ``Accept`` of the request, which may ask for OpenMetrics.
    """
    open_metrics = wants_open_metrics(accept or "")
    text = render(found, open_metrics=open_metrics)
    return Response(200, text.encode(), OPEN_METRICS if open_metrics else TEXT)


def families(core: Core[Any, Any], statistics: HubStatistics) -> list[Family]:
    """Return the metrics of a hub.

    :param statistics: the hub's statistics of this moment.
    """
    return [
        *_hub(core, statistics),
        *_clients(core, statistics),
        *_rooms(core),
        *_sessions(core),
        *_backplane(statistics.backplane),
    ]


def _hub(core: Core[Any, Any], statistics: HubStatistics) -> list[Family]:
    info = Family("hubthread_info", "gauge", "Versions of the process, as labels; always 1.")
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    info.add(
        1,
        version=VERSION,
        python=platform.python_version(),
        free_threaded="false" if gil else "true",
    )
    up = Family("hubthread_up", "gauge", "1 while the hub is running, 0 before and afterwards.")
    up.add(int(statistics.state == "running"))
    depth = Family("hubthread_hub_queue_depth", "gauge", "Jobs that wait for the hub thread.")
    depth.add(statistics.queue_depth)
    age = Family(
        "hubthread_hub_queue_age_seconds", "gauge", "Time that the oldest job has waited at most."
    )
    age.add(statistics.queue_age)
    running = Family(
        "hubthread_hub_closure_running_seconds", "gauge", "Time since the present job began."
    )
    running.add(statistics.closure_running)
    closures = Family(
        "hubthread_hub_closure_seconds", "histogram", "Time of closures and flushes of the hub."
    )
    closures.add_histogram(core.loop.times)
    failed = Family(
        "hubthread_hub_closures_failed", "counter", "Closures on the hub thread that raised."
    )
    failed.add(statistics.closures_failed)
    stuck = Family(
        "hubthread_callbacks_stuck",
        "gauge",
        "Callbacks over the limit of the watchdog.",
    )
    stuck.add(statistics.stuck)
    limits = Family("hubthread_limits_struck", "counter", "Times that a limit was reached.")
    for name, count in statistics.limits_struck.items():
        limits.add(count, limit=name)
    threads = Family("hubthread_threads", "gauge", "Threads of the hub, by role.")
    for role, number in sorted(core.threads.roles().items()):
        threads.add(number, role=role)
    return [info, up, depth, age, running, closures, failed, stuck, limits, threads]


def _clients(core: Core[Any, Any], statistics: HubStatistics) -> list[Family]:
    kinds = core.registry.client_figures()
    now = Family("hubthread_clients", "gauge", "Clients that are connected, by kind.")
    opened = Family("hubthread_clients_opened", "counter", "Clients that came, by kind.")
    seconds = Family(
        "hubthread_client_seconds",
        "histogram",
        "Life of the clients that are gone, by kind.",
    )
    for kind, figures in kinds.items():
        now.add(figures.connected, kind=kind)
        opened.add(figures.opened, kind=kind)
        seconds.add_histogram(figures.seconds, kind=kind)
    ended = Family(
        "hubthread_clients_ended",
        "counter",
        "Connections that ended, by cause, also those whose token was refused.",
    )
    for cause, number in statistics.ended_by.items():
        ended.add(number, cause=cause)
    refused = Family(
        "hubthread_handshakes_refused",
        "counter",
        "Requests answered with an error, by status.",
    )
    for status, number in core.refusals.by_status().items():
        refused.add(number, status=str(status))
    callbacks = Family(
        "hubthread_callback_seconds",
        "histogram",
        "Time of callbacks of clients, by kind, with callback_times.",
    )
    traffic = core.meter.totals()
    if core.setting.callback_times:
        for kind, counts in traffic.items():
            callbacks.add_histogram(counts.callbacks, kind=kind)
    found = [now, opened, seconds, ended, refused, callbacks]
    return [*found, *_traffic(traffic), *_waiting(core.meter)]


_TRAFFIC: Final = {
    "messages_received": ("Messages received, by kind of client.", "received"),
    "messages_sent": ("Messages written and pushed, by kind of client.", "sent"),
    "messages_dropped": (
        "Messages dropped by the overflow policy, by kind.",
        "dropped",
    ),
    "received_bytes": ("Bytes received without TLS, by kind of client.", "received_bytes"),
    "sent_bytes": ("Bytes sent without TLS, by kind of client.", "sent_bytes"),
}


def _traffic(kinds: Mapping[str, Counts]) -> list[Family]:
    found = []
    for name, (text, attribute) in _TRAFFIC.items():
        numbers = {kind: getattr(counts, attribute) for kind, counts in kinds.items()}
        found.append(_by_kind(f"hubthread_{name}", "counter", text, numbers))
    return found


def _waiting(meter: Meter) -> list[Family]:
    waiting = [outbox.waiting() for outbox in list(meter.lagging)]
    waiting = [each for each in waiting if each[0]]
    messages = Family("hubthread_outbox_messages", "gauge", "Messages that wait for clients.")
    messages.add(sum(number for number, _ in waiting))
    size = Family("hubthread_outbox_bytes", "gauge", "Bytes that wait for clients.")
    size.add(sum(size for _, size in waiting))
    lagging = Family("hubthread_lagging_clients", "gauge", "Clients that messages wait for.")
    lagging.add(len(waiting))
    return [messages, size, lagging]


_TICKS: Final = {
    "ticks": ("Ticks that ran, by kind of room.", "ticks"),
    "ticks_skipped": ("Ticks that were left out, by kind of room.", "skipped"),
    "tick_overruns": ("Ticks longer than the period, by kind of room.", "overruns"),
    "tick_errors": ("Ticks whose logic raised, by kind of room.", "errors"),
}


def _rooms(core: Core[Any, Any]) -> list[Family]:
    kinds, hotlines = core.registry.all_room_figures()
    rooms, members = Counter(dict.fromkeys(kinds, 0)), Counter(dict.fromkeys(kinds, 0))
    pushes = Counter({kind: figures.pushes for kind, figures in kinds.items()})
    loads: dict[str, float] = {}
    for hotline in hotlines:
        kind, members_num, push_count, load, ticks = _room_figures(hotline)
        if kind not in kinds:  # the kind came after ``MAX_KINDS`` other kinds
            kind = OTHER
        rooms[kind] += 1
        members[kind] += members_num
        pushes[kind] += push_count
        if load is not None:
            loads[kind] = max(load, loads.get(kind, 0.0))
        if ticks is not None:
            kinds[kind].ticks.add(ticks)
    found = [
        _by_kind("hubthread_rooms", "gauge", "Rooms that are open, by kind of room.", rooms),
        _by_kind("hubthread_room_members", "gauge", "Members of rooms, by kind of room.", members),
        _by_kind("hubthread_room_pushes", "counter", "Pushes to rooms, by kind of room.", pushes),
        _by_kind(
            "hubthread_tick_load_ratio",
            "gauge",
            "Load of the busiest room, by kind of room.",
            loads,
        ),
    ]
    return [*found, *_ticks(kinds), _recoveries(kinds)]


def _by_kind(name: str, kind: Any, text: str, numbers: Mapping[str, float]) -> Family:
    family = Family(name, kind, text)
    for label, number in numbers.items():
        family.add(number, kind=label)
    return family


def _ticks(kinds: Mapping[str, RoomFigures]) -> list[Family]:
    ticking = {kind: figures.ticks for kind, figures in kinds.items() if figures.ticks.ticks}
    found = []
    for name, (text, attribute) in _TICKS.items():
        numbers = {kind: getattr(ticks, attribute) for kind, ticks in ticking.items()}
        found.append(_by_kind(f"hubthread_{name}", "counter", text, numbers))
    work = Family(
        "hubthread_tick_work_seconds",
        "histogram",
        "Work of ticks, by kind of room.",
    )
    late = Family("hubthread_tick_late_seconds", "histogram", "Delay of ticks, by kind of room.")
    for kind, ticks in ticking.items():
        work.add_histogram(ticks.work, kind=kind)
        late.add_histogram(ticks.late, kind=kind)
    return [*found, work, late]


def _recoveries(kinds: Mapping[str, RoomFigures]) -> Family:
    family = Family(
        "hubthread_recoveries",
        "counter",
        "Clients that came back with a position, by kind of room.",
    )
    for kind, figures in kinds.items():
        if figures.recovered or figures.not_recovered:
            family.add(figures.recovered, kind=kind, recovered="true")
            family.add(figures.not_recovered, kind=kind, recovered="false")
    return family


def _sessions(core: Core[Any, Any]) -> list[Family]:
    away = Family("hubthread_clients_away", "gauge", "Clients that may come back (sessions).")
    resumes = Family(
        "hubthread_sessions_resumed", "counter", "Clients that asked for their session again."
    )
    if core.sessions is not None:
        now, resumed, missed = core.sessions.figures()
        away.add(now)
        resumes.add(resumed, resumed="true")
        resumes.add(missed, resumed="false")
    return [away, resumes]


def _backplane(statistics: BackplaneStatistics | None) -> list[Family]:
    up = Family("hubthread_backplane_up", "gauge", "1 while the backplane is connected.")
    waiting = Family(
        "hubthread_backplane_pushes", "gauge", "Pushes that have no place in their room yet."
    )
    size = Family("hubthread_backplane_bytes", "gauge", "Bytes of the pushes without a place.")
    lost = Family(
        "hubthread_backplane_connections_lost",
        "counter",
        "Connections to the backplane that were lost or could not be made.",
    )
    looks = Family(
        "hubthread_backplane_looks", "counter", "Looks into the streams for missed pushes."
    )
    unknown = Family(
        "hubthread_backplane_unknown_messages",
        "counter",
        "Messages of another version that were ignored.",
    )
    local = Family(
        "hubthread_backplane_local_pushes",
        "counter",
        "Pushes that only the members of this hub have got.",
    )
    if statistics is not None:
        up.add(int(statistics.state == "up"))
        waiting.add(statistics.waiting)
        size.add(statistics.waiting_bytes)
        lost.add(statistics.lost_connections)
        looks.add(statistics.looks)
        unknown.add(statistics.unknown)
        local.add(statistics.local)
    return [up, waiting, size, lost, looks, unknown, local]
