"""The page with the browser's client."""

from __future__ import annotations

import http.client

from hubthread import Hub, HubSetting, client_page


def test_client_page_is_kept_by_browsers_until_it_changes() -> None:
    with (
        Hub(HubSetting[dict[str, str], str](dict)) as hub,
        hub.serve(path="/ws", pages={"/hubthread.js": client_page}) as server,
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
