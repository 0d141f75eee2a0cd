"""The monitor page in a real Chromium: many clients, names from strangers, a hub that is stuck."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from hubthread import (
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    MemoryBackplane,
    Monitor,
)
from hubthread.hub.monitor import FILES
from hubthread.testing import FakeClock, VirtualHub
from tests.browser import chromium
from tests.support import TIMEOUT, Task, serving

pytestmark = pytest.mark.browser

CLIENTS, ROOMS, TICKING = 5000, 500, 50
ROWS = 15
EVIL = '<img src=x onerror="document.title = 1"><b>name</b>'

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("browser")) as made:
        yield made


class Page:
    """The monitor page in the browser."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get("about:blank")  # an address that differs behind the # only loads nothing
        browser.get_log("browser")  # type: ignore[no-untyped-call]
        browser.get(url)

    def value(self, expression: str) -> Any:
        return self.browser.execute_script(f"return {expression}")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true; return its value."""
        waiting = WebDriverWait(self.browser, TIMEOUT, poll_frequency=0.02)
        return waiting.until(lambda _: self.value(expression))

    def text(self, selector: str) -> str:
        found: str = self.value(f"document.querySelector({selector!r}).textContent")
        return found

    def click(self, selector: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, selector).click()

    def type(self, selector: str, text: str) -> None:
        self.browser.find_element(By.CSS_SELECTOR, selector).send_keys(text)

    def rows(self, table: str) -> list[list[str]]:
        """Return the texts of a table's rows."""
        found: list[list[str]] = self.value(
            f"[...document.querySelectorAll('#{table} tbody tr')]"
            ".map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return found

    def refreshed(self, act: Callable[[], None]) -> float:
        """Do what makes the page ask for figures; return the milliseconds until they are shown."""
        self.value("performance.clearMeasures('refresh')")
        act()
        duration: float = self.until("performance.getEntriesByName('refresh')[0]?.duration")
        return duration

    def refresh_until(self, expression: str) -> None:
        """Refresh until an expression is true."""

        def refresh() -> Any:
            self.refreshed(lambda: self.click("#clients th:nth-child(4) button"))
            return self.value(expression)

        WebDriverWait(self.browser, TIMEOUT, poll_frequency=0.02).until(lambda _: refresh())

    def trouble(self) -> list[str]:
        """Return the lines of the browser's console."""
        lines = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [line["message"] for line in lines]


def user_of(ctx: IOContext, meta: object) -> str | None:
    return ctx.handshake.query.get("user")


@pytest.fixture(scope="module")
def crowd() -> Iterator[Monitor]:
    """The monitor of a hub with many clients and rooms; names that strangers chose are HTML."""
    made: queue.Queue[Monitor | None] = queue.Queue()
    over = threading.Event()

    def build() -> None:  # on a thread of its own, where time is virtual
        setting = HubSetting[Any, Any](
            dict, hub_name="crowded", user=user_of, backplane=MemoryBackplane()
        )
        other = dataclasses.replace(setting, hub_name=EVIL)
        clock = FakeClock()
        with VirtualHub(setting, clock) as hub, VirtualHub(other, clock):
            monitor = hub.monitor()
            rooms = [hub.hotline(HotlineOption(f"room {number}")) for number in range(ROOMS - 1)]
            rooms.append(hub.hotline(HotlineOption(EVIL, kind="<i>kind</i>")))
            for room in rooms[:TICKING]:
                HotlineFrameOption(list, lambda frame, obj: None, hz=1).run(room)
            for number in range(CLIENTS - 1):
                rooms[number % ROOMS].answer(hub.connect().ctx)
            rooms[-1].answer(hub.connect(f"/?user={quote(EVIL)}").ctx)
            hub.advance(7)
            made.put(monitor)
            over.wait()

    def hold() -> None:
        try:
            build()
        finally:
            made.put(None)

    held = Task(hold)
    try:
        monitor = made.get()  # without a bound: so many clients take a busy machine long
        if monitor is not None:
            yield monitor
    finally:
        over.set()
        held.thread.join()
        held.result()


@pytest.fixture
def crowded(crowd: Monitor) -> Iterator[str]:
    """The address of that monitor: a virtual hub has no port, so another one serves its page."""
    pages = {f"/{name}": crowd._page for name in (*FILES, "data")}
    with Hub(HubSetting[Any, Any](dict)) as front:
        yield crowd.url(front.serve(pages=pages, path="/none"))


def test_page_of_a_crowded_hub_is_painted_and_refreshed(
    browser: Chrome, crowded: str, record_property: Record
) -> None:
    """Its work does not grow with the clients: four requests, a few rows, a small answer."""
    page = Page(browser, crowded)
    page.until("document.querySelectorAll('#clients tbody tr').length")
    painted = page.until("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    orders = [
        page.refreshed(lambda heading=heading: page.click(heading))  # type: ignore[misc]
        for heading in ("#clients th:nth-child(4) button", "#rooms th:nth-child(2) button")
        for _ in range(5)
    ]
    found = page.refreshed(lambda: page.type("#clients-find", "4999"))
    page.until("document.querySelectorAll('#clients tbody tr').length === 1")
    record_property("first paint, ms", round(painted))
    record_property("refreshes, ms", [round(each) for each in (*orders, found)])
    # The user has tried something between any two of them, and none has waited for another.
    assert page.text("#clients [data-count]") == "5,000"
    assert [row[0] for row in page.rows("clients")] == ["4999"]
    assert page.text("#rooms [data-count]") == "500"
    assert len(page.rows("rooms")) == ROWS
    loaded = page.value(
        "performance.getEntriesByType('resource').map(e => [e.name, e.decodedBodySize])"
    )
    names = [name.rpartition("/")[2].partition("?")[0] for name, _ in loaded]
    assert names[:3] == ["monitor.css", "monitor.js", "data"]
    assert set(names[3:]) == {"data"}
    assert all(size < 20_000 for name, size in loaded if "data?" in name)
    assert page.value("document.querySelectorAll('*').length") < 2000
    assert page.trouble() == []


def test_page_shows_names_of_strangers_as_text(browser: Chrome, crowded: str) -> None:
    page = Page(browser, crowded)
    page.until("document.querySelectorAll('#clients tbody tr').length")
    page.refreshed(lambda: page.type("#rooms-find", "<b>"))
    page.until("document.querySelectorAll('#rooms tbody tr').length === 1")
    page.refreshed(lambda: page.type("#clients-find", "<img"))
    page.until("document.querySelectorAll('#clients tbody tr').length === 1")
    assert page.rows("rooms")[0][0] == EVIL + "<i>kind</i>"
    assert page.rows("clients")[0][2] == EVIL
    nodes = {row[0]: row[1:4] for row in page.rows("nodes")}
    assert nodes["crowdedthis one"] == ["running", "5,000", "500"]
    assert nodes[f"{EVIL}this one"] == ["running", "0", "0"]  # the mark is hidden
    assert page.value("document.querySelectorAll('img, b, i').length") == 0
    assert page.value("document.title").startswith("crowded ")
    assert page.trouble() == []


def test_page_fits_a_phone_and_has_a_dark_look(browser: Chrome, crowded: str) -> None:
    page = Page(browser, crowded)
    page.until("document.querySelectorAll('#rooms tbody tr').length")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    look = "getComputedStyle(document.body).backgroundColor"
    light = page.value(look)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        page.until("innerWidth === 390")
        assert page.value("document.documentElement.scrollWidth") == 390
        page.until(f"{look} !== {light!r}")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_page_without_the_token_tells_nothing(browser: Chrome, crowded: str) -> None:
    address, _, token = crowded.partition("#token=")
    browser.get(address)
    browser.execute_script("sessionStorage.clear()")
    page = Page(browser, address)
    page.until("!document.querySelector('#ask').hidden")
    assert "crowded" not in page.value("document.documentElement.outerHTML")
    assert page.value("document.querySelector('#page').hidden")
    page.type("#token", "a-token-that-is-wrong")
    page.click("#token-form button")
    page.until("document.querySelector('#token-error').textContent")
    assert "crowded" not in page.value("document.documentElement.outerHTML")
    page.type("#token", token)
    page.click("#token-form button")
    page.until("document.querySelector('#name').textContent === 'crowded'")
    assert token not in page.value("location.href + document.documentElement.outerHTML")
    assert all("status of 401" in line for line in page.trouble())


def test_page_of_a_stuck_hub_shows_what_it_does(browser: Chrome) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow_report(dhub: object) -> None:
        begun.set()
        release.wait(TIMEOUT)

    with Hub(HubSetting[Any, Any](dict)) as hub:
        monitor = hub.monitor()
        page = Page(browser, monitor.url(monitor.serve()))
        page.until("document.querySelector('#state').textContent === 'Running'")
        hub.exec_async(slow_report)
        assert begun.wait(TIMEOUT)
        page.refresh_until("!document.querySelector('#stuck').hidden")
        assert "in slow_report" in page.text("#stuck pre")
        assert page.text("#state").startswith("The hub is busy for ")
        release.set()
        page.refresh_until("document.querySelector('#state').textContent === 'Running'")
        assert page.value("document.querySelector('#stuck').hidden")
        assert page.trouble() == []


def test_page_closes_a_client_after_a_question(browser: Chrome) -> None:
    with serving() as s:
        monitor = s.hub.monitor(actions=True)
        s.pair()
        page = Page(browser, monitor.url(monitor.serve()))
        page.until("document.querySelector('#clients tbody .danger')")
        page.click("#clients tbody .danger")
        page.click("#confirm-no")
        assert s.hub.statistics().clients == 1
        page.click("#clients tbody .danger")
        page.type("#confirm-reason", "spam")
        page.click("#confirm-yes")
        page.until(
            "document.querySelector('#note').textContent.startsWith('Done: closed <Client')"
        )
        assert "for 'spam', by the token" in s.logs.wait("the monitor: closed")
