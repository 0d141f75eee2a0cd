"""Hubs in Flask applications: an extension, and a route for WebSocket views.

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

Layer: integrations.  Threads: views run on the WSGI server's threads.  Callbacks of clients run
on the hub's threads, each inside an application context of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from flask import Blueprint, Flask, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from hubthread.checks import check_kind, check_number
from hubthread.clients.client import Client
from hubthread.errors import SettingError, UsageError
from hubthread.hub.hub import Hub
from hubthread.limits import Limits
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
    application's ``extensions["hubthread"]``.  A hub starts with the first request in its
    process, so it may be made before a server forks.  It closes when the process ends, and its
    clients get the close code 1001.

    Callbacks of clients (start, messages, close, closures of ``ctx.exec_async``) run inside an
    application context of their own.  A database session that is bound to the context is
    opened when it is first used and released when the callback has returned.

    Callbacks have no request context.  Let the view put into the meta what the handlers need;
    ``ctx.handshake`` has the headers and the query.

    :param setting: the setting of every hub.  An application's configuration overrides it: the
        names are ``HUBTHREAD_`` and a field of ``HubSetting``, ``Limits``, ``WebsocketPeriod``,
        ``Upgrader`` or ``PingPongPlan`` in capitals, such as ``HUBTHREAD_CHECK_ORIGIN``.
        ``HUBTHREAD_MAX_CONNECTIONS`` limits the connections of each process (10,000 by default).
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
        :raises SettingError: for a wrong name or value in the configuration.
        :raises UsageError: if the application already has a hub.
        """
        if _KEY in app.extensions:
            raise UsageError(f"{app!r} already has a hub: call init_app once")
        config = app.config.get_namespace(_PREFIX)
        most = config.pop("max_connections", _MAX_CONNECTIONS)
        check_number("max_connections", most, 1, whole=True)
        hub = hub_class(_configured(self.setting, config))
        hub._core.client_class = functools.partial(_FlaskClient, app)
        app.extensions[_KEY] = _State(hub, most)
        # Before the views: a view may push before the first client connects.
        app.before_request(hub.start_once)
        return hub

    @property
    def hub(self) -> Hub[Meta, Header]:
        """The hub of the current application, for views and callbacks of clients.

        :raises RuntimeError: outside an application context (raised by Flask).
        :raises UsageError: if the application has no hub.
        """
        return _state().hub

    def route(
        self, app: Flask | Blueprint, rule: str, **options: Any
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Make a view the place where WebSocket clients connect, as ``app.route`` does for pages.

        The view runs on the request's thread and decides with Flask's own means (``session``,
        ``before_request``, ``abort``) which clients may connect.  It returns the client's meta.
        If it returns a response or an HTTP exception, that is sent instead.  A tuple is refused,
        because elsewhere in Flask ``"no", 401`` is a response.

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
                if type(meta) is tuple:  # a named tuple is a meta
                    raise UsageError(
                        f"{view.__name__} returned the tuple {meta!r}: to refuse a client, call "
                        f"abort or return a response; as meta return a dict or a class of your own"
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


class _FlaskClient(Client[Meta, Header]):
    """A client whose callbacks run inside an application context."""

    __slots__ = ("_app", "_error")

    def __init__(self, app: Flask, *args: Any) -> None:
        super().__init__(*args)
        self._app = app
        self._error: BaseException | None = None

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        context = self._app.app_context()
        context.push()
        try:
            yield
        except BaseException as error:
            self._error = error
            raise
        finally:
            raised, self._error = self._error, None
            try:
                context.pop(raised)
            except BaseException as trouble:  # noqa: BLE001 - a teardown raised: logged
                self._report(trouble)

    def _begin(self) -> None:
        with self._inside():
            super()._begin()

    def on_message(self, message: str | bytes) -> None:
        """Handle a message inside an application context."""
        with self._inside():
            super().on_message(message)

    def note(self, error: BaseException) -> None:
        """Keep the error for the functions that tear the context down: they may roll back."""
        self._error = error

    def exec_async(self, work: Callable[[], object]) -> None:
        """Run ``work`` inside an application context, in the order of the client's callbacks."""
        super().exec_async(lambda: self._run(work))

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work`` inside an application context and return its result."""
        return super().exec_sync(lambda: self._run(work), timeout)

    def _call(self, callback: Callable[[], object]) -> None:
        super()._call(lambda: self._run(callback))

    def _run(self, work: Callable[[], T]) -> T:
        with self._inside():
            return work()
