"""The answer to a page that asks why its handshakes fail."""

from __future__ import annotations

import email.message
import http.client
from typing import Any

import pytest

from hubthread import (
    HandshakeRejected,
    Hub,
    HubSetting,
    Request,
    Response,
    Upgrader,
)
from tests.support import serving

CHECK = {"X-Hubthread-Check": "1"}
PAGE = "https://page.example"


def asked(
    server: Any, path: str = "/ws", method: str = "GET", **headers: str
) -> tuple[int, email.message.Message]:
    connection = http.client.HTTPConnection(*server.address[:2])
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=fields)
    response = connection.getresponse()
    response.read()
    return response.status, response.headers


def decide(request: Request) -> str:
    assert request.is_websocket
    if "user" not in request.cookies:
        raise HandshakeRejected(401, "Log in first.")
    if request.cookies["user"] == "busy":
        raise HandshakeRejected(503, "Full.", (("Retry-After", "7"),))
    return request.cookies["user"]


def test_check_is_answered_as_the_handshake_would_be() -> None:
    with serving(on_handshake=decide, serve={"path": "/ws"}) as s:
        assert asked(s.server, **CHECK, Cookie="user=ann")[0] == 204
        assert asked(s.server, **CHECK)[0] == 401
        status, headers = asked(s.server, **CHECK, Cookie="user=busy")
        assert (status, headers["Retry-After"], headers["Cache-Control"]) == (503, "7", "no-store")
        assert asked(s.server, "/elsewhere", **CHECK)[0] == 404
        assert asked(s.server, Cookie="user=ann")[0] == 426
        assert s.hub.statistics().clients_total == 0


def test_check_is_readable_by_pages_of_other_origins() -> None:
    upgrader = Upgrader(check_origin={PAGE})
    with serving(on_handshake=decide, upgrader=upgrader, serve={"path": "/ws"}) as s:
        status, headers = asked(
            s.server, method="OPTIONS", Origin=PAGE,
            Access_Control_Request_Headers="x-hubthread-check",
        )  # fmt: skip
        assert (status, headers["Access-Control-Allow-Headers"]) == (204, "x-hubthread-check")
        for origin, expected in ((PAGE, 204), ("https://foreign.example", 403)):
            status, headers = asked(s.server, **CHECK, Origin=origin, Cookie="user=ann")
            assert status == expected
            assert headers["Access-Control-Allow-Origin"] == origin
            assert headers["Access-Control-Allow-Credentials"] == "true"
            assert headers["Access-Control-Expose-Headers"] == "Retry-After"
            assert headers["Vary"] == "Origin"


def test_check_comes_before_the_page_of_the_same_address() -> None:
    pages = {"/": lambda request: Response.text(200, "a page")}
    with serving(serve={"pages": pages}) as s:
        assert asked(s.server, "/")[0] == 200
        assert asked(s.server, "/", **CHECK)[0] == 204
        assert asked(s.server, "/", method="OPTIONS")[0] == 405


def test_check_of_a_full_server_tells_when_to_come_back() -> None:
    with serving(serve={"path": "/ws", "max_connections": 1}) as s:
        s.pair(path="/ws")
        status, headers = asked(s.server, **CHECK)
        assert (status, headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    ("environ", "status"),
    [({}, "204 No Content"), ({"HTTP_ORIGIN": "https://foreign.example"}, "403 Forbidden")],
)
def test_check_through_wsgi(environ: dict[str, str], status: str) -> None:
    found: list[Any] = []
    with Hub[dict[str, str], str](HubSetting(dict)) as hub:
        answer = hub.websocket_handler(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/ws",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "HTTP_HOST": "localhost",
                "HTTP_X_HUBTHREAD_CHECK": "1",
                **environ,
            },
            meta={},
        )
        body = list(answer({}, lambda *each: found.append(each)))
    assert found[0][0] == status
    assert bool(body) is (status != "204 No Content")
    origin = dict(found[0][1]).get("Access-Control-Allow-Origin")
    assert origin == environ.get("HTTP_ORIGIN")
