"""The browser's client in a real Chromium, against a real hub that is killed and stopped.

Pages keep what they have seen in ``window.seen``.  After a gap they fetch everything anew.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait

from hubthread import Hub, HubSetting, Response, Sessions
from tests.browser import chromium
from tests.test_docs import running as running_program

pytestmark = pytest.mark.browser

PAGES = 20

HOST = "127.0.0.14"
"""An address of its own: on 127.0.0.1 another test may get the port while it is free."""

SERVER = """
import json, sys
from hubthread import History, HotlineOption, Hub, HubSetting, Response

hub = Hub.started(HubSetting(dict, may_join=lambda ctx, meta, name: True))
room = hub.room("room", HotlineOption(shared=True, history=History()))
pushed = json.loads(sys.argv[2])
PAGE = '''<!doctype html><link rel="icon" href="data:,"><script type="module">
import { connect } from "/hubthread.js"
window.seen = []
window.log = []
window.attempts = []
window.reasons = []
window.hub = connect("/ws")
window.room = hub.room("room")
hub.on("state", ({ state, reason }) => {
  log.push(state)
  if (state === "connecting") attempts.push(Date.now())
  reasons.push(reason)
})
room.on("*", number => seen.push(number))
room.on("gap", async () => {
  log.push("gap")
  seen = []
  const all = await (await fetch("/all")).json()
  seen = [...all, ...seen.filter(number => !all.includes(number))]
})
</script>'''
# Each in a window of its own: of the tabs of one window all but one are hidden, and wait longer.
TABS = '<!doctype html><link rel="icon" href="data:,"><script>' + (
    "window.tabs = Array.from({ length: 20 }, () => open('/', '_blank', 'popup'))</script>"
)
pages = {
    "/": lambda request: Response.html(PAGE),
    "/tabs": lambda request: Response.html(TABS),
    "/all": lambda request: Response.text(200, json.dumps(pushed)),
    "/other": lambda request: Response.html("<!doctype html>elsewhere"),
}
server = hub.serve(sys.argv[3], int(sys.argv[1]), path="/ws", client="/hubthread.js", pages=pages)
print(server.address[1], flush=True)
for line in sys.stdin:
    pushed.append(int(line))
    room.push(line.strip())
    print("pushed", flush=True)
"""


class Program:
    """A server in a process of its own, which pushes what it is told to."""

    def __init__(self, port: int, pushed: list[int]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port), json.dumps(pushed), HOST],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())
        self.pushed = pushed

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def push(self, *numbers: int) -> None:
        assert self.process.stdin is not None
        for number in numbers:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            assert self._line() == "pushed"
            self.pushed.append(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(port: int = 0, pushed: list[int] | None = None) -> Iterator[Program]:
    program = Program(port, pushed or [])
    try:
        yield program
    finally:
        program.kill()


class Page:
    """The page in the browser, which may have opened others."""

    def __init__(self, browser: Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address)

    def value(self, expression: str) -> Any:
        return json.loads(self.browser.execute_script(f"return JSON.stringify({expression})"))

    def until(self, expression: str, expected: Any) -> None:
        """Wait until an expression has a value."""
        waiting = WebDriverWait(self.browser, 60, poll_frequency=0.05)
        waiting.until(lambda _: self.value(expression) == expected, expression)

    def devtools(self, command: str, **fields: object) -> None:
        self.browser.execute_cdp_cmd(command, fields)

    def look_away(self) -> None:
        """Open another tab for a moment: the page is hidden, and then visible again."""
        here = self.browser.current_window_handle
        self.browser.switch_to.new_window("tab")
        self.browser.close()
        self.browser.switch_to.window(here)

    def no_errors(self) -> None:
        lines: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        assert [line for line in lines if "Uncaught" in line["message"]] == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@contextmanager
def opened(browser: Chrome) -> Iterator[tuple[Program, Page]]:
    """A server, and a page that has seen its first pushes."""
    with running() as program:
        page = Page(browser, f"http://{HOST}:{program.port}/")
        page.until("[window.hub?.state, window.room?.live]", ["open", True])
        program.push(1, 2)
        page.until("seen", [1, 2])
        yield program, page
        page.no_errors()
        browser.get("about:blank")


def test_pages_miss_nothing_when_the_server_is_killed_and_restarted(browser: Chrome) -> None:
    each = "tabs.map(page => page.{})"
    with running() as program:
        page = Page(browser, f"http://{HOST}:{program.port}/tabs")
        live = each.format("room?.live ?? false")
        page.until(live, [True] * PAGES)
        program.push(1, 2)
        page.until(each.format("seen"), [[1, 2]] * PAGES)
        browser.execute_script("for (const page of tabs) page.attempts.length = 0")
    page.until(each.format("hub.state === 'open'"), [False] * PAGES)
    with running(program.port, [*program.pushed, 3]) as again:
        page.until(live, [True] * PAGES)
        again.push(4)
        page.until(each.format("seen"), [[1, 2, 3, 4]] * PAGES)
        assert page.value(each.format("log.filter(line => line === 'gap').length")) == [1] * PAGES
        # The last attempt of each page reached the new server: they are spread over time.
        last = page.value(each.format("attempts.at(-1)"))
        assert len({time // 50 for time in last}) >= 4
        page.no_errors()
        browser.execute_script("for (const page of tabs) page.close()")
        browser.get("about:blank")


def test_page_misses_nothing_while_it_is_disconnected(browser: Chrome) -> None:
    with opened(browser) as (program, page):
        browser.execute_script("hub.disconnect()")
        program.push(3, 4)
        browser.execute_script("hub.connect()")
        page.until("seen", [1, 2, 3, 4])
        assert "gap" not in page.value("log")


def test_page_misses_nothing_while_the_browser_is_offline(browser: Chrome) -> None:
    fields = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    with opened(browser) as (program, page):
        page.devtools("Network.emulateNetworkConditions", offline=True, **fields)
        page.until("hub.state", "waiting")
        assert page.value("hub.reason") == "offline"
        program.push(3, 4)
        assert page.value("seen") == [1, 2]
        page.devtools("Network.emulateNetworkConditions", offline=False, **fields)
        page.until("seen", [1, 2, 3, 4])
        assert "gap" not in page.value("log")


def test_page_misses_nothing_in_the_back_forward_cache(browser: Chrome) -> None:
    with opened(browser) as (program, page):
        browser.execute_script("addEventListener('pageshow', event => window.from = event)")
        browser.get(f"http://{HOST}:{program.port}/other")
        program.push(3, 4)
        browser.back()
        page.until("window.from?.persisted ?? null", True)
        page.until("seen", [1, 2, 3, 4])
        assert "gap" not in page.value("log")


def test_page_misses_nothing_while_it_is_frozen(browser: Chrome) -> None:
    with opened(browser) as (program, page):
        page.devtools("Page.setWebLifecycleState", state="frozen")
        program.push(3, 4)
        page.devtools("Page.setWebLifecycleState", state="active")
        page.look_away()  # otherwise the page stays hidden, as Chromium does it for the tools
        page.until("seen", [1, 2, 3, 4])
        assert "gap" not in page.value("log")


def test_page_that_wakes_notices_a_server_that_does_not_answer(browser: Chrome) -> None:
    """A fake clock shows that it takes four seconds: ``wake_after_sleep…`` of the node tests."""
    with opened(browser) as (program, page):
        program.process.send_signal(signal.SIGSTOP)
        page.look_away()
        page.until("reasons.includes('the line is dead')", True)
        program.process.send_signal(signal.SIGCONT)
        program.push(3, 4)
        page.until("seen", [1, 2, 3, 4])
        assert "gap" not in page.value("log")


def shown(selector: str) -> str:
    found = f"document.querySelector({selector!r})"
    return f"{found}.value ?? {found}.textContent"


def page_of(url: str) -> str:
    return url.replace("ws:", "http:").removesuffix("ws")


def test_tutorial_shows_the_line_asks_and_shares_a_room(browser: Chrome) -> None:
    with running_program("page-line") as [url]:
        page = Page(browser, page_of(url))
        page.until(shown("#line"), "open ")
    page.until(f"({shown('#line')}).split(' ')[0]", "waiting")
    with running_program("page-ask") as [url]:
        page = Page(browser, page_of(url))
        page.until(shown("#line"), "open ")
        browser.execute_script("document.querySelector('button').click()")
        page.until(f"Number({shown('output')}) in [0, 1, 2, 3, 4, 5, 6]", True)
        browser.execute_script("document.querySelector('input').value = 1")
        browser.execute_script("document.querySelector('button').click()")
        page.until(shown("output"), "Refused: a die has 2 to 100 sides")
    with running_program("page-room") as [url]:
        page = Page(browser, page_of(url))
        page.until(shown("#line"), "open ")
        browser.execute_script("document.querySelector('form input').value = 'hello'")
        browser.execute_script("document.querySelector('form').requestSubmit()")
        page.until(shown("ul"), "hello")
        page = Page(browser, page_of(url))
        page.until(shown("ul"), "hello")  # the replay
        page.no_errors()
    browser.get("about:blank")


SESSION_PAGE = """<!doctype html><link rel="icon" href="data:,"><script type="module">
import { connect } from "/hubthread.js"
window.seen = []
window.hub = connect("/ws", { session: "tab" })
hub.on("said", ({ n }) => seen.push(n))
</script>"""


def test_page_with_a_session_is_the_same_client_after_a_loss_and_a_reload(
    browser: Chrome,
) -> None:
    """Each message comes once, to the page of the moment."""
    setting = HubSetting[Any, Any](dict, sessions=Sessions())
    pages = {"/": lambda request: Response.html(SESSION_PAGE)}
    with Hub(setting) as hub:
        server = hub.serve(path="/ws", client="/hubthread.js", pages=pages)
        browser.get(f"http://127.0.0.1:{server.address[1]}/")
        wait = WebDriverWait(browser, 60)

        def seen(*numbers: int) -> None:
            wait.until(lambda _: len(browser.execute_script("return seen")) >= len(numbers))
            assert browser.execute_script("return seen") == list(numbers)

        wait.until(lambda _: hub.clients())
        [ctx] = hub.clients()
        ctx.write_json({"type": "said", "n": 1})
        ctx.ws_conn.cut("lost")  # type: ignore[attr-defined]
        ctx.write_json({"type": "said", "n": 2})
        seen(1, 2)
        browser.refresh()
        wait.until(lambda _: browser.execute_script("return window.hub?.state") == "open")
        ctx.write_json({"type": "said", "n": 3})
        seen(3)
        assert browser.execute_script("return hub.id") == ctx.connection_id
        assert hub.clients() == [ctx]
