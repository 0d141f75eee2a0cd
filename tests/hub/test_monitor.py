"""The monitor page: what it tells whom, and what its actions do."""

from __future__ import annotations

import json
import logging
import threading
import urllib.error
import urllib.request
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from hubthread import (
    Client,
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    MemoryBackplane,
    Monitor,
    Overflow,
    Request,
    SettingError,
    SettingTypeError,
    UsageError,
)
from hubthread.hub import sampler
from hubthread.hub.monitor import ACTIONS, FILES
from hubthread.testing import FakeClock, VirtualHub
from hubthread.top import lines
from tests.support import TIMEOUT, AnyHub, Notes

TOKEN = "a token of the operator".replace(" ", "-")
SECRET = "secret <b>name</b>"


class Answer:
    """The answer to a request."""

    def __init__(self, status: str, fields: list[tuple[str, str]], body: bytes) -> None:
        self.status = int(status.partition(" ")[0])
        self.fields = dict(fields)
        self.text = body.decode()

    @property
    def data(self) -> Any:
        assert self.status == 200, self.text
        return json.loads(self.text)


class Operator:
    """An operator's browser, which asks a monitor through a WSGI server.

    :param token: the token of the requests; by default the monitor's.
    """

    def __init__(self, monitor: Monitor, token: str | None = None) -> None:
        self.monitor = monitor
        self.fields: dict[str, str] = {"X-Hubthread-Monitor": "1"}
        token = token or monitor.token
        if token is not None:
            self.fields["Authorization"] = f"Bearer {token}"

    def ask(self, place: str, method: str = "GET", **fields: str) -> Answer:
        path, _, query = place.partition("?")
        environ: dict[str, Any] = {"SCRIPT_NAME": "/admin/hub", "PATH_INFO": path}
        environ |= {"QUERY_STRING": query, "REQUEST_METHOD": method, "REMOTE_ADDR": "10.1.2.3"}
        for name, value in {**self.fields, **fields}.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        setup_testing_defaults(environ)
        answers = Notes()
        body = b"".join(self.monitor.app(environ, lambda *answer: answers(answer)))
        ((status, headers),) = answers.now()
        return Answer(status, headers, body)

    def data(self, **query: Any) -> Any:
        return self.ask("/data?" + "&".join(f"{k}={v}" for k, v in query.items())).data

    def act(self, do: str, number: int, **fields: str) -> Answer:
        return self.ask(f"/act?do={do}&id={number}", "POST", **fields)


def virtual(**fields: Any) -> VirtualHub[Any, Any]:
    setting = HubSetting[Any, Any](dict, hub_name=SECRET, **fields)
    return VirtualHub(setting)


def spin(frame: FrameControl[list[int]], obj: list[int]) -> None:
    obj.append(frame.tick.index)


def ticking(hub: AnyHub, name: str = "table", logic: Any = spin) -> FrameControl[list[int]]:
    option = HotlineFrameOption(list, logic, hz=10)
    return option.run(hub.hotline(HotlineOption(name=name, kind="game")))


# Who is told.


@pytest.mark.parametrize("token", ["wrong", "Bearer", TOKEN + "x", TOKEN[:-1], "ä" * 20])
def test_monitor_without_its_token_tells_nothing(token: str) -> None:
    with virtual() as hub:
        hub.hotline(HotlineOption(name=SECRET))
        monitor = hub.monitor(token=TOKEN, actions=True)
        stranger = Operator(monitor, token)
        places = ["", *(f"/{name}" for name in FILES if name), "/data", "/act?do=close&id=1"]
        answers = [stranger.ask(place or "/") for place in places]
        answers.append(stranger.act("close", 1))
        stranger.fields.clear()
        answers += [stranger.ask("/data"), stranger.ask(f"/data?token={TOKEN}")]
        assert [answer.status for answer in answers] == [200] * 3 + [401] * 5
        assert all(SECRET not in answer.text for answer in answers)
        assert {answer.text for answer in answers[3:]} == {"The monitor needs its token."}
        assert hub.statistics().hotlines == 1


def test_monitor_token_is_random_and_long() -> None:
    with virtual() as hub:
        tokens = {hub.monitor().token for _ in range(3)}
        assert len(tokens) == 3
        assert all(token is not None and len(token) >= 32 for token in tokens)


@pytest.mark.parametrize("token", ["short", "with a blank in it", "ümläut" * 4, 7])
def test_monitor_token_that_is_too_weak_is_refused(token: Any) -> None:
    with virtual() as hub, pytest.raises(SettingError, match="token"):
        hub.monitor(token=token)


def test_monitor_wrong_token_is_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    with virtual() as hub:
        Operator(hub.monitor(), "guessed").ask("/data")
    assert "wrong token by ('10.1.2.3', 0)" in caplog.text
    assert "guessed" not in caplog.text


def test_monitor_guard_decides_about_every_request() -> None:
    names: list[Any] = ["ann", None, "", True]
    asked = Notes()

    def guard(request: Request) -> Any:
        asked(request.path)
        return names.pop(0)

    with virtual() as hub:
        operator = Operator(hub.monitor(guard=guard))
        assert operator.ask("/data").status == 200
        assert operator.ask("/data").status == 403
        assert operator.ask("/").status == 403
        with pytest.raises(SettingTypeError, match="guard"):
            operator.ask("/data")
        assert asked.now() == [
            "/admin/hub/data",
            "/admin/hub/data",
            "/admin/hub/",
            "/admin/hub/data",
        ]
        with pytest.raises(SettingError, match="token"):
            hub.monitor(guard=guard, token=TOKEN)


def test_monitor_pages_allow_only_their_own_script_and_style() -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor())
        for name in ("/", "/monitor.js", "/monitor.css", "/data"):
            policy = operator.ask(name).fields["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
        page = operator.ask("/").text
        assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
        assert operator.ask("/", "HEAD").text == ""
        assert operator.ask("/other").status == 404


def test_monitor_path_without_a_slash_leads_to_the_page() -> None:
    with virtual() as hub:
        answer = Operator(hub.monitor()).ask("")
        assert (answer.status, answer.fields["Location"]) == (308, "./hub/")


def test_monitor_answers_no_page_of_another_origin() -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor(guard=lambda request: "ann", actions=True))
        room = hub.hotline()
        for site in ("cross-site", "same-site"):
            assert operator.ask("/data", **{"Sec-Fetch-Site": site}).status == 403
            foreign = operator.act("close", room.hotline_id, **{"Sec-Fetch-Site": site})
            assert foreign.status == 403
        assert not room.is_closed


# What is told.


def test_monitor_shows_clients_that_lag_first() -> None:
    with virtual(overflow=Overflow.DROP_OLDEST, chan_queue_size=100) as hub:
        operator = Operator(hub.monitor())
        fast, slow, slower = hub.connect(), *(hub.connect(bytes_per_second=10.0) for _ in "ab")
        slow.ctx.write("x" * 5000)
        for _ in range(3):
            slower.ctx.write("short message")
        fast.send("one")
        shown = operator.data()["clients"]
        assert (shown["total"], shown["found"], shown["pages"]) == (3, 3, 1)
        first = shown["rows"][0]
        assert first["id"] == slower.ctx.connection_id
        assert first["waiting"] == slower.ctx.statistics().waiting
        orders = {
            "bytes": [slow, slower, fast],
            "age": [fast, slow, slower],
            "newest": [slower, slow, fast],
            "received": [fast, slow, slower],
            "sent": [slower, slow, fast],
        }
        for sort, wanted in orders.items():
            rows = operator.data(**{"clients.sort": sort})["clients"]["rows"]
            assert [row["id"] for row in rows] == [each.ctx.connection_id for each in wanted], sort


def test_monitor_shows_one_page_of_many_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Notes()
    statistics = Client.statistics

    def counted(client: Client[Any, Any]) -> Any:
        asked(client)
        return statistics(client)

    monkeypatch.setattr(Client, "statistics", counted)
    with virtual() as hub:
        operator = Operator(hub.monitor())
        peers = [hub.connect() for _ in range(60)]
        pages = [
            operator.data(**{"clients.sort": "age", "clients.page": page})["clients"]
            for page in range(4)
        ]
        # The cost of an answer does not grow with all clients.
        assert len(asked.now()) == 25 + 25 + 10 + 10
        shown = [row["id"] for page in pages[:3] for row in page["rows"]]
        assert shown == [peer.ctx.connection_id for peer in peers]
        assert [page["page"] for page in pages] == [0, 1, 2, 2]
        number = peers[41].ctx.connection_id
        found = operator.data(**{"clients.find": f"{number}%20", "clients.size": 100})["clients"]
        assert number in [row["id"] for row in found["rows"]]
        assert found["found"] < 60
        assert operator.data(**{"clients.find": "nobody"})["clients"]["rows"] == []


def test_monitor_shows_rooms_and_their_ticks() -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor())
        lobby = hub.room("lobby <i>", HotlineOption(kind="chat"))
        table = ticking(hub)
        for peer in (hub.connect(), hub.connect()):
            lobby.answer(peer.ctx)
        lobby.push("hello")
        hub.advance(1.05)
        rows = {row["name"]: row for row in operator.data()["rooms"]["rows"]}
        assert rows["lobby <i>"]["members"] == 2
        assert rows["lobby <i>"]["ticking"] is False
        assert (rows["lobby <i>"]["kind"], rows["lobby <i>"]["pushes"]) == ("chat", 1)
        assert (rows["table"]["hz"], rows["table"]["ticks"]) == (10, 10)
        assert rows["table"]["paused"] is False
        table.pause()
        found = operator.data(**{"rooms.find": "GAME"})["rooms"]
        assert [(row["name"], row["paused"]) for row in found["rows"]] == [("table", True)]
        for sort in ("load", "members", "pushes", "lagging", "skipped", "age", "newest"):
            assert operator.data(**{"rooms.sort": sort})["rooms"]["found"] == 2


def test_monitor_keeps_ten_minutes_from_before_a_page_is_open() -> None:
    def echo(ctx: IOContext, meta: object) -> bool:
        ctx.write(ctx.payload)
        return False

    with virtual(on_receive_message=echo) as hub:
        operator = Operator(hub.monitor())
        ticking(hub)
        peer = hub.connect()
        for _ in range(40):
            peer.send("text")
        hub.advance(4.05)
        samples = operator.data()["samples"]
        assert samples["next"] == 2
        columns = samples["columns"]
        assert columns["clients"] == [1, 1]
        assert columns["received"] == [20, 0]
        assert columns["sent"] == [20, 0]
        assert columns["ticks"] == pytest.approx([10, 10], abs=0.6)
        assert columns["skipped"] == [0, 0]
        assert columns["late"] == [0, 0]
        hub.advance(6)
        assert len(operator.data(after=2)["samples"]["columns"]["clients"]) == 3
        hub.advance(700)
        samples = operator.data()["samples"]
        assert samples["next"] == 355
        assert len(samples["columns"]["clients"]) == 300
        assert operator.data(after=355)["samples"]["columns"]["clients"] == []


def test_monitor_curves_show_late_and_skipped_ticks() -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor())

        def stall(frame: FrameControl[list[int]], obj: list[int]) -> None:
            if frame.tick.index % 5 == 0:
                hub.clock.spend(0.23)

        ticking(hub, logic=stall)
        hub.advance(4.05)
        columns = operator.data()["samples"]["columns"]
        assert columns["skipped"][-1] > 0
        assert columns["late"][-1] >= 0.025
        assert columns["load"][-1] > 0
        assert columns["work"][-1] > 0


def test_monitor_made_before_the_start_samples_from_the_start_on() -> None:
    hub = virtual()
    monitor = hub.monitor()
    assert Operator(monitor).data()["hub"]["state"] == "new"
    with hub:
        hub.advance(2.5)
        assert Operator(monitor).data()["samples"]["next"] == 1
    assert Operator(monitor).data()["hub"]["state"] == "closed"


@pytest.mark.parametrize(
    "query",
    [
        *("after=-1", "after=x", "clients.page=1.5", "clients.size=0", "rooms.size=ten"),
        *("clients.sort=name", "rooms.sort=lag", f"after={'9' * 30}", "clients.page=%C2%B2"),
    ],
)
def test_monitor_query_that_makes_no_sense_is_refused(query: str) -> None:
    with virtual() as hub:
        answer = Operator(hub.monitor()).ask(f"/data?{query}")
        assert answer.status == 400
        assert "expected" in answer.text


def test_monitor_limits_the_rows_of_a_page() -> None:
    with virtual() as hub:
        shown = Operator(hub.monitor()).data(**{"clients.size": 10**9, "clients.page": 10**9})
        assert (shown["clients"]["size"], shown["clients"]["page"]) == (100, 0)


def test_monitor_shows_the_hubs_of_the_cluster() -> None:
    with virtual() as hub:
        assert Operator(hub.monitor()).data()["nodes"] == []
    clock, backplane = FakeClock(), MemoryBackplane()

    def node(name: str) -> VirtualHub[Any, Any]:
        return VirtualHub(HubSetting[Any, Any](dict, hub_name=name, backplane=backplane), clock)

    with node("one") as one, node("two <b>") as two:
        two.connect()
        two.hotline()
        data = Operator(one.monitor()).data()
        nodes = {each["name"]: each for each in data["nodes"]}
        assert {name: each["own"] for name, each in nodes.items()} == {
            "one": True,
            "two <b>": False,
        }
        assert (nodes["two <b>"]["clients"], nodes["two <b>"]["rooms"]) == (1, 1)
        assert nodes["two <b>"]["state"] == "running"
        (line,) = [each for each in lines(data, 200, 50) if each.startswith("cluster")]
        assert line.startswith("cluster of 2 hubs   clients 1   ")
        assert "two <b> 1" in line
        del data["nodes"]  # of a hub of an earlier version
        assert not [each for each in lines(data, 200, 50) if each.startswith("cluster")]
    assert Operator(one.monitor()).data()["nodes"] == []


# A hub that is stuck.


def test_monitor_shows_what_a_stuck_hub_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LONG", 1e-9)
    begun, release = threading.Event(), threading.Event()

    def slow_report(dhub: object) -> None:
        begun.set()
        release.wait(TIMEOUT)

    with Hub(HubSetting[Any, Any](dict)) as hub:
        operator = Operator(hub.monitor())
        hub.exec_async(slow_report)
        assert begun.wait(TIMEOUT)
        hub.exec_async(lambda dhub: None)
        found = operator.data()
        release.set()
        assert found["stuck"]["number"] >= 1
        stuck = {each["name"]: each for each in found["stuck"]["shown"]}
        assert "in slow_report" in stuck[f"hub {hub.name}"]["stack"]
        assert found["now"]["queue_depth"] == 1
        assert found["now"]["closure_running"] > 0


def test_monitor_shows_a_callback_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LONG", 0.0)
    begun, release = threading.Event(), threading.Event()

    def slow_room(frame: object, obj: object) -> None:
        begun.set()
        release.wait(TIMEOUT)

    with Hub(HubSetting[Any, Any](dict)) as hub:
        monitor = hub.monitor()
        table = ticking(hub)
        table.exec_async(slow_room)
        assert begun.wait(TIMEOUT)
        monitor._sampler._look(hub.clock.now())
        shown = Operator(monitor).data()["stuck"]["shown"]
        release.set()
        (found,) = [each for each in shown if "in slow_room" in each["stack"]]
        assert "the clock of hotline" in found["name"]


# Actions.


def test_monitor_actions_are_off_unless_asked_for() -> None:
    with virtual() as hub:
        room = hub.hotline()
        operator = Operator(hub.monitor())
        assert operator.data()["actions"] is False
        for do in ACTIONS:
            assert operator.act(do, 1).status == 403
        assert not room.is_closed


def test_monitor_actions_need_a_post_and_a_header_field() -> None:
    with virtual() as hub:
        room = hub.hotline()
        operator = Operator(hub.monitor(actions=True))
        place = f"/act?do=close&id={room.hotline_id}"
        assert operator.ask(place).status == 405
        assert operator.ask(place, "PUT").status == 405
        assert operator.ask("/data", "POST").status == 405
        del operator.fields["X-Hubthread-Monitor"]
        assert operator.ask(place, "POST").status == 403
        assert not room.is_closed


def test_monitor_closes_a_client_and_logs_who_did_it(caplog: pytest.LogCaptureFixture) -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor(guard=lambda request: "ann", actions=True))
        peer = hub.connect()
        number = peer.ctx.connection_id
        answer = operator.ask(f"/act?do=kick&id={number}&reason=spam%0A", "POST")
        assert answer.data["done"].startswith(f"closed <Client {number} ")
        hub.settle()
        assert (peer.close_code, peer.close_reason) == (1008, "spam\n")
        assert operator.act("kick", number).status == 404
    (line,) = [each for each in caplog.records if "the monitor:" in each.getMessage()]
    assert line.levelno == logging.WARNING
    assert line.getMessage().endswith("for 'spam\\n', by ann")


def test_monitor_closes_a_room(caplog: pytest.LogCaptureFixture) -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor(actions=True))
        room = hub.hotline(HotlineOption(name="lobby"))
        assert operator.act("close", room.hotline_id).status == 200
        assert room.is_closed
        assert operator.act("close", room.hotline_id).status == 404
    assert "closed <Hotline 1 'lobby' closed" in caplog.text
    assert "by the token, from ('10.1.2.3', 0)" in caplog.text


def test_monitor_pauses_steps_and_resumes_a_room() -> None:
    with virtual() as hub:
        operator = Operator(hub.monitor(actions=True))
        table = ticking(hub)
        hub.advance(0.35)
        number = table.hotline_id
        assert operator.act("step", number).status == 409
        assert operator.act("pause", number).status == 200
        hub.advance(10)
        assert table.statistics().ticks == 3
        assert operator.act("step", number).status == 200
        hub.settle()
        assert table.statistics().ticks == 4
        assert operator.act("resume", number).status == 200
        hub.advance(0.35)
        assert table.statistics().ticks == 7
        assert operator.act("pause", hub.hotline().hotline_id).status == 409


@pytest.mark.parametrize(
    "query",
    ["", "do=drop&id=1", "do=kick", "do=kick&id=-1", "do=close&id=x", "do=close&id=%C2%B2"],
)
def test_monitor_action_that_makes_no_sense_is_refused(query: str) -> None:
    with virtual() as hub:
        answer = Operator(hub.monitor(actions=True)).ask(f"/act?{query}", "POST")
        assert (answer.status, "expected" in answer.text) == (400, True)


def test_monitor_drains_the_hub() -> None:
    with Hub(HubSetting[Any, Any](dict)) as hub:
        operator = Operator(hub.monitor(actions=True))
        with connect(hub.serve().url) as client:
            assert client.ping().wait(TIMEOUT)  # the hub has counted it
            assert operator.ask("/act?do=drain", "POST").status == 200
            with pytest.raises(ConnectionClosed) as ended:
                client.recv(TIMEOUT)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1012
        assert operator.data()["hub"]["state"] == "draining"
        assert operator.ask("/act?do=drain", "POST").status == 409


# A port of its own.


def fetch(url: str, token: str | None, method: str = "GET", **fields: str) -> tuple[int, str]:
    fields["X-Hubthread-Monitor"] = "1"
    if token is not None:
        fields["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, headers=fields, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_monitor_serves_its_own_port_for_this_machine() -> None:
    with Hub(HubSetting[Any, Any](dict)) as hub:
        monitor = hub.monitor(actions=True)
        server = monitor.serve()
        url, token = server.http_url, monitor.token
        assert monitor.url(server) == f"{url}#token={token}"
        assert url.startswith("http://127.0.0.1:")
        room = hub.hotline()
        assert fetch(url, None)[0] == 200
        assert fetch(f"{url}data", None)[0] == 401
        assert json.loads(fetch(f"{url}data", token)[1])["hub"]["name"] == hub.name
        # The name of a page that leads to this machine.
        assert fetch(f"{url}data", token, Host="evil.example")[0] == 403
        act = f"{url}act?do=close&id={room.hotline_id}"
        assert fetch(act, token)[0] == 405
        assert fetch(f"{url}data", token, "POST")[0] == 405
        assert fetch(act, token, "POST", Host="evil.example")[0] == 403
        assert fetch(act, token, "POST")[0] == 200
        assert room.is_closed
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade"}
        assert fetch(f"{url}ws", None, **upgrade)[0] == 404
    assert hub.statistics().threads == 0


def test_monitor_warns_of_a_port_that_others_reach(caplog: pytest.LogCaptureFixture) -> None:
    with Hub(HubSetting[Any, Any](dict)) as hub:
        hub.monitor().serve("0.0.0.0")
        assert "reachable from other machines and not encrypted" in caplog.text


def test_monitor_of_a_virtual_hub_has_no_port() -> None:
    with virtual() as hub, pytest.raises(UsageError, match="virtual"):
        hub.monitor().serve()
