"""Django: its own server and gunicorn in processes of their own, and its test client."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from hubthread import HandshakeRejected, HubSetting, UsageError
from hubthread.testing import VirtualHub
from tests.integrations.running import Running, running, serving
from tests.pages import execute, program
from tests.support import TIMEOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CLIENTS = 5


def play(server: Running) -> None:
    """Connect clients, and let each of them ask the database once."""
    status, body = server.shake()
    assert status == 403, body
    status, key = server.ask("/login/ada")
    assert status == 200, key
    fields = {"Cookie": f"sessionid={key}"}
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(
                connect(server.url, additional_headers=fields, open_timeout=TIMEOUT)
            )
            client.send("count")
            assert client.recv(TIMEOUT) == "1 ada"
        server.until_figures(clients=CLIENTS, connections=0)
    server.until_figures(clients=0, connections=0)


def test_django_in_runserver_admits_by_view_and_gives_connections_back() -> None:
    with running("runserver-django") as server:
        play(server)


def test_django_in_gunicorn_admits_by_view_and_gives_connections_back() -> None:
    site = "tests.integrations.django_site:application"
    with running("gunicorn-gthread", application=site) as server:
        play(server)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The project in this process."""
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(tmp_path_factory.mktemp("django"))
    try:
        from tests.integrations import django_site
    finally:
        if home is not None:
            os.environ["HOME"] = home
    from django.db import connections

    try:
        yield django_site
    finally:
        connections.close_all()


def test_virtual_hub_connect_through_test_client(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.contrib.auth.models import User
    from django.db import connection, transaction
    from django.test import Client

    with VirtualHub(site.hub.setting) as hub:
        monkeypatch.setattr(site, "hub", hub)
        browser = Client()
        with pytest.raises(HandshakeRejected) as refused:
            hub.connect_through(browser, "/ws")
        assert refused.value.status == 403
        browser.force_login(User.objects.create(username="bob"))
        client = hub.connect_through(browser, "/ws")
        with transaction.atomic():  # as a TestCase has it
            User.objects.create(username="eve")
            client.send("count")
            assert client.messages() == ["2 bob"]
        assert connection.connection is not None
        client.send("count")
        assert connection.connection is None
        assert hub.errors == []


def test_websocket_response_of_an_asgi_request_is_refused(site: Any) -> None:
    from hubthread.integrations.django import websocket_response

    request: Any = object()
    with pytest.raises(UsageError, match="ASGI"):
        websocket_response(site.hub, request, {})


def test_database_connections_are_given_back_when_the_callback_raises(site: Any) -> None:
    from django.db import connection

    from hubthread.integrations.django import database_connections

    setting = HubSetting[Any, Any](dict, around_callback=database_connections)
    with VirtualHub(setting) as hub:
        ctx = hub.connect().ctx

        def fail() -> None:
            connection.ensure_connection()
            raise LookupError("tripped")

        with pytest.raises(LookupError):
            ctx.exec_sync(fail)
        assert connection.connection is None


def test_django_program_of_the_documentation_runs(site: Any) -> None:
    from django.contrib.auth.models import User
    from django.core.wsgi import get_wsgi_application
    from django.test import Client, override_settings

    names: dict[str, Any] = {"__name__": "django"}
    execute(program("django"), "django", names)
    urls: Any = types.ModuleType("urls")
    urls.urlpatterns, hub = names["urlpatterns"], names["hub"]
    with override_settings(ROOT_URLCONF=urls), serving(get_wsgi_application()) as port:
        try:
            browser = Client()
            assert browser.get("/ws").status_code == 403
            browser.force_login(User.objects.get_or_create(username="ada")[0])
            headers = {"Cookie": f"sessionid={browser.cookies['sessionid'].value}"}
            with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers) as ada:
                assert ada.recv(TIMEOUT) == "hello ada"
                assert browser.get("/news?text=news").status_code == 204
                assert ada.recv(TIMEOUT) == "news"
        finally:
            hub.close(TIMEOUT)


def test_client_script_is_kept_by_browsers_until_it_changes(site: Any) -> None:
    from django.test import RequestFactory

    from hubthread.integrations.django import client_script

    first = client_script(RequestFactory().get("/hubthread.js"))
    assert first["Content-Type"] == "text/javascript; charset=utf-8"
    assert b"export function connect(" in first.content
    asked = RequestFactory().get("/hubthread.js", HTTP_IF_NONE_MATCH=first["ETag"])
    assert client_script(asked).status_code == 304
