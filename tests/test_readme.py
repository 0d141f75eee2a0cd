"""README.rst keeps its word: its program serves browsers, and its other blocks run."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

import hubthread
from hubthread.testing import VirtualHub

README = Path(__file__).parents[1] / "README.rst"

_BLOCK = re.compile(r"^\.\. code-block:: python\n((?:   :.*\n)*)\n((?:   .*\n|\n)+)", re.MULTILINE)

# Runs the program as pasted, on a free port, and tells where it is when it begins to wait.
_RUNNER = """
import sys
from hubthread import Hub
join = Hub.join
Hub.join = lambda hub: print(*[each.url for each in hub.servers()], flush=True) or join(hub)
exec(sys.argv[1].replace("port=8000", "port=0").replace("9000", "0"))
"""


def blocks() -> list[tuple[str, str]]:
    """The name (or ``""``) and the code of each Python block."""
    found = _BLOCK.findall(README.read_text(encoding="utf-8"))
    return [
        (options.strip().removeprefix(":name: "), textwrap.dedent(code)) for options, code in found
    ]


def program(name: str) -> str:
    """The block of that name."""
    (code,) = [code for its_name, code in blocks() if its_name == name]
    return code


@contextlib.contextmanager
def running(name: str) -> Iterator[str]:
    """Paste a program into a file and run it until Ctrl-C; where its WebSocket is."""
    with running_all(name) as urls:
        yield urls[0]


@contextlib.contextmanager
def running_all(name: str) -> Iterator[list[str]]:
    """The same; where it listens, its page first."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER, program(name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            urls = process.stdout.readline().decode().split()
            with urllib.request.urlopen(urls[0].replace("ws", "http", 1), timeout=10) as page:
                assert b"new WebSocket" in page.read()
            yield urls
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert "hubthread" not in errors.decode().splitlines()[-1]  # KeyboardInterrupt, not a bug


@pytest.mark.parametrize(("name", "most"), [("program", 22), ("game", 42)])
def test_a_program_is_short_enough_to_be_pasted_and_read(name: str, most: int) -> None:
    """Twenty lines for a chat, forty for a game."""
    assert len([line for line in program(name).splitlines() if line.strip()]) <= most


def test_the_program_serves_a_page_and_two_clients() -> None:
    """What one client says reaches the other."""
    with running("program") as url, connect(url) as ada:
        assert "one of 1" in str(ada.recv(10))
        with connect(url) as bob:
            assert "one of 2" in str(bob.recv(10))
            bob.send("hello")
            assert str(ada.recv(10)).endswith(": hello")
            assert str(bob.recv(10)).endswith(": hello")


def test_the_game_moves_its_players() -> None:
    """Each goes where it aims, and all see it."""
    with running("game") as url, connect(url) as ada, connect(url) as bob:
        ada.send("600 0")
        while True:
            players = sorted(json.loads(bob.recv(10)))  # either may have been the first
            if len(players) == 2 and players[1][0] > 590:
                break
        assert players[1][1] < 10
        assert players[0] == [300, 200]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_devices_share_a_room_with_a_browser() -> None:
    """A browser, nothing but bash over TCP, and bash again over UDP; nc, where there is one."""
    with running_all("devices") as urls, connect(urls[0]) as browser:
        tcp, udp = (int(url.rpartition(":")[2]) for url in urls[1:])
        # As in the README, with the port that is free here.
        answer = shell(f'exec 3<>/dev/tcp/127.0.0.1/{tcp}; echo "on" >&3; head -n 1 <&3')
        assert answer == "2: on\n"
        assert browser.recv(10) == "2: on\n"
        shell(f'echo "21.5 degrees" >/dev/udp/127.0.0.1/{udp}')
        assert browser.recv(10) == "3: 21.5 degrees\n"
        if "-N\t" in shell("nc -h 2>&1 || true"):  # OpenBSD's; others differ here
            answer = shell(f"echo hello | timeout 5 nc -N 127.0.0.1 {tcp}")
            assert answer == "4: hello\n"


def shell(line: str) -> str:
    """What a line prints, in a plain shell."""
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def test_a_room_is_tested_as_shown() -> None:
    """The test in the section on testing passes, and would not if the room were wrong."""
    code = program("testing")
    names: dict[str, Any] = {}
    exec(compile(code, "README block on testing", "exec"), names)
    names["test_the_rocket"]()
    exec(
        compile(code.replace('else "lift-off"', 'else "crash"'), "the same, changed", "exec"),
        names,
    )
    with pytest.raises(AssertionError):
        names["test_the_rocket"]()


def test_the_other_blocks_run_one_after_another() -> None:
    """What the sections show can be run from the first to the last."""
    others = [code for name, code in blocks() if not name]
    assert len(others) >= 5
    names: dict[str, Any] = {}
    for number, code in enumerate(others):
        exec(compile(code, f"README block {number}", "exec"), names)
        if "on_move" in names and "answered" not in names:
            with connect(names["server"].url) as client:
                client.send('{"type": "move", "x": 3, "y": 4}')
                assert client.recv(10) == '{"type":"move","ok":true}'
                client.send('{"type": "where"}')
                assert client.recv(10) == '{"type":"where","x":3,"y":4}'
            names["answered"] = True
    answer = names["asking"].dispatch(None, None, '{"type": "price", "id": 7}')
    assert answer == '{"type":"price","reply":7,"price":42}'
    assert names["hub"].statistics().state == "closed"


def test_every_method_that_it_names_exists() -> None:
    """What is called ``hub.x`` or ``ctx.x`` is an attribute of the class."""
    owners = {"hub": VirtualHub, "ctx": hubthread.Client}
    named = re.findall(r"``(hub|ctx)\.(\w+)", README.read_text(encoding="utf-8"))
    assert len(named) > 20
    instance_attributes = {"clock", "context", "logger", "hub", "meta", "payload", "ws_conn"}
    for owner, name in named:
        assert hasattr(owners[owner], name) or name in instance_attributes, f"{owner}.{name}"
