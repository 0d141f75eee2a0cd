"""The browser's client in a real Chromium, against a real hub that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import chromium

pytestmark = pytest.mark.browser

SERVER = """
import sys
from hubthread import History, HotlineOption, Hub, HubSetting, Response

hub = Hub.started(HubSetting(dict, may_join=lambda ctx, meta, name: True))
room = hub.room("room", HotlineOption(shared=True, history=History()))
page = Response.html('''<!doctype html><script type="module">
import { connect } from "/hubthread.js"
window.log = []
window.hub = connect("/ws")
window.room = hub.room("room")
hub.on("state", ({ state }) => log.push(state))
room.on("gap", ({ why }) => log.push("gap"))
room.on("join", ({ recovered, count }) => log.push(["join", recovered, count]))
room.on("*", data => log.push(data))
</script>''')
pages = {"/": lambda request: page}
server = hub.serve(port=int(sys.argv[1]), path="/ws", client="/hubthread.js", pages=pages)
print(server.address[1], flush=True)
for line in sys.stdin:
    room.push(line.strip())
    print("pushed", flush=True)
"""


class Program:
    """A server in a process of its own, which pushes what it is told to."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def push(self, *numbers: int) -> None:
        assert self.process.stdin is not None
        for number in numbers:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            assert self._line() == "pushed"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(port: int = 0) -> Iterator[Program]:
    program = Program(port)
    try:
        yield program
    finally:
        program.kill()


def test_page_misses_nothing_while_away_and_is_told_after_a_restart(tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:

        def log(until: Any) -> list[Any]:
            """Wait until the page's log ends in ``until``; return the log, and begin a new one."""

            def ends(_: object) -> Any:
                lines = json.loads(browser.execute_script("return JSON.stringify(window.log)"))
                return lines if lines and lines[-1] == until else None

            found: list[Any] = WebDriverWait(browser, 60).until(ends)
            browser.execute_script("window.log.length = 0")
            return found

        with running() as program:
            browser.get(f"http://127.0.0.1:{program.port}/")
            assert log(["join", False, 0])[-2:] == ["open", ["join", False, 0]]
            program.push(1, 2)
            assert log(2) == [1, 2]
            browser.execute_script("hub.disconnect()")
            program.push(3, 4, 5)
            browser.execute_script("hub.connect()")
            assert log(5)[-4:] == [["join", True, 3], 3, 4, 5]
        assert "waiting" in log("waiting")
        with running(program.port) as again:
            assert log(["join", False, 0])[-3:] == ["open", "gap", ["join", False, 0]]
            again.push(1)
            assert log(1) == [1]
        lines: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
        errors = [line for line in lines if "Uncaught" in line["message"]]
        assert errors == []
