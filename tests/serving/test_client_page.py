"""The page with the browser's client."""

from __future__ import annotations

import http.client

import pytest

from hubthread import Hub, HubSetting, SettingError, client_page


def test_client_page_is_kept_by_browsers_until_it_changes() -> None:
    with (
        Hub(HubSetting[dict[str, str], str](dict)) as hub,
        hub.serve(path="/ws", client="/hubthread.js") as server,
    ):

        def get(tag: str) -> http.client.HTTPResponse:
            assert isinstance(server.address, tuple)
            connection = http.client.HTTPConnection(*server.address[:2])
            connection.request("GET", "/hubthread.js", headers={"If-None-Match": tag})
            return connection.getresponse()

        first = get('"older"')
        assert (first.status, first.headers["Content-Type"]) == (
            200,
            "text/javascript; charset=utf-8",
        )
        assert b"export function connect(" in first.read()
        tag = first.headers["ETag"]
        again = get(tag)
        assert (again.status, again.read(), again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "no-cache"


def test_client_needs_a_path_of_its_own() -> None:
    with Hub(HubSetting[dict[str, str], str](dict)) as hub:
        with pytest.raises(SettingError, match="without a page"):
            hub.serve(client="/a.js", pages={"/a.js": client_page})
        with pytest.raises(SettingError, match="begins with a slash"):
            hub.serve(client="a.js")
        with pytest.raises(SettingError, match="client"):
            hub.serve(client=client_page)  # type: ignore[arg-type]
