"""The examples in Chromium."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from hubthread.examples import dashboard, flask_chat
from tests.browser import chromium
from tests.demo.tabs import Tab
from tests.integrations.running import running, serving
from tests.support import TIMEOUT

pytestmark = pytest.mark.browser


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path) as driver:
        yield driver


@contextlib.contextmanager
def served(app: Flask) -> Iterator[int]:
    with serving(app) as port:
        try:
            yield port
        finally:
            app.extensions["hubthread"].hub.close(TIMEOUT)


class User(Tab):
    """A user of the chat; users of one host name share a session."""

    def __init__(self, driver: webdriver.Chrome, port: int, name: str, host: str) -> None:
        super().__init__(driver, f"http://{host}:{port}/")
        self["[name=user]"].send_keys(name + Keys.ENTER)
        self.until_live("lobby")

    def until_live(self, room: str) -> None:
        self.until(lambda: self.texts("h1") == [room] and self.texts("#state") == ["live"])

    def say(self, text: str) -> None:
        """Post the form and wait for the message."""
        self["[name=text]"].send_keys(text + Keys.ENTER)
        self.until(lambda: self.texts("#messages span")[-1:] == [text])

    def go(self, room: str) -> None:
        self["[name=name]"].send_keys(room + Keys.ENTER)
        self.until_live(room)

    def until_said(self, *lines: str) -> None:
        self.until(lambda: self.texts("#messages li") == list(lines))


def test_flask_chat_post_reaches_other_browser(driver: webdriver.Chrome) -> None:
    with served(flask_chat.create_app()) as port:
        ada = User(driver, port, "ada", "127.0.0.1")
        bob = User(driver, port, "bob", "localhost")
        ada.say("Hello, Bob!")
        bob.until_said("adaHello, Bob!")
        bob.say("<b>Hello</b>, Ada!")
        ada.until_said("adaHello, Bob!", "bob<b>Hello</b>, Ada!")
        bob.go("garden")
        bob.until_said()
        ada.say("only here")
        ada.go("garden")
        ada.say("and there")
        bob.until_said("adaand there")
        assert ada.trouble() == []
        assert bob.trouble() == []
        bob["[action='/logout'] button"].click()
        bob.until(lambda: bob.texts("h1") == ["A chat"])


SEEN = """
const state = document.querySelector("#state")
window.seen = ""
new MutationObserver(() => window.seen += state.textContent).observe(state, { childList: true })
"""
"""Keeps what the page says of its connection."""


def test_dashboard_is_fed_and_reconnects(driver: webdriver.Chrome) -> None:
    app = dashboard.create_app(every=0.05)
    with served(app) as port:
        tab = Tab(driver, f"http://127.0.0.1:{port}/")
        tab.until(lambda: tab.texts("#viewers output") == ["1"])
        assert tab.texts("#state") == ["live"]

        def points() -> int:
            script = "return document.querySelector('#load polyline').points.length"
            return int(driver.execute_script(script))

        before = points()
        more = min(before + 6, dashboard.KEPT)
        tab.until(lambda: points() >= more)
        other = Tab(driver, f"http://127.0.0.1:{port}/")
        # A newcomer gets the earlier samples.
        other.until(lambda: other.texts("#viewers output") == ["2"] and points() >= more)
        assert tab.trouble() == []
        driver.execute_script(SEEN)  # the page may wait for a moment only
        app.extensions["hubthread"].hub.clients()[0].close(1001)
        tab.until(lambda: "waiting" in driver.execute_script("return window.seen"))
        tab.until(lambda: tab.texts("#state") == ["live"])


def test_example_commands_serve_pages(driver: webdriver.Chrome) -> None:
    for module in ("flask_chat", "dashboard"):
        with running("flask", module) as server:
            tab = Tab(driver, f"http://127.0.0.1:{server.port}/")
            tab.until(lambda tab=tab: tab.texts("h1") != [])  # type: ignore[misc]
            assert "Traceback" not in server.log
