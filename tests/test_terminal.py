"""``hubthread connect``: the lines of the user, and the lines that are printed."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    History,
    HotlineOption,
    HubSetting,
    JsonHeader,
    MatcherMap,
    cli,
)
from hubthread.terminal import Terminal
from hubthread.testing import VirtualHub
from tests.client.servers import Peer, listening
from tests.client.world import World
from tests.support import TIMEOUT

pty = pytest.importorskip("pty")


def setting() -> HubSetting[Any, Any]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id", error_field="error"))
    matcher.add("price", lambda ctx, meta, req: {"cents": 250})

    def say(ctx: Any, meta: Any, req: Any) -> None:
        ctx.write_json({"type": "said", **req})

    def seven(ctx: Any, meta: Any, req: Any) -> None:
        ctx.write_json([req])

    matcher.add("say", say)
    matcher.add(7, seven)
    return HubSetting(dict, receive_matcher=matcher, may_join=lambda ctx, meta, name: True)


class Screen:
    """A terminal of a link to a virtual hub."""

    def __init__(self, hub: VirtualHub[Any, Any], **options: Any) -> None:
        self.hub = hub
        self.out = io.StringIO()
        self.link = hub.link(**options)
        self.terminal = Terminal(self.link, self.out, colours=False)
        self.link.connect()
        self.hub.settle()

    def types(self, line: str) -> list[str]:
        """Type a line; return what is printed then."""
        self.printed()
        assert self.terminal.line(line)
        self.hub.settle()
        return self.printed()

    def printed(self) -> list[str]:
        text = self.out.getvalue()
        self.out.seek(0)
        self.out.truncate()
        return text.splitlines()


@pytest.fixture
def hub() -> Iterator[VirtualHub[Any, Any]]:
    with VirtualHub(setting()) as made:
        made.room("lobby", HotlineOption(shared=True, history=History()))
        yield made


@pytest.fixture
def screen(hub: VirtualHub[Any, Any]) -> Iterator[Screen]:
    made = Screen(hub)
    with made.link:
        yield made


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("", []),
        ('say {"text": "hi"}', ['said {"text": "hi"}']),
        ("say", ["said"]),
        ("7", []),
        ('{"type": "say", "text": "raw"}', ['said {"text": "raw"}']),
        ('@lobby say {"text": "hi"}', ['said {"text": "hi", "room": "lobby"}']),
        ('? price {"of": "tea"}', ['price {"cents": 250}']),
        ("? tin", ["no handler for 'tin'"]),
        ("?", ['expected a type, and perhaps fields: say {"text": "hi"}']),
        ("say [1]", ['expected the fields as an object, such as {"text": "hi"}']),
        ("/state", ["* open"]),
    ],
)
def test_line_is_done_and_its_effect_printed(
    screen: Screen, line: str, printed: list[str]
) -> None:
    assert screen.types(line) == printed


@pytest.mark.parametrize("line", ["say {", "{no", "/join", "/leave lobby", "/nothing", "/members"])
def test_wrong_line_says_what_is_expected(screen: Screen, line: str) -> None:
    (printed,) = screen.types(line)
    assert "expect" in printed.lower()


def test_quit_ends_and_help_helps(screen: Screen) -> None:
    assert not screen.terminal.line("/quit")
    assert len(screen.types("/help")) == 5


def test_room_shows_its_history_and_what_follows(screen: Screen) -> None:
    lobby = screen.hub.room("lobby", HotlineOption(shared=True, history=History()))
    lobby.push_json({"type": "said", "text": "old"})
    screen.hub.settle()
    assert screen.types("/join lobby") == ["[lobby] joined", '[lobby] said {"text": "old"}']
    assert screen.types("/join lobby") == []
    lobby.push_json(5)
    lobby.push(b"\xff")
    screen.hub.settle()
    assert screen.printed() == ["[lobby] 5", r"[lobby] b'\xff'"]
    assert screen.types("/members lobby") == ["[lobby] members: 0"]
    assert screen.types("/leave lobby") == []
    lobby.push_json(6)
    screen.hub.settle()
    assert screen.printed() == []
    assert screen.types("/join nowhere") == ["[nowhere] there is no such room"]


def test_message_cannot_command_the_terminal(screen: Screen) -> None:
    assert screen.types(r'say {"text": "\u001b[2J\u009b\u202e\n"}') == [
        r'said {"text": "\u001b[2J\x9b\u202e\n"}'
    ]


def test_colours_and_the_typed_line_are_kept() -> None:
    with World() as world:
        out = io.StringIO()
        terminal = Terminal(world.link, out, colours=True, buffer=lambda: "half a li")
        terminal.typing = True
        world.opened()
        world.server.receive({"type": "said", "n": 1})
        world.clock.settle()
        assert out.getvalue().endswith('\r\x1b[K\x1b[1msaid\x1b[0m {"n": 1}\n> half a li')


def test_plain_link_sends_lines_as_they_are(hub: VirtualHub[Any, Any]) -> None:
    screen = Screen(hub, plain=True)
    with screen.link:
        assert screen.types('{"type": "say"}') == ['{"type":"said"}']
        assert "not plain=True" in screen.types("/join lobby")[0]


def serve(peer: Peer) -> None:
    peer.hello()
    while (message := peer.read()) != 1000:
        if message["type"] == "bye":
            peer.close(4500, "go away")
            return
        if message["type"] == "hub:join":
            peer.send({"type": "hub:join", "reply": message["id"], "room": "lobby"})
            peer.send({"room": "lobby", "n": 1, "data": {"type": "said", "text": "old"}})
        else:
            peer.send({**message, "reply": message["id"]} if "id" in message else message)
    peer.close(1000)


def run(arguments: list[str], typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hubthread", "connect", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 2,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def test_command_with_piped_lines_sends_them() -> None:
    with listening(serve) as server:
        result = run([server.url, "--header", "X-A: 1", "--token", "t"], '? price {"x": 1}\n')
        assert (result.returncode, result.stderr) == (0, "")
        assert 'price {"id": 1, "x": 1}' in result.stdout
        assert server.came.now()[0].field("X-A") == "1"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["ftp://x"], 2, "hubthread connect: expected an address of ws"),
        (["ws://x", "--header", "none"], 2, "argument --header: expected NAME: VALUE"),
        (["ws://x", "--header", "Host: y"], 2, "Host"),
        (["ws://x", "--proxy", "socks://x"], 2, "proxy: expected an address of http"),
        (["ws://x", "--plain", "--room", "a"], 2, "argument --room: not together with --plain"),
    ],
)
def test_command_wrong_arguments_print_one_line(
    arguments: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["connect", *arguments]) == status
    errors = capsys.readouterr().err
    assert text in errors
    assert len(errors.splitlines()) == 1


CLEAR = "\x15"
"""Ctrl-U: clears the line."""


class Typist:
    """A user at a real pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - another program
            os.environ["PYTHONPATH"] = os.getcwd()
            command = [sys.executable, "-m", "hubthread", "connect", *arguments]
            os.execv(sys.executable, command)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """Read until ``text`` is on the screen."""
        deadline = time.monotonic() + TIMEOUT
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self._fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self._fd, 4096).decode()
                except OSError:
                    assert text in self.seen, self.seen

    def types(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def ends(self, last: str = "", pause: float = 0.5) -> int:
        """Wait for the end of the command, and return its status.

        :param last: typed again and again, as people do: a key that comes in the moment before
            the command waits for keys may be lost, and hold up the next until another key.
        """
        keys = itertools.cycle((last, CLEAR) if last else ("",))
        with contextlib.suppress(OSError):  # the command has ended
            while True:
                self.types(next(keys))
                while select.select([self._fd], [], [], pause)[0]:
                    data = os.read(self._fd, 4096)
                    if not data:
                        raise OSError
                    self.seen += data.decode(errors="replace")
        _, status = os.waitpid(self.pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(
    ("last", "status"), [("/quit\n", 0), ("\x04", 0), ("\x03", 0), ("bye\n", 1)]
)
def test_command_in_a_terminal_talks_and_ends(last: str, status: int) -> None:
    with listening(serve) as server:
        typist = Typist(server.url, "--room", "lobby")
        typist.wait_for('\x1b[1msaid\x1b[0m {"text": "old"}')
        typist.types('say {"text": "hi"}\n')
        typist.wait_for('\x1b[1msay\x1b[0m {"text": "hi"}')
        typist.seen = ""
        typist.types("\x1b[A\n")  # the line before
        typist.wait_for('\x1b[1msay\x1b[0m {"text": "hi"}\r\n> ')
        assert typist.ends(last) == status


def test_command_ends_well_while_ctrl_c_is_pressed_again_and_again() -> None:
    with listening(serve) as server:
        typist = Typist(server.url, "--room", "lobby")
        typist.wait_for('\x1b[1msaid\x1b[0m {"text": "old"}')
        assert typist.ends("\x03", pause=0.0) == 0, typist.seen.replace("^C", "")


def test_command_ends_with_its_server_refusing() -> None:
    def refuse(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    with listening(refuse) as server:
        typist = Typist(server.url)
        typist.wait_for("ended: the server refuses (403)")
        assert typist.ends() == 1
        result = run([server.url], "say\n")
        assert result.returncode == 1
        assert "the server refuses (403)" in result.stdout
