"""The demo's pages over HTTP: content, policy, health."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from importlib import resources
from typing import Any

import pytest

from hubthread import Server, demo
from hubthread.demo import Demo
from tests.demo import Page

PAGES = resources.files("hubthread.demo") / "pages"


def get(url: str) -> tuple[int, Any, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.mark.parametrize(
    ("path", "kind", "part"),
    [
        ("/", "text/html; charset=utf-8", "<title>hubthread chat</title>"),
        ("/?room=lobby", "text/html; charset=utf-8", "<title>hubthread chat</title>"),
        ("/arena", "text/html; charset=utf-8", "<title>hubthread arena</title>"),
        ("/chat.js", "text/javascript; charset=utf-8", "hub = connect("),
        ("/arena.js", "text/javascript; charset=utf-8", "hub = connect("),
        ("/shared.js", "text/javascript; charset=utf-8", "showLine("),
        ("/chat.css", "text/css; charset=utf-8", "prefers-reduced-motion"),
        ("/arena.css", "text/css; charset=utf-8", "touch-action"),
        ("/style.css", "text/css; charset=utf-8", "light-dark("),
    ],
)
def test_page_has_strict_policy(server: Server, path: str, kind: str, part: str) -> None:
    status, headers, body = get(server.http_url.rstrip("/") + path)
    assert status == 200
    assert headers["Content-Type"] == kind
    assert part in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["chat", "arena"])
def test_page_has_no_inline_code_or_foreign_source(name: str) -> None:
    page = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    inline = r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=|javascript:"
    assert re.findall(inline, page) == []
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)", page)
    own = {f"/{name}.js", f"/{name}.css", "/style.css", "/", "/arena", "/cards"}
    assert {each for each in addresses if not each.startswith("data:")} <= own


@pytest.mark.parametrize("name", ["chat", "arena", "shared"])
def test_script_makes_no_html(name: str) -> None:
    script = (PAGES / f"{name}.js").read_text(encoding="utf-8")
    makes_html = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("
    assert re.findall(makes_html, script) == []


def test_health_hub_running_is_ok(server: Server) -> None:
    with Page(server.url) as page:
        page.join("ada", "lobby")
        status, headers, body = get(server.http_url + "healthz")
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    report = json.loads(body)
    assert report.pop("uptime") >= 0
    assert report == {"status": "ok", "clients": 1, "rooms": 2}


def test_health_hub_stuck_is_503(
    site: Demo, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "HUB_TIMEOUT", 0.05)
    release = threading.Event()
    site.hub.exec_async(lambda _: release.wait())
    try:
        status, _, body = get(server.http_url + "healthz")
    finally:
        release.set()
    assert status == 503
    assert json.loads(body)["status"] == "the hub thread does not answer"


def test_page_unknown_path_is_404(server: Server) -> None:
    assert get(server.http_url + "../chat.py")[0] == 404
    assert get(server.http_url + "ws")[0] == 426


def test_cards_page_sends_to_the_port_of_the_game(site: Demo, server: Server) -> None:
    assert get(server.http_url + "cards")[0] == 404
    site.cards_port = 7
    line = http.client.HTTPConnection("127.0.0.1", int(server.address[1]), timeout=60)
    with contextlib.closing(line):
        line.request("GET", "/cards", headers={"Host": "localhost:8000"})
        answer = line.getresponse()
    assert (answer.status, answer.headers["Location"]) == (303, "//localhost:7/")
