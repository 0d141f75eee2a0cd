"""Hubs in Flask applications: an extension, and a route for the view of the WebSocket.

Layer: edges.  Threads: views run on the WSGI server's threads; callbacks of clients on the
hub's, each inside an application context of its own.

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
    """A Flask extension: one hub for each application that it is initialised with.

    It holds the setting, which belongs to no application; each hub is in its application's
    ``extensions["hubthread"]``.  A hub starts with the first request in its process, so it
    may be made before a server forks, and tells its clients 1001 when the process ends.

    Callbacks of clients (start, messages, close, closures of ``ctx.exec_async``) run inside
    an application context of their own: what hangs on one, such as a database session, is
    opened when first used and given back when the callback has ended.  There is no request
    context: what a handler needs of the request, the view puts into the meta, and headers
    and the query are in ``ctx.handshake``.

    :param setting: of every hub.  Values that differ between applications come from their
        configuration: ``HUBTHREAD_`` and the name of a field of ``HubSetting``, ``Limits``,
        ``WebsocketPeriod``, ``Upgrader`` or ``PingPongPlan`` in capitals, such as
        ``HUBTHREAD_CHECK_ORIGIN``; and ``HUBTHREAD_MAX_CONNECTIONS`` for each process
        (10,000 by default).
    :param app: to be initialised with at once.
    """

    def __init__(self, setting: HubSetting[Meta, Header], app: Flask | None = None) -> None:
        check_kind("setting", setting, HubSetting, "a HubSetting")
        self.setting = setting
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, hub_class: type[Hub[Any, Any]] = Hub) -> Hub[Meta, Header]:
        """Give the application its hub, and return that.

        :param hub_class: ``hubthread.testing.VirtualHub`` in tests, whose ``connect_through``
            connects a client through the views, without threads, sockets and waits.
        :raises SettingError: for a name or a value in the configuration that is wrong.
        :raises UsageError: when the application has one.
        """
        if _KEY in app.extensions:
            raise UsageError(f"{app!r} has a hub already: initialise it once")
        config = app.config.get_namespace(_PREFIX)
        most = config.pop("max_connections", _MAX_CONNECTIONS)
        check_number("max_connections", most, 1, whole=True)
        hub = hub_class(_configured(self.setting, config))
        hub._core.client_class = functools.partial(_FlaskClient, app)
        app.extensions[_KEY] = _State(hub, most)
        # Before the views: one may push where nobody has connected yet.
        app.before_request(hub.start_once)
        return hub

    @property
    def hub(self) -> Hub[Meta, Header]:
        """The hub of the current application; for views and callbacks of clients.

        :raises RuntimeError: Flask's, outside of an application context.
        """
        return _state().hub

    def route(
        self, app: Flask | Blueprint, rule: str, **options: Any
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Make a view the place where clients connect, as ``app.route`` makes it a page.

        The view decides who may come, by Flask's own means, on the request's thread:
        ``session``, ``before_request``, ``abort``.  What it returns is the client's meta; a
        response, or an HTTP exception, is sent instead, and a tuple refused: elsewhere in
        Flask ``"no", 401`` would be a response.  It cannot set cookies or the session: the
        client gets its answer before Flask would add them.

        One view may have several of these, with an ``endpoint`` each.

        :param app: the application, or a blueprint of it.
        :param rule: the path, with variables as in any rule.
        :param options: as for ``app.add_url_rule``.
        """

        def decorate(view: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(view)
            def connect(*args: P.args, **kwargs: P.kwargs) -> Any:
                meta: Any = view(*args, **kwargs)
                if isinstance(meta, (Response, HTTPException)):
                    return meta
                if type(meta) is tuple:  # of a class of its own it is not meant for Flask
                    raise UsageError(
                        f"{view.__name__} returned the tuple {meta!r}: to refuse a client, abort "
                        f"or return a response; a meta is a dict, or of a class of your own"
                    )
                state = _state()
                return state.hub.websocket_handler(
                    request.environ, meta=meta, max_connections=state.max_connections
                )

            endpoint = options.pop("endpoint", None) or view.__name__
            # Flask keeps requests for a WebSocket and others apart; the hub has a better
            # word for those who come here without.
            for websocket in (True, False):
                app.add_url_rule(rule, endpoint, connect, websocket=websocket, **options)
            return view

        return decorate


@dataclass(frozen=True)
class _State:
    """What an application has of the extension."""

    hub: Hub[Any, Any]
    max_connections: int


def _state() -> _State:
    state: _State | None = current_app.extensions.get(_KEY)
    if state is None:
        raise UsageError(f"{current_app!r} has no hub: call init_app with it")
    return state


def _configured(
    setting: HubSetting[Meta, Header], config: dict[str, Any]
) -> HubSetting[Meta, Header]:
    """The setting with the values of the configuration in their places."""
    changed: dict[type, dict[str, Any]] = {
        kind: {field.name: config.pop(field.name) for field in _fields(kind, config)}
        for kind in (HubSetting, Limits, WebsocketPeriod, Upgrader, PingPongPlan)
    }
    if config:
        name = _PREFIX + min(config).upper()
        raise SettingError(name, "no setting of a hub is called so")
    # From the outside in: what is given whole may be changed in part, too.
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
            except BaseException as trouble:  # noqa: BLE001 - of the user's: told to the log
                self._report(trouble)

    def _begin(self) -> None:
        with self._inside():
            super()._begin()

    def on_message(self, message: str | bytes) -> None:
        """Inside a context, as all that runs in this client's order."""
        with self._inside():
            super().on_message(message)

    def note(self, error: BaseException) -> None:
        """Keep it for those who end what hangs on the context: they may have to undo it."""
        self._error = error

    def exec_async(self, work: Callable[[], object]) -> None:
        """Inside a context."""
        super().exec_async(lambda: self._run(work))

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Inside a context."""
        return super().exec_sync(lambda: self._run(work), timeout)

    def _call(self, callback: Callable[[], object]) -> None:
        super()._call(lambda: self._run(callback))

    def _run(self, work: Callable[[], T]) -> T:
        with self._inside():
            return work()
