"""Fixtures: a demo that serves, and a Chromium."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from hubthread import Server, demo
from hubthread.demo import Demo
from tests.demo.running import Running

if TYPE_CHECKING:
    from selenium import webdriver


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    from tests.browser import chromium  # the tests without a browser do without selenium

    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def driver(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser of the file, without the tabs of the test before; each port has a storage."""
    browser.set_window_size(1360, 850)
    first = browser.current_window_handle
    yield browser
    for handle in set(browser.window_handles) - {first}:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(first)
    browser.get_log("browser")  # type: ignore[no-untyped-call]


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    yield running
    running.stop()


@pytest.fixture
def site() -> Iterator[Demo]:
    site = Demo()
    site.hub.start()
    yield site
    site.hub.close()


@pytest.fixture
def server(site: Demo, caplog: pytest.LogCaptureFixture) -> Iterator[Server]:
    with caplog.at_level(logging.WARNING), demo.serve(site, "127.0.0.1", 0) as server:
        yield server
        site.hub.close()
    assert [record.getMessage() for record in caplog.records] == []
