"""Virtual clients that connect through a WSGI application: its views, session and pushes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import flask
import pytest
from werkzeug.test import Client

from hubthread import HandshakeRejected, HubSetting, UsageError
from hubthread.examples import flask_chat
from hubthread.integrations.flask import FlaskHub
from hubthread.testing import VirtualHub

Meta = dict[str, Any]


def site() -> tuple[flask.Flask, VirtualHub[Meta, str]]:
    """Return an application and its hub."""
    app = flask.Flask("site")
    app.secret_key = "secret"
    realtime: FlaskHub[Meta, str] = FlaskHub(
        HubSetting(
            dict,
            on_connection_start=lambda ctx, meta: room.answer(ctx),
            on_receive_message=lambda ctx, meta: ctx.write(meta["name"] + " said something") > 0,
        )
    )
    hub = realtime.init_app(app, VirtualHub)
    assert isinstance(hub, VirtualHub)
    room = hub.hotline()

    @app.post("/login/<name>")
    def login(name: str) -> str:
        flask.session["name"] = name
        return ""

    @app.post("/push/<text>")
    def push(text: str) -> str:
        return str(room.push(text))

    @realtime.route(app, "/ws")
    def ws() -> Meta:
        if "name" not in flask.session:
            flask.abort(401, "Log in first.")
        return {"name": flask.session["name"], **flask.request.args}

    return app, hub


def test_virtual_hub_connect_through_flask_view_decides_and_routes_push() -> None:
    app, hub = site()
    ada, bob = app.test_client(), app.test_client()
    with hub:
        ada.post("/login/ada")
        client = hub.connect_through(ada, "/ws?table=7")
        assert client.ctx.meta == {"name": "ada", "table": "7"}
        assert client.ctx.handshake.query == {"table": "7"}
        client.send("hello")
        bob.post("/push/news")
        assert client.messages() == ["ada said something", "news"]
        with pytest.raises(HandshakeRejected, match="Log in first") as refused:
            hub.connect_through(bob, "/ws")
        assert refused.value.status == 401
    assert client.close_code == 1001


def test_virtual_hub_first_client_of_flask_starts_it() -> None:
    app, hub = site()
    client = app.test_client()
    client.post("/login/ada")
    assert hub.state == "new"
    assert hub.connect_through(client, "/ws").inbox == []
    assert hub.state == "running"
    hub.close()


def test_virtual_hub_connect_through_checks_the_origin() -> None:
    app, hub = site()
    client = app.test_client()
    client.post("/login/ada")
    with pytest.raises(HandshakeRejected, match="may not connect") as refused:
        hub.connect_through(client, "/ws", headers={"Origin": "http://evil.example"})
    assert refused.value.status == 403
    assert hub.statistics().handshakes_refused == 1
    hub.close()


def test_virtual_hub_connect_through_any_wsgi_application() -> None:
    hub: VirtualHub[str, str] = VirtualHub(HubSetting(lambda: "by the hub"))

    def application(
        environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        return hub.websocket_handler(environ, start_response)

    def page(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"a page"]

    with hub:
        assert hub.connect_through(Client(application)).ctx.meta == "by the hub"
        with pytest.raises(UsageError, match="answered 200: its view has not called"):
            hub.connect_through(Client(page))


def test_virtual_hub_connect_through_the_chat_of_the_examples() -> None:
    app = flask_chat.create_app(VirtualHub)
    hub = app.extensions["hubthread"].hub
    ada, bob = app.test_client(), app.test_client()
    for client, name in ((ada, "ada"), (bob, "bob")):
        client.post("/login", data={"user": name})
    with pytest.raises(HandshakeRejected, match="Log in first"):
        hub.connect_through(app.test_client(), "/ws")
    watching = hub.connect_through(bob, "/ws", headers={"Sec-WebSocket-Protocol": "hubthread.1"})
    ada.post("/rooms/lobby", data={"text": "first"})
    watching.send('{"type": "hub:join", "room": "lobby", "replay": 100}')
    ada.post("/rooms/lobby", data={"text": "second"})
    ada.post("/rooms/garden", data={"text": "elsewhere"})
    joined, *pushes = [json.loads(message) for message in watching.messages()]
    assert joined["type"] == "hub:join"
    said = [push["data"] for push in pushes]
    assert said == [
        {"type": "said", "user": "ada", "text": "first"},
        {"type": "said", "user": "ada", "text": "second"},
    ]
    hub.close()
