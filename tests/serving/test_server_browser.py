"""Pages that a real Chromium shows connect, or do not: foreign host names, and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from hubthread import Response, Upgrader
from tests.browser import chromium
from tests.support import serving

pytestmark = pytest.mark.browser

CONNECT = """
const done = arguments[1], socket = new WebSocket(arguments[0])
socket.onopen = () => done("open")
socket.onclose = event => done(event.code)
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    names = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    files = "--allow-file-access-from-files"  # without it their origin is "null"
    with chromium(tmp_path_factory.mktemp("browser"), names, files) as made:
        made.set_script_timeout(60)
        yield made


@pytest.mark.parametrize(
    ("hosts", "outcome"), [(None, 1006), ("any", "open"), (["evil.example"], "open")]
)
def test_serve_foreign_name_of_this_machine_is_refused(
    driver: Chrome, hosts: object, outcome: object
) -> None:
    """DNS rebinding: the page and its connection have one origin, which the attacker chooses."""
    anywhere = Upgrader(check_origin="any", allowed_hosts="any")
    upgrader = Upgrader(check_origin="any", allowed_hosts=hosts)  # type: ignore[arg-type]
    pages = {"/": lambda request: Response.html("<!doctype html>a page of the attacker")}
    with (
        serving(upgrader=anywhere, serve={"pages": pages}) as s,
        serving(upgrader=upgrader) as own,
    ):
        driver.get(f"http://evil.example:{s.server.address[1]}/")
        url = f"ws://evil.example:{own.server.address[1]}/"
        assert driver.execute_async_script(CONNECT, url) == outcome


@pytest.mark.parametrize(("origins", "outcome"), [(["file://"], "open"), (["null"], 1006)])
def test_serve_page_in_a_file_connects_where_files_are_listed(
    driver: Chrome, tmp_path: Path, origins: object, outcome: object
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!doctype html>a page in a file")
    with serving(upgrader=Upgrader(check_origin=origins)) as s:  # type: ignore[arg-type]
        driver.get(page.as_uri())
        assert driver.execute_async_script(CONNECT, s.server.url) == outcome
