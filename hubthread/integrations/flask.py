"""Hubs in Flask applications: an extension, and a route for WebSocket views.

Layer: integrations.  Threads: views run on the WSGI server's threads.  Callbacks of clients run
on the hub's threads, each inside an application context of its own.

::

    realtime = FlaskHub(HubSetting(dict, on_receive_message=on_message))

    def create_app():
        app = Flask(__name__)
        hub = realtime.init_app(app)
        ...

    @realtime.route(app, "/ws")
    def ws():
        if "user" not in session:
            abort(401)
        return {"user": session["user"]}    # the client's meta
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from flask import Blueprint, Flask, current_app, has_request_context, request, session
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from hubthread.backplane.redis.backplane import RedisBackplane
from hubthread.checks import check_kind, check_number, checked
from hubthread.errors import SettingError, SettingTypeError, UsageError
from hubthread.hub.hub import Hub
from hubthread.hub.monitor import Guard, Monitor
from hubthread.limits import Limits
from hubthread.serving.client_page import CONTENT_TYPE, FILES, client_file
from hubthread.settings import HubSetting, PingPongPlan, Upgrader, WebsocketPeriod

__all__ = ["FlaskHub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
P = ParamSpec("P")
T = TypeVar("T")

_KEY = "hubthread"
_PREFIX = "HUBTHREAD_"
_MAX_CONNECTIONS = 10_000


class FlaskHub(Generic[Meta, Header]):
    """A Flask extension that gives each application a hub of its own.

    The extension holds the setting, which belongs to no application.  Each hub is in its
    application's ``extensions["hubthread"]``.  A hub may be made before a server forks.  It
    starts in the process of the first client, or when a view first uses it for a push or a
    closure; a hub with ``delayed_execution`` starts with the first request, which does not wait
    for it.  The hub closes when the process or its application ends, and its clients get the
    close code 1001.

    Callbacks of clients (start, messages, close, closures of ``ctx.exec_async``) run inside an
    application context of their own, and inside the setting's ``around_callback``.  A database
    session that is bound to the context is opened when it is first used and released when the
    callback has returned.

    The application serves the browser's client: ``url_for("hubthread_client")`` is its address,
    ``/_hubthread/hubthread.js``.

    Callbacks have no request context, unless ``HUBTHREAD_REQUEST_CONTEXT`` is set.  Let the
    view put into the meta what the handlers need; ``ctx.handshake`` has the headers and the
    query.

    :param setting: the setting of every hub.  An application's configuration overrides it: the
        names are ``HUBTHREAD_`` and a field of ``HubSetting``, ``Limits``, ``WebsocketPeriod``,
        ``Upgrader`` or ``PingPongPlan`` in capitals, such as ``HUBTHREAD_CHECK_ORIGIN``.
        ``HUBTHREAD_MAX_CONNECTIONS`` limits the connections of each process (10,000 by default).
        ``HUBTHREAD_METRICS``, such as ``"/metrics"``, is the path of a page for Prometheus
        (``Hub.metrics``), with the endpoint ``hubthread_metrics``; ``HUBTHREAD_METRICS_DIR`` lets
        it answer for all processes.
        ``HUBTHREAD_REDIS_URL`` lets shared rooms span processes, with the prefix
        ``HUBTHREAD_REDIS_PREFIX``, ``hubthread`` by default (``RedisBackplane``).
        With ``HUBTHREAD_REQUEST_CONTEXT = True`` callbacks run inside a request context with
        the request that the client came with: ``url_for``, ``current_user`` of Flask-Login and
        ``session`` work, but changes of the session are not saved.
    :param app: an application to initialise at once.
    :raises SettingError: for a setting of another type.
    """

    def __init__(self, setting: HubSetting[Meta, Header], app: Flask | None = None) -> None:
        check_kind("setting", setting, HubSetting, "a HubSetting")
        self.setting = setting
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, hub_class: type[Hub[Any, Any]] = Hub) -> Hub[Meta, Header]:
        """Make the hub of an application and return it.

        :param app: the application.
        :param hub_class: the class of the hub.  Tests give ``hubthread.testing.VirtualHub``; its
            ``connect_through`` connects clients through the views without threads, sockets and
            waits.
        :raises SettingError: for a wrong name or value in the configuration, and for a setting
            that the views or the server decide: ``on_handshake``, ``Upgrader.max_head``.
        :raises UsageError: if the application already has a hub.
        """
        check_kind("app", app, Flask, "a Flask application")
        given: object = hub_class
        if not (isinstance(given, type) and issubclass(given, Hub)):
            raise SettingTypeError("hub_class", f"expected a class of hubs, got {hub_class!r}")
        if _KEY in app.extensions:
            raise UsageError(f"{app!r} already has a hub: call init_app once")
        config = app.config.get_namespace(_PREFIX)
        most = config.pop("max_connections", _MAX_CONNECTIONS)
        check_number("max_connections", most, 1, whole=True)
        with_request = config.pop("request_context", False)
        check_kind("request_context", with_request, bool, "True or False")
        metrics = config.pop("metrics", None)
        _check_metrics(metrics)
        url, prefix = config.pop("redis_url", None), config.pop("redis_prefix", "hubthread")
        if url is not None:
            config["backplane"] = RedisBackplane(url, prefix=prefix)
        setting = _configured(self.setting, config)
        _refuse_ignored(setting)
        # A weak reference: the threads of a hub must not keep an application alive.
        inside = _Inside(weakref.ref(app), setting.around_callback, with_request)
        hub = hub_class(dataclasses.replace(setting, around_callback=inside))
        bridge = hub._bridge
        bridge.keep_environ = with_request
        app.extensions[_KEY] = _State(hub, most)
        if setting.delayed_execution is None:
            start = bridge.start_soon
            hub._lifecycle.start_early = lambda: start() if has_request_context() else None
        else:
            app.before_request(bridge.start_soon)
        app.add_url_rule("/_hubthread/hubthread.js", "hubthread_client", _client_script)
        if metrics is not None:
            app.add_url_rule(metrics, "hubthread_metrics", _metrics)
        weakref.finalize(app, hub._lifecycle.close_running).atexit = False
        return hub

    @property
    def hub(self) -> Hub[Meta, Header]:
        """The hub of the current application, for views and callbacks of clients.

        :raises RuntimeError: outside an application context (raised by Flask).
        :raises UsageError: if the application has no hub.
        """
        return _state().hub

    def monitor(self, app: Flask, prefix: str, *, guard: Guard, actions: bool = False) -> Monitor:
        """Show the application's hub on a page for operators; see ``Hub.monitor``.

        Each process of the server has a hub of its own, and the page shows the hub of the process
        that answers.

        :param app: an application that ``init_app`` knows.
        :param prefix: the path of the page, such as ``"/admin/hub"``.
        :param guard: ``function(request) -> name`` runs in the request's context, so it may use
            ``session`` and ``current_user``, or call ``abort``.  It returns the name of the
            operator, or ``None`` to refuse.
        :param actions: see ``Hub.monitor``.  With ``CSRFProtect`` exempt the view
            ``"hubthread_monitor"``, whose actions need a header field instead.
        :raises UsageError: if the application has no hub.
        """
        state = app.extensions.get(_KEY)
        if state is None:
            raise UsageError(f"{app!r} has no hub: call init_app with it first")
        monitor: Monitor = state.hub.monitor(guard=guard, actions=actions)

        def view(name: str = "") -> Any:
            return monitor._answer_wsgi(request.environ, name)

        prefix = prefix.rstrip("/")
        for rule in (f"{prefix}/", f"{prefix}/<name>"):
            app.add_url_rule(rule, "hubthread_monitor", view, methods=["GET", "POST"])
        return monitor

    def route(
        self, app: Flask | Blueprint, rule: str, **options: Any
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Make a view the place where WebSocket clients connect, as ``app.route`` does for pages.

        The view runs on the request's thread and decides with Flask's own means (``session``,
        ``before_request``, ``abort``) which clients may connect.  It returns the client's meta.
        If it returns a response or an HTTP exception, that is sent instead.  A tuple, text,
        bytes and None are refused, because elsewhere in Flask ``"no", 401`` is a response, and
        a view that returns nothing has forgotten to decide.

        The view cannot set cookies or change the session: the client gets its answer before
        Flask adds them.

        A view may have several routes, each with an ``endpoint`` of its own.

        :param app: the application, or a blueprint of it.
        :param rule: the path, with variables as in any rule.
        :param options: the options of ``app.add_url_rule``.
        :returns: the decorator.
        """

        def decorate(view: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(view)
            def connect(*args: P.args, **kwargs: P.kwargs) -> Any:
                meta: Any = current_app.ensure_sync(view)(*args, **kwargs)
                if isinstance(meta, (Response, HTTPException)):
                    return meta
                if type(meta) in _NO_META:  # a named tuple is a meta
                    raise UsageError(
                        f"{view.__name__} returned {meta!r}: to refuse a client, call abort or "
                        f"return a response; as meta return a dict or a class of your own"
                    )
                state = _state()
                return state.hub.websocket_handler(
                    request.environ, meta=meta, max_connections=state.max_connections
                )

            endpoint = options.pop("endpoint", None) or view.__name__
            # Flask separates requests with and without an upgrade.  The hub answers the others
            # with 426, which says more than Flask's 400.
            for websocket in (True, False):
                app.add_url_rule(rule, endpoint, connect, websocket=websocket, **options)
            return view

        return decorate


def _client_script() -> Response:
    response = Response(client_file(FILES[0]), content_type=CONTENT_TYPE)
    response.cache_control.no_cache = True
    response.add_etag()
    return response.make_conditional(request)


def _metrics() -> Response:
    return Response.from_app(_state().hub.metrics_app, request.environ)


def _check_metrics(path: object) -> None:
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        wanted = f"expected a path such as '/metrics', got {path!r}"
        raise SettingError(f"{_PREFIX}METRICS", wanted)


_NO_META = (tuple, str, bytes, type(None))
"""The types of what other views of Flask return, or forget to return."""


@dataclass(frozen=True)
class _State:
    """The extension's state for one application."""

    hub: Hub[Any, Any]
    max_connections: int


def _state() -> _State:
    state: _State | None = current_app.extensions.get(_KEY)
    if state is None:
        raise UsageError(f"{current_app!r} has no hub: call init_app with it first")
    return state


def _refuse_ignored(setting: HubSetting[Any, Any]) -> None:
    """Refuse the settings that views and WSGI servers decide, so that the hub would not use them.

    :raises SettingError: if one is set.
    """
    if setting.on_handshake is not None:
        why = "expected None: in Flask the view decides which clients may connect, and their meta"
        raise SettingError("on_handshake", why)
    if setting.websocket_period.upgrader.max_head != Upgrader.max_head:
        why = "expected the default: the WSGI server reads the request head, by a limit of its own"
        raise SettingError("max_head", why)


def _configured(
    setting: HubSetting[Meta, Header], config: dict[str, Any]
) -> HubSetting[Meta, Header]:
    """Return ``setting`` with the values of the configuration in their places."""
    changed: dict[type, dict[str, Any]] = {
        kind: {field.name: config.pop(field.name) for field in _fields(kind, config)}
        for kind in (HubSetting, Limits, WebsocketPeriod, Upgrader, PingPongPlan)
    }
    if config:
        field = min(config)
        raise SettingError(
            _PREFIX + field.upper(), f"HubSetting and its parts have no field {field!r}"
        )
    # From the outside in: the configuration may replace a part and change its fields, too.
    setting = dataclasses.replace(setting, **changed[HubSetting])
    period = dataclasses.replace(setting.websocket_period, **changed[WebsocketPeriod])
    period = dataclasses.replace(
        period,
        upgrader=dataclasses.replace(period.upgrader, **changed[Upgrader]),
        ping_pong_plan=dataclasses.replace(period.ping_pong_plan, **changed[PingPongPlan]),
    )
    limits = dataclasses.replace(setting.limits, **changed[Limits])
    return dataclasses.replace(setting, websocket_period=period, limits=limits)


def _fields(kind: type, config: dict[str, Any]) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if field.name in config]


class _Inside:
    """The context that callbacks run inside: ``HubSetting.around_callback`` of each hub here."""

    def __init__(
        self,
        app: Callable[[], Flask | None],
        around: Callable[[Any, Any], contextlib.AbstractContextManager[object]] | None,
        with_request: bool,
    ) -> None:
        self._app = app
        self._around = around
        self._with_request = with_request

    @contextlib.contextmanager
    def __call__(self, ctx: Any, meta: Any) -> Iterator[None]:
        app = self._app()
        if app is None:
            raise UsageError("the application of this hub is gone")
        # A client of another way in than a view, such as hub.serve, came with no environ.
        environ = ctx.handshake.environ if self._with_request else None
        context: Any = (
            app.app_context() if environ is None else app.request_context(_renewed(environ))
        )
        context.push()
        raised: BaseException | None = None
        try:
            if self._around is None:
                yield
            else:
                with checked(self._around(ctx, meta)):
                    yield
            if environ is not None and getattr(session, "modified", False):
                text = "%r: a callback has changed the session, and nothing saves that"
                ctx._core.incidents.log_limited("session", logging.WARNING, text, ctx)
        except BaseException as error:
            raised = error
            raise
        finally:
            try:
                context.pop(raised)
            except BaseException as trouble:  # noqa: BLE001 - a teardown raised: logged
                ctx._report(trouble)


def _renewed(environ: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of an environ for one more request without a body."""
    return {**environ, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
