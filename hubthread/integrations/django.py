"""Hubs in Django projects: a response for WebSocket views, and database connections.

Layer: integrations.  Threads: views run on the WSGI server's threads.  Callbacks of clients run
on the hub's threads.

::

    hub = Hub(HubSetting(dict, on_receive_message=on_message,
                         around_callback=database_connections))

    @login_required
    def ws(request):
        return websocket_response(hub, request, {"user": request.user.pk})
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

from django import db
from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response

from hubthread.errors import UsageError
from hubthread.hub.hub import Hub
from hubthread.serving.client_page import CONTENT_TYPE, FILES, client_file, client_tag
from hubthread.serving.wsgi import WSGIAnswer

__all__ = ["client_script", "database_connections", "websocket_response"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


def websocket_response(
    hub: Hub[Meta, Header], request: HttpRequest, meta: Meta, *, max_connections: int = 10_000
) -> HttpResponse:
    """Make the request of a view a client, and return the view's response.

    The view decides which clients may connect, with Django's own means (``request.user``,
    ``login_required``, ``PermissionDenied``).  It cannot set cookies or change the session: the
    client gets its answer before Django adds them.

    :param hub: the hub; the first client in a process starts it there.
    :param request: the request that the view got.
    :param meta: the client's meta.
    :param max_connections: see ``Hub.websocket_handler``.
    :raises UsageError: if Django runs on an ASGI server, and as ``Hub.websocket_handler``.
    """
    environ: Any = getattr(request, "environ", None)
    if environ is None:
        raise UsageError(
            "this request came through an ASGI server, which keeps its connections: use "
            "runserver, gunicorn with sync or gthread workers, or another WSGI server"
        )
    return _Response(hub.websocket_handler(environ, meta=meta, max_connections=max_connections))


def client_script(request: HttpRequest) -> HttpResponse:
    """Return the browser's client: ``path("hubthread.js", client_script)`` in ``urlpatterns``.

    ``hubthread client-js DIR`` copies it to the static files instead.
    """
    tag = client_tag()
    fields = {"ETag": tag, "Cache-Control": "no-cache"}
    response = HttpResponse(client_file(FILES[0]), content_type=CONTENT_TYPE, headers=fields)
    return get_conditional_response(request, etag=tag, response=response)


@contextlib.contextmanager
def database_connections(ctx: Any, meta: Any) -> Iterator[None]:
    """Give the thread's database connections back after each callback of a client.

    Give this function as ``HubSetting.around_callback``.  Django closes connections at the end
    of each request, and callbacks are in no request: without this each client would keep a
    connection for as long as it is connected.  ``CONN_MAX_AGE`` does not apply to callbacks; a
    connection pool of Django does.

    A connection inside ``transaction.atomic``, as in ``TestCase``, is left alone.
    """
    db.reset_queries()
    for connection in _free_connections():
        connection.close_if_unusable_or_obsolete()
    try:
        yield
    finally:
        for connection in _free_connections():
            connection.close()


def _free_connections() -> list[Any]:
    """Return the connections of this thread that are in no transaction."""
    opened = db.connections.all(initialized_only=True)
    return [connection for connection in opened if not connection.in_atomic_block]


class _Response(HttpResponse):  # type: ignore[misc]  # Django has no types
    """A hub's answer to a request, as Django's handlers and middleware want it."""

    def __init__(self, answer: WSGIAnswer) -> None:
        status, _, reason = answer.status.partition(" ")
        super().__init__(answer.body, status=int(status), reason=reason)
        for name in list(self.headers):
            del self[name]
        for name, value in answer.headers:
            self[name] = value
        self._answer = answer

    def close(self) -> None:
        """End the response, as the WSGI server asks for when it has sent it."""
        super().close()
        self._answer.close()
