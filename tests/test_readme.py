"""README.rst keeps its word: its program serves browsers, and its other blocks run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

import hubthread

README = Path(__file__).parents[1] / "README.rst"

_BLOCK = re.compile(r"^\.\. code-block:: python\n((?:   :.*\n)*)\n((?:   .*\n|\n)+)", re.MULTILINE)

# Runs the program as pasted, on a free port, and tells where it is when it begins to wait.
_RUNNER = """
import sys
from hubthread import Hub
join = Hub.join
Hub.join = lambda hub: print(hub.servers()[0].http_url, flush=True) or join(hub)
exec(sys.argv[1].replace("port=8000", "port=0"))
"""


def blocks() -> tuple[str, list[str]]:
    """The program, and the other Python blocks in their order."""
    found = _BLOCK.findall(README.read_text(encoding="utf-8"))
    programs = [textwrap.dedent(code) for options, code in found if ":name: program" in options]
    assert len(programs) == 1
    return programs[0], [textwrap.dedent(code) for options, code in found if not options]


def test_the_program_has_about_twenty_lines() -> None:
    """It is short enough to be pasted and read."""
    program, _ = blocks()
    assert len([line for line in program.splitlines() if line.strip()]) <= 22


def test_the_program_serves_a_page_and_two_clients() -> None:
    """Pasted into a file it serves the page, and what one client says reaches the other."""
    program, _ = blocks()
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            with urllib.request.urlopen(url, timeout=10) as page:
                assert b"new WebSocket" in page.read()
            with connect(url.replace("http", "ws", 1)) as ada:
                assert "one of 1" in str(ada.recv(10))
                with connect(url.replace("http", "ws", 1)) as bob:
                    assert "one of 2" in str(bob.recv(10))
                    bob.send("hello")
                    assert str(ada.recv(10)).endswith(": hello")
                    assert str(bob.recv(10)).endswith(": hello")
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert "hubthread" not in errors.decode().splitlines()[-1]  # KeyboardInterrupt, not a bug


def test_the_other_blocks_run_one_after_another() -> None:
    """What the sections show can be run from the first to the last."""
    _, others = blocks()
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
    assert names["hub"].statistics().state == "closed"


def test_every_name_in_its_tables_exists() -> None:
    """What the port table calls ``hub.x`` or ``ctx.x`` is an attribute of the class."""
    owners = {"hub": hubthread.Hub, "ctx": hubthread.Client}
    named = re.findall(r"``(hub|ctx)\.(\w+)", README.read_text(encoding="utf-8"))
    assert len(named) > 20
    instance_attributes = {"context", "logger", "hub", "meta", "payload", "ws_conn"}
    for owner, name in named:
        assert hasattr(owners[owner], name) or name in instance_attributes, f"{owner}.{name}"
