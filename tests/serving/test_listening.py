"""Endpoints and addresses, of both kinds of servers."""

from __future__ import annotations

import errno
import ssl
from pathlib import Path
from typing import Any

import pytest

from hubthread import (
    Hub,
    HubSetting,
    Response,
    SettingError,
    WebsocketPeriod,
)
from hubthread.serving.listening import Endpoint
from tests.support import serving


def test_listening_at_an_unusable_place_names_it(tmp_path: Path) -> None:
    """Port in use, no such address, no such folder."""
    with serving() as s:
        port = int(s.server.address[1])
        with pytest.raises(OSError, match=f"127.0.0.1:{port}") as caught:
            s.hub.serve(port=port)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=r"192\.0\.2\.1:0"):
            s.hub.serve("192.0.2.1")
        with pytest.raises(OSError, match="nowhere"):
            s.hub.serve(unix_path=str(tmp_path / "nowhere" / "sock"))
        assert len(s.hub.servers()) == 1


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("port", {"port": -1}),
        ("port", {"port": 65536}),
        ("port", {"port": "80"}),
        ("port", {"port": True}),
        ("port", {"port": 8000.0}),
        ("max_connections", {"max_connections": 0}),
        ("backlog", {"backlog": 0}),
        ("path", {"path": "ws"}),
        ("path", {"path": 1}),
        ("pages", {"pages": ["/"]}),
        ("path", {"pages": {"x": lambda request: Response.text(200, "")}}),
        ("pages", {"pages": {"/": "text"}}),
        ("ssl", {"ssl": True}),
    ],
)
def test_listening_with_a_wrong_argument_names_it(field: str, arguments: dict[str, Any]) -> None:
    hub = Hub(HubSetting[Any, Any](dict, websocket_period=WebsocketPeriod()))
    with pytest.raises(SettingError) as caught:
        hub.serve(**arguments)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert hub.servers() == []
    hub.close()


@pytest.mark.parametrize(
    ("field", "endpoint"),
    [
        ("addr", Endpoint("", 0, None, 1)),
        ("addr", Endpoint(None, 0, None, 1)),  # type: ignore[arg-type]
        ("port", Endpoint("::", 65536, None, 1)),
        ("backlog", Endpoint("::", 0, None, 0)),
        ("ssl", Endpoint("::", 0, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), 1)),
    ],
)
def test_endpoint_with_a_wrong_value_names_the_callers_parameter(
    field: str, endpoint: Endpoint
) -> None:
    with pytest.raises(SettingError) as caught:
        endpoint.check("addr")
    assert caught.value.field == field
