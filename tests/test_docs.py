"""The programs on the pages of the documentation run, and do what the pages say."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

import hubthread
from hubthread import Hub
from hubthread.bots import Bots, Plan
from hubthread.client import Link
from hubthread.testing import VirtualHub
from tests.integrations.running import serving
from tests.pages import PAGES, blocks, execute, page_name, program
from tests.support import TIMEOUT

RUN_ELSEWHERE = {
    "django", "flask", "publisher", "readme-flask", "page-ask", "page-line", "page-room",
}  # fmt: skip
"""Programs that ``tests/integrations``, ``tests/static`` and ``tests/test_publisher.py`` run."""

WITH_TESTS = [
    *("flask-test", "sessions", "sessions-elsewhere", "testing", "testing-cluster"),
    "testing-handlers",
]
"""Programs that are tests themselves."""

RUN_BELOW = {
    "arena", "arena-bots", "chat", "chat-echo", "chat-typed", "clock", "devices", "game",
    "own-port", "program", "serve", "wsgi", *WITH_TESTS,
}  # fmt: skip

# Runs the program as pasted, on a free port, and prints its addresses when it begins to wait.
_RUNNER = """
import sys
from hubthread import Hub
join = Hub.join
Hub.join = lambda hub: print(*[each.url for each in hub.servers()], flush=True) or join(hub)
exec(sys.argv[1].replace("port=8000", "port=0").replace("9000", "0"))
"""

WITH_BLOCKS = [
    page for page in PAGES if any(not b.name and b.language == "python" for b in blocks(page))
]


@contextlib.contextmanager
def running(name: str) -> Iterator[list[str]]:
    """Run a program until Ctrl-C; give the addresses it listens at, its page first."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER, program(name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            urls = process.stdout.readline().decode().split()
            with urllib.request.urlopen(
                f"http://{urlsplit(urls[0]).netloc}/", timeout=TIMEOUT
            ) as page:
                assert page.status == 200
            yield urls
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=TIMEOUT)
    assert "hubthread" not in errors.decode().splitlines()[-1]  # KeyboardInterrupt, not a bug


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=page_name)
def test_page_unnamed_blocks_run_one_after_another(page: Path) -> None:
    """The blocks of one page share one namespace, as for a reader who pastes them in turn."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python" and not block.name:
            execute("\n" * block.line + block.code, page_name(page), names)
    for value in names.values():
        if isinstance(value, Hub):
            value.close(5)


def test_pages_have_every_python_block_in_a_test() -> None:
    """Each named program has a test of its own, and no block escapes the reader of the pages."""
    named = [block.name for page in PAGES for block in blocks(page) if block.name]
    assert sorted(named) == sorted(RUN_BELOW | RUN_ELSEWHERE)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = re.findall(
            r"^[ >-]*\.\. +(code-block:: *py|code:: *py|test\w+::)", text, re.MULTILINE
        )
        found = [block for block in blocks(page) if block.language == "python"]
        assert len(found) == len(shown), page_name(page)


@pytest.mark.parametrize(("name", "most"), [("program", 22), ("game", 42), ("readme-flask", 27)])
def test_program_is_short_enough_to_be_pasted_and_read(name: str, most: int) -> None:
    assert len([line for line in program(name).splitlines() if line.strip()]) <= most


def test_pages_use_the_client_that_connects_again() -> None:
    """Whoever pastes a page has one that survives a restart, and spreads the attempts."""
    found = [(page_name(page), block.code) for page in PAGES for block in blocks(page)]
    assert len([code for _, code in found if "/hubthread.js" in code and "import" in code]) >= 8
    for name, code in found:
        if "= new WebSocket(" in code:  # the one page that tells how to do without
            assert name == "hubthread/docs/topics/closing.rst"
            assert "ws.onclose = () => setTimeout(connect, 1000 + 4000 * Math.random())" in code


@pytest.mark.parametrize("name", ["program", "chat"])
def test_chat_program_carries_each_message_to_all_clients(name: str) -> None:
    with running(name) as urls, connect(urls[0]) as ada:
        assert "one of 1" in str(ada.recv(TIMEOUT))
        with connect(urls[0]) as bob:
            assert "one of 2" in str(bob.recv(TIMEOUT))
            bob.send("hello")
            assert str(ada.recv(TIMEOUT)).endswith(": hello")
            assert str(bob.recv(TIMEOUT)).endswith(": hello")


def test_game_program_moves_each_player_to_its_aim() -> None:
    with running("game") as urls, connect(urls[0]) as ada, connect(urls[0]) as bob:
        ada.send("600 0")
        while True:
            players = sorted(json.loads(bob.recv(TIMEOUT)))  # either may have been the first
            if len(players) == 2 and players[1][0] > 590:
                break
        assert players[1][1] < 10
        assert players[0] == [300, 200]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_arena_program_moves_its_bots() -> None:
    bots: dict[str, Any] = {}
    exec(program("arena-bots"), bots)
    with running("arena") as urls, Link(urls[0]) as link:
        link.connect()
        room = link.room("arena")
        came = threading.Event()
        room.on("state", lambda state: came.set() if _has_moved(state) else None)
        out = io.StringIO()
        run = Bots(Plan(urls[0], bots["bot"], 3, rate=1000, seconds=TIMEOUT), out)
        room.on("state", lambda state: run.stop() if came.is_set() else None)
        run.run()
        assert came.is_set()
        assert "bots failed  none" in out.getvalue()


def _has_moved(state: dict[str, Any]) -> bool:
    players = state["players"].values()
    return len(players) == 4 and sum(each != {"x": 300, "y": 200} for each in players) >= 2


def test_devices_program_joins_browser_tcp_and_udp() -> None:
    """A browser, plain bash over TCP and over UDP; and nc, where it is installed."""
    with running("devices") as urls, connect(urls[0]) as browser:
        tcp, udp = (int(url.rpartition(":")[2]) for url in urls[1:])
        browser.send("hello")
        assert browser.recv(TIMEOUT) == "1: hello\n"  # it is in the room
        # As on the page, with the port that is free here.
        answer = shell(f'exec 3<>/dev/tcp/127.0.0.1/{tcp}; echo "on" >&3; head -n 1 <&3')
        assert answer == "2: on\n"
        assert browser.recv(TIMEOUT) == "2: on\n"
        shell(f'echo "21.5 degrees" >/dev/udp/127.0.0.1/{udp}')
        assert browser.recv(TIMEOUT) == "3: 21.5 degrees\n"
        if "-N\t" in shell("nc -h 2>&1 || true"):  # OpenBSD's; others differ here
            answer = shell(f"echo hello | timeout 60 nc -N 127.0.0.1 {tcp}")
            assert answer == "4: hello\n"


def shell(line: str) -> str:
    """Return what a line prints in a plain shell."""
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return done.stdout


def test_chat_echo_program_answers() -> None:
    with running("chat-echo") as urls, connect(urls[0]) as ada:
        ada.send("hello")
        assert ada.recv(TIMEOUT) == "you said: hello"


def test_chat_typed_program_shows_newcomers_the_history() -> None:
    with running("chat-typed") as urls, connect(urls[0]) as ada:
        ada.send('{"type": "join", "name": "ada"}')
        received = [json.loads(ada.recv(TIMEOUT)) for _ in range(2)]
        assert received == [{"type": "history", "lines": []}, {"type": "join", "members": 1}]
        ada.send('{"type": "say", "text": "hello"}')
        assert json.loads(ada.recv(TIMEOUT)) == {"type": "said", "name": "ada", "text": "hello"}
        with connect(urls[0]) as bob:
            bob.send('{"type": "join", "name": "bob"}')
            (line,) = json.loads(bob.recv(TIMEOUT))["lines"]
            assert line == {"name": "ada", "text": "hello"}


def test_clock_program_counts_its_ticks() -> None:
    with running("clock") as urls, connect(urls[0]) as ada:
        first, second = (
            re.fullmatch(r"tick (\d+), 1 watch", str(ada.recv(TIMEOUT))) for _ in range(2)
        )
        assert first
        assert second
        assert int(second[1]) == int(first[1]) + 1


def test_serve_program_greets_and_tells_its_health() -> None:
    with running("serve") as urls, connect(urls[0]) as ada:
        assert urls[0].endswith("/ws")
        assert ada.recv(TIMEOUT) == "hello"
        health = f"http://{urlsplit(urls[0]).netloc}/health"
        with urllib.request.urlopen(health, timeout=TIMEOUT) as answer:
            assert json.load(answer)["clients"] == 1


@pytest.mark.parametrize("name", ["wsgi", "own-port"])
def test_wsgi_program_pushes_to_its_clients(name: str) -> None:
    names: dict[str, Any] = {}
    execute(program(name).replace("port=8000", "port=0"), name, names)
    hub: Hub[Any, Any] = names["hub"]
    try:
        with serving(names["app"]) as port:
            servers = hub.servers()
            url = servers[0].url if servers else f"ws://127.0.0.1:{port}/ws"
            with connect(url) as ada:
                while not names["news"].members_num:
                    hub.exec_sync(lambda dhub: None)
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=TIMEOUT) as page:
                    assert page.read() == b"hello\n"
                assert ada.recv(TIMEOUT) == "somebody looked at a page"
    finally:
        hub.close(5)


def run_tests_of(name: str, code: str) -> None:
    """Run a program that consists of tests, as pytest would."""
    names: dict[str, Any] = {"__name__": name}  # Flask looks for the module of its application
    execute(code, name, names)
    tests = [value for key, value in names.items() if key.startswith("test_")]
    assert tests
    for test in tests:
        test()


@pytest.mark.parametrize("name", WITH_TESTS)
def test_tests_of_the_pages_pass(name: str) -> None:
    run_tests_of(name, program(name))


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("testing", 'else "lift-off"', 'else "crash"'),
        ("testing-handlers", 'guess.word == "otter"', 'guess.word == "beaver"'),
        ("flask-test", 'ctx.write("hello")', 'ctx.write("goodbye")'),
    ],
)
def test_tests_of_the_pages_fail_for_a_wrong_program(name: str, right: str, wrong: str) -> None:
    code = program(name)
    assert code.count(right) == 1
    with pytest.raises(AssertionError):
        run_tests_of(name, code.replace(right, wrong))


def test_pages_name_only_methods_that_exist() -> None:
    """``hub.x`` and ``ctx.x`` in the text are attributes of the classes."""
    owners = {"hub": VirtualHub, "ctx": hubthread.Client}
    named = {
        (page_name(page), owner, name)
        for page in PAGES
        for owner, name in re.findall(r"``(hub|ctx)\.(\w+)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    instance_attributes = {"clock", "context", "logger", "hub", "meta", "payload", "ws_conn"}
    for page, owner, name in named:
        known = hasattr(owners[owner], name) or name in instance_attributes
        assert known, f"{page}: {owner}.{name}"
