"""The metrics of a hub, as Prometheus reads them."""

from __future__ import annotations

import gc
import json
import re
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from websockets.sync.client import connect

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    Overflow,
    Sessions,
    SettingError,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.concurrency.threads import Threads
from hubthread.core.figures import MAX_KINDS, OTHER
from hubthread.hub.exposition import Family, render
from hubthread.hub.metrics import families
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, AnyHub, Logs, Notes
from tests.support.logs import incidents_to


def figures(hub: AnyHub) -> dict[str, float]:
    """Return each number by its name and labels, as ``name{label=value}``."""
    found = {}
    for family in parse_text(metrics_of(hub)):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def metrics_of(hub: AnyHub, **headers: str) -> str:
    """Ask for the metrics as a WSGI server would."""
    answers = Notes()
    environ: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    (body,) = hub.metrics_app(environ, lambda *answer: answers(answer))
    ((status, fields),) = answers.now()
    assert status == "200 OK"
    kind = dict(fields)["Content-Type"]
    assert kind.startswith("application/openmetrics" if headers else "text/plain")
    return body.decode()


def echo(ctx: IOContext, meta: object) -> bool:
    ctx.write(ctx.payload)
    return False


def test_metrics_count_clients_messages_and_bytes() -> None:
    with VirtualHub(HubSetting[Any, Any](dict, on_receive_message=echo)) as hub:
        one, two = hub.connect(), hub.connect()
        for text in ("a", "bcd"):
            one.send(text)
            assert one.take() == text
        now = figures(hub)
        assert now["hubthread_clients{kind=websocket}"] == 2
        assert now["hubthread_messages_received_total{kind=websocket}"] == 2
        assert now["hubthread_messages_sent_total{kind=websocket}"] == 2
        # A client's frame has a head of two bytes and a mask of four.
        assert now["hubthread_received_bytes_total{kind=websocket}"] == 6 + 1 + 6 + 3
        assert now["hubthread_sent_bytes_total{kind=websocket}"] == 2 + 1 + 2 + 3
        hub.advance(90)
        one.close()
        two.drop()
        then = figures(hub)
        assert then["hubthread_clients{kind=websocket}"] == 0
        assert then["hubthread_clients_opened_total{kind=websocket}"] == 2
        assert then["hubthread_clients_ended_total{cause=peer}"] == 1
        assert then["hubthread_clients_ended_total{cause=lost}"] == 1
        assert then["hubthread_client_seconds_bucket{kind=websocket,le=60.0}"] == 0
        assert then["hubthread_client_seconds_count{kind=websocket}"] == 2
        assert_no_counter_goes_back(now, then)


def assert_no_counter_goes_back(now: dict[str, float], then: dict[str, float]) -> None:
    for name, value in now.items():
        if "_total" in name or "_count" in name or "_bucket" in name:
            assert then[name] >= value, name


def test_metrics_count_what_waits_and_what_is_dropped() -> None:
    setting = HubSetting[Any, Any](dict, overflow=Overflow.DROP_OLDEST, chan_queue_size=100)
    with VirtualHub(setting) as hub:
        slow = hub.connect(bytes_per_second=10.0)
        for number in range(500):
            slow.ctx.write(f"message {number:4}")
        now = figures(hub)
        messages, size = slow.ctx.ws_conn.outbox.waiting()
        assert messages
        assert now["hubthread_outbox_messages"] == messages
        assert now["hubthread_outbox_bytes"] == size
        assert now["hubthread_lagging_clients"] == 1
        dropped = slow.ctx.statistics().dropped
        assert dropped
        assert now["hubthread_messages_dropped_total{kind=websocket}"] == dropped
        slow.drop()
        then = figures(hub)
        assert (then["hubthread_outbox_messages"], then["hubthread_lagging_clients"]) == (0, 0)
        assert_no_counter_goes_back(now, then)


def test_metrics_tell_kinds_of_rooms_apart() -> None:
    def work(frame: FrameControl[list[int]], obj: list[int]) -> None:
        if frame.tick.index == 3:
            raise LookupError("the third tick")

    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        table, lobby = hub.hotline(HotlineOption(kind="table")), hub.hotline()
        option = HotlineFrameOption(list, work, hz=10)
        frame = option.run(hub.hotline(HotlineOption(kind="game")))
        peer = hub.connect()
        for room in (table, lobby):
            room.answer(peer.ctx)
        table.push("one")
        table.push("two")
        hub.advance(1.05)
        now = figures(hub)
        assert now["hubthread_rooms{kind=table}"] == 1
        assert now["hubthread_room_members{kind=}"] == 1
        assert now["hubthread_room_pushes_total{kind=table}"] == 2
        assert now["hubthread_ticks_total{kind=game}"] == 10
        assert now["hubthread_tick_errors_total{kind=game}"] == 1
        assert now["hubthread_tick_work_seconds_count{kind=game}"] == 10
        assert "hubthread_tick_load_ratio{kind=game}" in now
        table.close()
        frame.close()
        hub.settle()
        then = figures(hub)
        assert then["hubthread_rooms{kind=table}"] == 0
        assert then["hubthread_room_pushes_total{kind=table}"] == 2
        assert_no_counter_goes_back(now, then)


def test_metrics_have_the_times_of_callbacks_where_they_are_asked_for() -> None:
    """Also of those that raise."""

    def slow(ctx: IOContext, meta: object) -> bool:
        hub.clock.spend(0.02)
        if ctx.payload == "fail":
            raise LookupError("the handler")
        return False

    with VirtualHub(HubSetting[Any, Any](dict, on_receive_message=slow)) as hub:
        hub.connect().send("one")
        assert not any("callback_seconds" in name for name in figures(hub))
    setting = HubSetting[Any, Any](dict, on_receive_message=slow, callback_times=True)
    with VirtualHub(setting) as hub:
        peer = hub.connect()  # its start is a callback
        peer.send("one")
        peer.send("fail")
        now = figures(hub)
    assert now["hubthread_callback_seconds_count{kind=websocket}"] == 3
    assert now["hubthread_callback_seconds_sum{kind=websocket}"] == pytest.approx(0.04)
    assert now["hubthread_callback_seconds_bucket{kind=websocket,le=0.01}"] == 1


def test_metrics_count_sessions() -> None:
    upgrader = Upgrader(subprotocols=("hubthread.1",))
    setting = HubSetting[Any, Any](
        dict, sessions=Sessions(grace=10), websocket_period=WebsocketPeriod(upgrader=upgrader)
    )
    with VirtualHub(setting) as hub:
        peer = hub.connect(session=True)
        peer.drop()
        assert figures(hub)["hubthread_clients_away"] == 1
        again = hub.connect(resume=peer)
        now = figures(hub)
        assert now["hubthread_clients_away"] == 0
        assert now["hubthread_sessions_resumed_total{resumed=true}"] == 1
        again.drop()
        hub.advance(11)
        hub.connect(resume=again)
        then = figures(hub)
        assert then["hubthread_sessions_resumed_total{resumed=false}"] == 1
        assert_no_counter_goes_back(now, then)


def test_metrics_show_the_backplane_from_the_first_shared_room() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        assert "hubthread_backplane_up" not in figures(hub)
        hub.hotline(HotlineOption("table", shared=True)).push("one")
        hub.settle()
        now = figures(hub)
        assert now["hubthread_backplane_up"] == 1
        assert now["hubthread_backplane_pushes"] == 0
        assert now["hubthread_backplane_connections_lost_total"] == 0


def test_metrics_join_the_kinds_of_rooms_that_are_too_many() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        for number in range(MAX_KINDS + 3):
            hub.hotline(HotlineOption(kind=f"kind {number}"))
        now = figures(hub)
        assert now[f"hubthread_rooms{{kind={OTHER}}}"] == 3
        assert sum(name.startswith("hubthread_rooms{") for name in now) == MAX_KINDS + 1


@pytest.mark.parametrize("kind", ["k" * 51, "two\nlines"])
def test_option_refuses_a_kind_that_is_no_label(kind: str) -> None:
    with pytest.raises(SettingError, match="kind"):
        HotlineOption(kind=kind)


Rule = Callable[[str, str, str, "set[str]"], object]
PREFIXES = "(pico|nano|micro|milli|centi|deci|deca|hecto|kilo|kibi|mega|mibi|giga|gibi|tera|tebi)"
BASE = "amperes|bytes|celsius|grams|joules|kelvin|meters|metres|seconds|volts"
OTHER_UNITS = (
    "minutes|hours|days|weeks|kelvins|fahrenheit|rankine|inches|yards|miles|bits|calories|pounds"
    "|ounces"
)
RULES: dict[str, Rule] = {
    "no help text": lambda name, kind, text, labels: len(text) < 10 or not text.endswith("."),
    "not the prefix": lambda name, kind, text, labels: not name.startswith("hubthread_"),
    "letters": lambda name, kind, text, labels: re.search("[^a-z_]|__|_$", name + "".join(labels)),
    "unit": lambda name, kind, text, labels: re.search(
        f"_({PREFIXES}({BASE}|{OTHER_UNITS})|{OTHER_UNITS})(_|$)", name
    ),
    "short unit": lambda name, kind, text, labels: re.search(
        "_(s|ms|us|ns|sec|b|kb|mb|gb|tb|pb|m|h|d)(_|$)", name
    ),
    "unit at the end": lambda name, kind, text, labels: re.search(
        "_(seconds|bytes|ratio)_", name.removesuffix("_total")
    ),
    "total": lambda name, kind, text, labels: name.endswith("_total") != (kind == "counter"),
    "reserved name": lambda name, kind, text, labels: re.search("_(bucket|count|sum)$", name),
    "reserved label": lambda name, kind, text, labels: (
        "quantile" in labels or ("le" in labels) != (kind == "histogram" and bool(labels))
    ),
    "type in the name": lambda name, kind, text, labels: re.search(
        "_(counter|gauge|histogram|summary)(_|$)", name
    ),
    "type": lambda name, kind, text, labels: kind not in ("counter", "gauge", "histogram"),
}
"""The rules of ``promtool check metrics`` and of Prometheus' page on names: what breaks each."""


def broken_rules(text: str) -> list[tuple[str, str]]:
    """Return the metrics of a page, each with a rule that it breaks."""
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (.*)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for name, found in re.findall(r"^(\w+){(.*)}", text, re.MULTILINE):
        whole = name if name in kinds else re.sub("_(bucket|count|sum)$", "", name)
        labels[whole] |= set(re.findall(r'(\w+)="', found))
    return [
        (name, rule)
        for name, kind in kinds.items()
        for rule, breaks in RULES.items()
        if breaks(name, kind, helps.get(name, ""), labels[name])
    ]


def test_metrics_have_the_names_and_texts_that_prometheus_recommends() -> None:
    setting = HubSetting[Any, Any](dict, sessions=Sessions(grace=10))
    with VirtualHub(setting) as hub:
        hub.connect().close()
        HotlineFrameOption(list, lambda frame, obj: None, hz=10).run(hub.hotline())
        hub.hotline(HotlineOption("table", shared=True)).push("one")
        hub.advance(1)
        text = metrics_of(hub)
    assert text.count("# TYPE ") > 40
    assert broken_rules(text) == []


@pytest.mark.parametrize(
    ("name", "kind", "rest", "rule"),
    [
        ("hubthread_age_milliseconds", "gauge", "", "unit"),
        ("hubthread_age_minutes", "gauge", "", "unit"),
        ("hubthread_age_ms", "gauge", "", "short unit"),
        ("hubthread_seconds_of_age", "gauge", "", "unit at the end"),
        ("hubthread_messages", "counter", "", "total"),
        ("hubthread_messages_total", "gauge", "", "total"),
        ("hubthread_messages_count", "gauge", "", "reserved name"),
        ("hubthread_messages", "gauge", '{le="1"}', "reserved label"),
        ("hubthread_messages", "gauge", '{quantile="1"}', "reserved label"),
        ("hubthread_messages_gauge", "gauge", "", "type in the name"),
        ("hubthread_messages", "summary", "", "type"),
        ("hubthread_hubMessages", "gauge", "", "letters"),
        ("hubthread:messages", "gauge", "", "letters"),
        ("messages", "gauge", "", "not the prefix"),
    ],
)
def test_rules_of_names_find_what_breaks_them(name: str, kind: str, rest: str, rule: str) -> None:
    page = f"# HELP {name} Messages so far.\n# TYPE {name} {kind}\n{name}{rest} 1\n"
    assert (name, rule) in broken_rules(page)
    assert (name, "no help text") in broken_rules(page.replace("Messages so far.", ""))


def test_metrics_are_open_metrics_where_the_request_asks_for_them() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hub.connect()
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        text = metrics_of(hub, accept=accept)
        families = {family.name: family for family in parse_open_metrics(text)}  # type: ignore[no-untyped-call]
        assert families.keys() == {family.name for family in parse_text(metrics_of(hub))}
        assert families["hubthread_clients_opened"].type == "counter"


def awkward() -> Iterator[Family]:
    for kind in ("counter", "gauge"):
        family = Family(f"f_{kind}", kind, 'a "help"\\ in two\nlines')
        family.add(0.5, label='a "quoted" value\\ in two\nlines')
        yield family


def test_render_escapes_labels_and_texts() -> None:
    for family in parse_text(render(awkward())):
        assert family.documentation == 'a "help"\\ in two\nlines'
        assert [sample.labels for sample in family.samples] == [
            {"label": 'a "quoted" value\\ in two\nlines'}
        ]


def test_metrics_page_of_a_real_hub_is_served() -> None:
    """Also after its clients are gone, and while the hub closes."""
    hub: AnyHub = Hub(HubSetting[Any, Any](dict, on_receive_message=echo))
    with hub, hub.serve(pages={"/metrics": hub.metrics}) as server:
        with connect(server.url) as peer:
            peer.send("hello")
            assert peer.recv() == "hello"
            text = page(server.url)
        assert "hubthread_up 1" in text
        assert 'hubthread_messages_sent_total{kind="websocket"} 1' in text
        assert 'hubthread_threads{role="hub"} 1' in text
    assert figures(hub)["hubthread_up"] == 0


def test_dashboard_and_alerts_name_the_metrics_that_there_are_and_each_of_them() -> None:
    deploy = Path(__file__).parents[2] / "hubthread" / "docs" / "deploy"
    dashboard = (deploy / "grafana.json").read_text(encoding="utf-8")
    named = set(re.findall(r"\bhubthread_[a-z_]+", dashboard))
    alerts = (deploy / "alerts.yml").read_text(encoding="utf-8")
    hub: AnyHub = Hub(HubSetting[Any, Any](dict))
    there = set()
    for family in families(hub._core, hub.statistics()):
        suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}[family.type]
        there.add(family.name + suffix)
    hub.close()
    assert named == there
    assert set(re.findall(r"\bhubthread_[a-z_]+", alerts)) <= there
    panels = json.loads(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def page(url: str) -> str:
    with urllib.request.urlopen(
        url.replace("ws:", "http:") + "metrics", timeout=TIMEOUT
    ) as answer:
        return str(answer.read().decode())


def calls_of_scrape(hub: AnyHub) -> int:
    """Return the number of functions that a scrape calls."""
    calls = 0

    def count(frame: Any, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()
    gc.disable()  # or finalisers of earlier tests would count
    sys.setprofile(count)
    try:
        list(hub.metrics_app({}, lambda *answer: None))
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def test_scrape_costs_the_same_with_more_clients_and_little_with_more_rooms() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hub.hotline()
        hub.connect()
        figures(hub)  # fills what is cached
        alone = calls_of_scrape(hub)
        for _ in range(300):
            hub.connect()
        alone += 100
        assert calls_of_scrape(hub) < alone
        for number in range(100):
            hub.hotline(HotlineOption(f"room {number}"))
        assert calls_of_scrape(hub) < alone + 100 * 12


LABELS = {
    "cause", "free_threaded", "kind", "le", "limit", "python", "recovered", "resumed", "role",
    "status", "version",
}  # fmt: skip


def test_series_have_no_label_whose_values_grow() -> None:
    """Not with clients, their users, rooms, or the threads that callbacks block."""

    def user(ctx: IOContext, meta: object) -> str:
        return f"user {ctx.connection_id}"

    with VirtualHub(HubSetting[Any, Any](dict, user=user)) as hub:
        hub.connect().close()
        hub.hotline(HotlineOption("room"))
        before = figures(hub).keys()
        for number in range(20):
            hub.connect(f"/{number}", headers={"X-Request-ID": str(number)}).close()
            hub.hotline(HotlineOption(f"room {number}"))
        assert figures(hub).keys() == before
        names = {
            name
            for family in parse_text(metrics_of(hub))
            for sample in family.samples
            for name in sample.labels
        }
        assert names <= LABELS


def test_role_of_a_thread_names_neither_client_nor_room() -> None:
    logs = Logs()
    threads = Threads("hubthread-h", incidents_to(logs))
    going = threading.Event()
    names = ("ticks-17-frame-7", "ticks-18", "readers-3-client 9", "reader", "hub", "reader")
    for name in names:
        threads.start(going.wait, name)  # type: ignore[arg-type]
    assert threads.roles() == {"ticks": 2, "readers": 1, "reader": 2, "hub": 1}
    going.set()
    assert threads.join(TIMEOUT) == []
    assert threads.roles() == {}
