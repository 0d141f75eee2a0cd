"""The Flask extension, on werkzeug's server, with the client of websockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import flask
import flask_login
import pytest
import werkzeug.wrappers
from flask import Flask, abort, session
from flask.testing import FlaskClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from werkzeug.exceptions import Forbidden

from hubthread import (
    HandshakeRejected,
    Hub,
    HubSetting,
    Limits,
    MatcherMap,
    MemoryBackplane,
    NodeGone,
    PingPongPlan,
    PrefixHeader,
    Readers,
    SettingError,
    Upgrader,
    UsageError,
    WebsocketPeriod,
)
from hubthread.integrations.flask import FlaskHub
from hubthread.testing import VirtualHub
from tests.integrations.running import serving
from tests.pages import execute, program
from tests.support import TIMEOUT, Items, Logs

Fields = dict[str, Any]


class Site:
    """A Flask application with a hub; its parts add to ``told``."""

    def __init__(self, config: Fields | None = None, hub_class: Any = Hub, **fields: Any) -> None:
        self.told: Items[Any] = Items()
        self.logs = Logs()
        self.app = Flask("site")
        self.app.secret_key = "secret"
        self.app.config.update(config or {})
        self.realtime: FlaskHub[Fields, str] = FlaskHub(
            HubSetting(dict, logger=self.logs, **fields)
        )
        self.realtime.init_app(self.app, hub_class)
        with self.app.app_context():
            self.hub: Hub[Fields, str] = self.realtime.hub
        self.room = self.hub.hotline()

        @self.app.post("/login/<name>")
        def login(name: str) -> str:
            session["name"] = name
            return ""

        @self.app.post("/push")
        def push() -> str:
            return str(self.room.push(flask.request.get_data(as_text=True)))

        @self.realtime.route(self.app, "/ws")
        def ws() -> Fields:
            if "name" not in session:
                abort(401, "Log in first.")
            return {"name": session["name"]}

        @self.app.teardown_appcontext
        def teardown(error: BaseException | None) -> None:
            if "by" in flask.g:  # not the context of a request
                self.told.add(("teardown", type(error).__name__))

    def logged_in(self, name: str) -> FlaskClient:
        """Return a test client that has logged in."""
        client = self.app.test_client()
        client.post(f"/login/{name}")
        return client

    def cookie(self, name: str) -> str:
        """Return the cookie of a logged-in user."""
        cookie = self.logged_in(name).get_cookie("session")
        assert cookie is not None
        return f"session={cookie.value}"

    @contextlib.contextmanager
    def served(self) -> Iterator[str]:
        """Serve the application; yield its address."""
        with serving(self.app) as port:
            try:
                yield f"127.0.0.1:{port}"
            finally:
                self.hub.close(TIMEOUT)


def as_user(place: str, site: Site, name: str = "ada", path: str = "/ws") -> Any:
    headers = {"Cookie": site.cookie(name)}
    return connect(f"ws://{place}{path}", additional_headers=headers)


def test_route_view_decides_by_session() -> None:
    site = Site(on_connection_start=lambda ctx, meta: ctx.write(f"hello {meta['name']}"))
    with site.served() as place:
        with as_user(place, site) as ada, as_user(place, site, "bob") as bob:
            assert (ada.recv(TIMEOUT), bob.recv(TIMEOUT)) == ("hello ada", "hello bob")
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://{place}/ws"):
            pass
    assert refused.value.response.status_code == 401
    assert b"Log in first." in (refused.value.response.body or b"")


def test_route_before_request_and_response_refuse() -> None:
    site = Site()

    @site.app.before_request
    def check() -> None:
        if flask.request.path == "/ws":
            abort(403)

    pages = flask.Blueprint("pages", "pages")

    @site.realtime.route(pages, "/<where>", endpoint="place")
    def elsewhere(where: str) -> flask.Response:
        return flask.Response(f"not {where}", 404)

    site.app.register_blueprint(pages)
    with site.served() as place:
        for path, status in (("/ws", 403), ("/elsewhere", 404)):
            with pytest.raises(InvalidStatus) as refused, as_user(place, site, path=path):
                pass
            assert refused.value.response.status_code == status
    assert site.hub.statistics().clients_total == 0


class OtherResponse(flask.Response):
    """A ``response_class`` of an application."""


@pytest.mark.parametrize(
    ("refuse", "status"),
    [
        (lambda: flask.Response("no", 401), 401),
        (lambda: werkzeug.wrappers.Response("no", 402), 402),
        (Forbidden, 403),
        (lambda: ("no", 401), 500),
        (lambda: ({"error": "no"}, 403, {}), 500),
        (lambda: "no", 500),
        (lambda: b"no", 500),
        (lambda: None, 500),
        (lambda: (yield "no"), 500),
    ],
)
def test_route_refusal_is_never_a_meta(refuse: Callable[[], Any], status: int) -> None:
    realtime: FlaskHub[Any, str] = FlaskHub(HubSetting(dict))
    app = Flask("site")
    app.response_class = OtherResponse
    app.logger.disabled = True  # Flask logs the view's mistake of a tuple
    realtime.route(app, "/ws")(refuse)
    with realtime.init_app(app, VirtualHub) as hub:
        assert isinstance(hub, VirtualHub)
        with pytest.raises(HandshakeRejected) as refused:
            hub.connect_through(app.test_client(), "/ws")
        assert refused.value.status == status
        assert hub.statistics().clients_total == 0


def test_route_view_has_several_routes() -> None:
    realtime: FlaskHub[Any, str] = FlaskHub(HubSetting(dict))
    app = Flask("site")

    @realtime.route(app, "/one")
    @realtime.route(app, "/two", endpoint="two")
    def ws() -> Fields:
        return {"path": flask.request.path}

    with realtime.init_app(app, VirtualHub) as hub:
        assert isinstance(hub, VirtualHub)
        for path in ("/one", "/two"):
            assert hub.connect_through(app.test_client(), path).ctx.meta == {"path": path}


def test_init_app_first_push_of_a_view_starts_hub() -> None:
    def start(ctx: Any, meta: Fields) -> None:
        site.room.answer(ctx)
        ctx.write("in")

    site = Site(on_connection_start=start)
    assert site.hub.state == "new"
    with site.served() as place:
        client = site.app.test_client()
        client.post("/login/ada")
        with site.app.app_context():  # as in a task queue, whose process has no clients
            site.hub.exec_async(lambda hub: None)
        assert site.hub.state == "new"
        assert client.post("/push", data="too early for all").text == "1"
        assert site.hub.state == "running"
        with as_user(place, site) as ada:
            assert ada.recv(TIMEOUT) == "in"
            assert client.post("/push", data="news").text == "2"
            assert ada.recv(TIMEOUT) == "news"


@pytest.mark.parametrize("method", ["call", "tell"])
def test_init_app_first_letter_of_a_view_starts_hub(method: str) -> None:
    site = Site(backplane=MemoryBackplane(), calls={"double": lambda hub, number: 2 * number})
    with site.served(), site.app.test_request_context():
        if method == "tell":
            site.hub.tell("ann", "news")
        else:
            with pytest.raises(NodeGone):
                site.hub.call("elsewhere", "double", 1)
        assert site.hub.state == "running"


def test_callback_has_application_context_of_its_own() -> None:
    matcher: MatcherMap[Fields, str] = MatcherMap(PrefixHeader(" "))

    def seen(what: str) -> Callable[..., None]:
        def see(ctx: Any, meta: Fields, *rest: Any) -> None:
            assert not flask.has_request_context()
            site.told.add((what, flask.current_app.name, flask.g.setdefault("by", what)))

        return see

    @matcher.handle("see")
    def see(ctx: Any, meta: Fields, text: str) -> str:
        seen("message")(ctx, meta)
        ctx.exec_async(lambda: seen("closure")(ctx, meta))
        return text

    @matcher.handle("fail")
    def fail(ctx: Any, meta: Fields, text: str) -> None:
        raise LookupError(text)

    site = Site(
        receive_matcher=matcher,
        receive_matcher_error=seen("error"),
        on_connection_start=seen("start"),
        on_connection_close=seen("close"),
    )
    with site.served() as place:
        with as_user(place, site) as ada:
            ada.send('see "x"')
            assert str(ada.recv(TIMEOUT)).endswith('x"')
            ada.send('fail "y"')
            site.told.until(lambda told: ("error", "site", "error") in told)
        told = site.told.until(lambda told: told[-2:-1] == [("close", "site", "close")])
    ended = ("teardown", "NoneType")
    assert told == [
        ("start", "site", "start"), ended,
        ("message", "site", "message"), ended,
        ("closure", "site", "closure"), ended,
        ("error", "site", "error"), ("teardown", "LookupError"),
        ("close", "site", "close"), ended,
    ]  # fmt: skip


def test_callback_raises_teardown_gets_error() -> None:
    """Otherwise a teardown that commits without an error would keep half of a change."""

    def fail(*_: object) -> None:
        flask.g.by = "test"
        raise LookupError("tripped")

    def start(ctx: Any, meta: Fields) -> None:
        if meta["name"] == "bob":
            fail()

    site = Site(on_connection_start=start, on_connection_close=fail)
    with site.served() as place:
        with as_user(place, site) as ada:
            ada.ping().wait(TIMEOUT)  # the client has begun
            iteration = site.hub.each_client(fail, timeout=TIMEOUT)
            assert list(iteration.errors) == [1]
        with as_user(place, site, "bob") as bob, pytest.raises(ConnectionClosed):
            bob.recv(TIMEOUT)
        told = site.told.wait(4)
    # A task for each client, the end of ada, the start of bob, and his end.
    assert told == [("teardown", "LookupError")] * 4


def test_callback_teardown_raises_keeps_client() -> None:
    def answer(ctx: Any, meta: Fields) -> bool:
        flask.g.by = "message"
        return bool(ctx.write(ctx.payload))

    site = Site(on_receive_message=answer)

    @site.app.teardown_appcontext
    def teardown(error: BaseException | None) -> None:
        if "by" in flask.g:
            raise LookupError("in the teardown")

    with site.served() as place, as_user(place, site) as ada:
        for text in ("a", "b"):
            ada.send(text)
            assert ada.recv(TIMEOUT) == text
        site.logs.wait("in the teardown")


def test_init_app_configuration_overrides_setting() -> None:
    realtime: FlaskHub[Fields, str] = FlaskHub(HubSetting(dict))
    app, other = Flask("one"), Flask("other")
    app.config.from_mapping(
        HUBTHREAD_HUB_NAME="lobby",
        HUBTHREAD_CLOSE_TIMEOUT=2.5,
        HUBTHREAD_CHECK_ORIGIN=["https://example.org"],
        HUBTHREAD_PING_PERIOD=7,
        HUBTHREAD_MAX_CONNECTIONS=5,
        HUBTHREAD_ROOMS_PER_CLIENT=3,
        HUBTHREAD_READERS=Readers.SHARED,
    )
    hub = realtime.init_app(app)
    period = hub.setting.websocket_period
    assert hub.setting.hub_name == "lobby"
    assert period.close_timeout == 2.5
    assert period.upgrader.check_origin == ["https://example.org"]
    assert period.ping_pong_plan.ping_period == 7
    assert hub.setting.limits.rooms_per_client == 3
    assert hub.setting.readers is Readers.SHARED
    setting = realtime.init_app(other).setting
    assert dataclasses.replace(setting, around_callback=None) == realtime.setting
    with app.app_context():
        assert realtime.hub is hub
    with other.app_context():
        assert realtime.hub is not hub


def test_init_app_configuration_changes_part_and_fields_of_it() -> None:
    app = Flask("one")
    app.config.from_mapping(
        HUBTHREAD_WEBSOCKET_PERIOD=WebsocketPeriod(write_wait=3.0),
        HUBTHREAD_CLOSE_TIMEOUT=2.5,
        HUBTHREAD_UPGRADER=Upgrader(compression=True),
        HUBTHREAD_CHECK_ORIGIN="any",
        HUBTHREAD_PING_PONG_PLAN=PingPongPlan(ping_timeout=90.0),
        HUBTHREAD_PING_PERIOD=7.0,
        HUBTHREAD_LIMITS=Limits(rooms_per_client=3),
        HUBTHREAD_CONNECTIONS_PER_ADDRESS=5,
    )
    realtime: FlaskHub[Fields, str] = FlaskHub(HubSetting(dict))
    setting = realtime.init_app(app).setting
    assert setting.websocket_period == WebsocketPeriod(
        write_wait=3.0,
        close_timeout=2.5,
        upgrader=Upgrader(compression=True, check_origin="any"),
        ping_pong_plan=PingPongPlan(ping_timeout=90.0, ping_period=7.0),
    )
    assert setting.limits == Limits(rooms_per_client=3, connections_per_address=5)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HUBTHREAD_MAX_CONNECTIONS", "5", "max_connections: expected an integer"),
        (
            "HUBTHREAD_CHEK_ORIGIN",
            "any",
            "HUBTHREAD_CHEK_ORIGIN: HubSetting and its parts have no field",
        ),
        ("HUBTHREAD_PING_PERIOD", "7", "ping_period: expected a number"),
        ("HUBTHREAD_REQUEST_CONTEXT", 1, "request_context: expected True or False"),
        ("HUBTHREAD_ON_HANDSHAKE", dict, "on_handshake: expected None.*the view decides"),
        ("HUBTHREAD_MAX_HEAD", 1000, "max_head: expected the default.*WSGI server"),
    ],
)
def test_init_app_wrong_configuration_raises(name: str, value: object, told: str) -> None:
    app = Flask("one")
    app.config[name] = value
    with pytest.raises(SettingError, match=told):
        FlaskHub(HubSetting(dict), app)


def test_init_app_max_connections_refuses_with_503() -> None:
    site = Site({"HUBTHREAD_MAX_CONNECTIONS": 1})
    with site.served() as place, as_user(place, site):
        with pytest.raises(InvalidStatus) as refused, as_user(place, site):
            pass
        assert refused.value.response.status_code == 503


def test_init_app_twice_raises() -> None:
    realtime: FlaskHub[Fields, str] = FlaskHub(HubSetting(dict))
    app = Flask("one")
    with app.app_context(), pytest.raises(UsageError, match="init_app"):
        _ = realtime.hub
    realtime.init_app(app)
    with pytest.raises(UsageError, match="already"):
        realtime.init_app(app)
    nobody: Any = app
    with pytest.raises(SettingError, match="setting: expected a HubSetting"):
        FlaskHub(nobody)


def test_init_app_setting_with_on_handshake_is_refused() -> None:
    """The view decides: a hook that guards the hub elsewhere would be silently left out."""
    with pytest.raises(SettingError, match="on_handshake"):
        FlaskHub(HubSetting(dict, on_handshake=lambda request: {}), Flask("one"))


def test_init_app_virtual_hub_keeps_to_max_connections() -> None:
    site = Site({"HUBTHREAD_MAX_CONNECTIONS": 1}, hub_class=VirtualHub)
    assert isinstance(site.hub, VirtualHub)
    with site.hub as hub:
        client = site.logged_in("ada")
        first = hub.connect_through(client, "/ws")
        with pytest.raises(HandshakeRejected) as refused:
            hub.connect_through(client, "/ws")
        assert refused.value.status == 503
        first.close()
        hub.settle()
        hub.connect_through(client, "/ws")


def test_init_app_hub_of_an_application_that_is_gone_ends() -> None:
    """Neither a hub that was never used nor one that runs keeps its application alive."""
    before = set(threading.enumerate())  # some of them may end meanwhile
    realtime: FlaskHub[Fields, str] = FlaskHub(HubSetting(dict))
    apps, hubs = [], []
    for starts in (False, False, True):
        app = Flask("one")
        hub = realtime.init_app(app)
        app.add_url_rule("/", "page", lambda: "page")
        app.test_client().get("/")
        assert set(threading.enumerate()) <= before
        if starts:
            hub.start_once()
        apps.append(weakref.ref(app))
        hubs.append(hub)
        del app
    gc.collect()
    assert [app() for app in apps] == [None] * 3
    assert hubs[-1].join(TIMEOUT)
    assert [hub.state for hub in hubs] == ["new", "new", "closed"]


def test_init_app_delayed_execution_holds_up_clients_only() -> None:
    gate, began = threading.Event(), threading.Event()

    def delayed(hub: Any) -> None:
        began.set()
        gate.wait(TIMEOUT)

    site = Site(
        delayed_execution=delayed,
        on_connection_start=lambda ctx, meta: ctx.write(str(gate.is_set())),
    )
    with site.served() as place:
        client = site.app.test_client()
        assert client.post("/login/ada").status_code == 200  # the first request starts it
        assert began.wait(TIMEOUT)
        assert client.post("/push", data="a push does not wait").text == "1"
        threading.Timer(0.1, gate.set).start()
        with as_user(place, site) as ada:
            assert ada.recv(TIMEOUT) == "True"


@pytest.mark.parametrize("timeout", [None, TIMEOUT])
def test_exec_sync_in_a_view_leaves_its_context_alone(timeout: float | None) -> None:
    """With a session of the thread: that of the closure's end would take the view's along."""
    site = Site()
    store = threading.local()

    @site.app.teardown_appcontext
    def remove(error: BaseException | None) -> None:
        store.user = None

    @site.app.get("/page")
    def page() -> str:
        store.user = "ada"
        (client,) = site.hub.clients()
        seen = client.exec_sync(lambda: getattr(store, "user", None), timeout)
        return f"{store.user} {seen}"

    with site.served() as place, as_user(place, site) as ada:
        ada.ping().wait(TIMEOUT)  # the client has begun
        assert site.app.test_client().get("/page").text == "ada None"


def test_exec_sync_in_a_callback_shares_its_context() -> None:
    told: Items[Any] = Items()

    def message(ctx: Any, meta: Fields) -> bool:
        flask.g.by = "message"
        told.add(ctx.exec_sync(lambda: flask.g.get("by")))
        told.add(flask.g.get("by"))
        return True

    site = Site(on_receive_message=message)
    with site.served() as place, as_user(place, site) as ada:
        ada.send("a")
        assert told.wait(2) == ["message", "message"]
        assert site.told.wait(1) == [("teardown", "NoneType")]


def test_around_callback_runs_inside_the_application_context() -> None:
    @contextlib.contextmanager
    def around(ctx: Any, meta: Fields) -> Iterator[None]:
        flask.g.by = "around"
        yield
        site.told.add(flask.g.seen)

    def message(ctx: Any, meta: Fields) -> bool:
        flask.g.seen = flask.g.by
        return True

    site = Site(
        on_receive_message=message,
        on_connection_start=message,
        on_connection_close=message,
        around_callback=around,
    )
    with site.served() as place:
        with as_user(place, site) as ada:
            ada.send("a")
        assert site.told.wait(6) == ["around", ("teardown", "NoneType")] * 3


def test_request_context_has_the_request_that_the_client_came_with() -> None:
    def message(ctx: Any, meta: Fields) -> bool:
        if ctx.payload == "other":
            ctx.write(str(flask.has_request_context()))
            return True
        if ctx.payload == "change":
            session["name"] = "bob"
        user = flask_login.current_user.get_id()
        url = flask.url_for("push", q=flask.request.args["q"], _external=True)
        page = flask.render_template_string("{{ request.path }} {{ session.name }}")
        ctx.write(f"{user} {url} {page}")
        return True

    site = Site(
        {"HUBTHREAD_REQUEST_CONTEXT": True}, on_receive_message=message, hub_class=VirtualHub
    )
    manager = flask_login.LoginManager(site.app)

    def load(name: str) -> Any:
        user = flask_login.UserMixin()
        user.id = name
        return user

    manager.user_loader(load)

    @site.app.post("/in")
    def log_in() -> str:
        return str(flask_login.login_user(load("ada")))

    client = site.logged_in("ada")
    assert client.post("/in").text == "True"
    assert isinstance(site.hub, VirtualHub)
    with site.hub as hub:
        ada = hub.connect_through(client, "/ws?q=1")
        for text in ("read", "change", "read"):
            ada.send(text)
        assert ada.messages() == [
            f"ada http://localhost/push?q=1 /ws {name}" for name in ("ada", "bob", "ada")
        ]
        assert ada.ctx.handshake.environ is not None
        assert "wsgi.input" not in ada.ctx.handshake.environ
        other = hub.connect()  # another way in than a view: there is no such request
        other.send("other")
        assert other.messages() == ["False"]
    warnings = [line for line in site.logs.warnings() if "session" in line]
    assert ["nothing saves that" in line for line in warnings] == [True]


@pytest.mark.parametrize("name", ["flask", "readme-flask"])
def test_flask_program_of_the_documentation_runs(name: str) -> None:
    names: Fields = {"__name__": name}
    execute(program(name), name, names)
    app, hub = names["app"], names["hub"]
    client = app.test_client()
    with serving(app) as port:
        try:
            assert client.get("/ws").status_code == 401
            client.post("/login", data={"user": "ada"})
            cookie = client.get_cookie("session")
            headers = {"Cookie": f"session={cookie.value}"}
            with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers) as ada:
                assert ada.recv(TIMEOUT) == "hello ada"
                client.post("/news", data="news")
                assert ada.recv(TIMEOUT) == "news"
        finally:
            hub.close(TIMEOUT)


def test_route_test_client_gets_426() -> None:
    site = Site()
    client = site.app.test_client()
    client.post("/login/ada")
    assert client.get("/ws").status_code == 426
    site.hub.close()


class _AsyncFlask(Flask):
    """An application that runs asynchronous views, as flask[async] does with asgiref."""

    def async_to_sync(self, func: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        return lambda *args, **kwargs: asyncio.run(func(*args, **kwargs))


def _flask_with_views() -> tuple[Flask, VirtualHub[Any, Any], FlaskHub[Any, Any]]:
    app = _AsyncFlask("site")
    realtime: FlaskHub[Any, Any] = FlaskHub(HubSetting(dict))
    hub = realtime.init_app(app, VirtualHub)
    assert isinstance(hub, VirtualHub)
    return app, hub, realtime


def test_flask_route_async_view_decides() -> None:
    app, hub, realtime = _flask_with_views()

    @realtime.route(app, "/open")
    async def opened() -> dict[str, str]:
        return {"name": "ada"}

    @realtime.route(app, "/shut")
    async def shut() -> None:
        abort(401)

    with hub:
        assert hub.connect_through(app.test_client(), "/open").ctx.meta == {"name": "ada"}
        with pytest.raises(HandshakeRejected) as refusal:
            hub.connect_through(app.test_client(), "/shut")
        assert refusal.value.status == 401


def test_flask_route_view_that_returns_a_coroutine_lets_nobody_in() -> None:
    app, hub, realtime = _flask_with_views()

    async def check() -> None:
        raise AssertionError("it was awaited")

    @realtime.route(app, "/ws")
    def ws() -> object:
        return check()  # without await

    with hub, pytest.raises(HandshakeRejected) as refusal:
        hub.connect_through(app.test_client(), "/ws")
    assert refusal.value.status == 500
    assert hub.statistics().clients_total == 0


def test_init_app_serves_the_browsers_client() -> None:
    site = Site()
    with site.app.test_request_context():
        address = flask.url_for("hubthread_client")
    assert address == "/_hubthread/hubthread.js"
    client = site.app.test_client()
    first = client.get(address)
    assert (first.status_code, first.mimetype) == (200, "text/javascript")
    assert b"export function connect(" in first.data
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_route_answers_a_page_that_asks_why_it_is_refused() -> None:
    site = Site()
    client = site.app.test_client()
    check = {"X-Hubthread-Check": "1"}
    assert client.get("/ws", headers=check).status_code == 401
    client.post("/login/ann")
    assert client.get("/ws", headers=check).status_code == 204
    site.hub.close()


def test_metrics_are_a_page_of_the_application_where_its_configuration_says_so() -> None:
    app = Flask(__name__)
    app.config["HUBTHREAD_METRICS"] = "/metrics"
    FlaskHub(HubSetting(dict)).init_app(app)
    answer = app.test_client().get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert "hubthread_up 0" in answer.text


@pytest.mark.parametrize("path", ["metrics", 1, b"/metrics"])
def test_metrics_at_no_path_are_refused(path: object) -> None:
    app = Flask(__name__)
    app.config["HUBTHREAD_METRICS"] = path
    with pytest.raises(SettingError, match=r"HUBTHREAD_METRICS.*such as '/metrics'"):
        FlaskHub(HubSetting(dict)).init_app(app)
