"""``hubthread connect``: a client in a terminal, to send messages by hand and see the answers.

Layer: top.  Threads: the main thread reads the lines of the user; the link's thread prints the
messages that arrive.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from hubthread.client import Link, LinkOption, Room
from hubthread.concurrency.deadline import wall_time
from hubthread.errors import HubThreadError

__all__ = ["HELP", "Terminal", "clean", "run"]

HELP = """\
say {"text": "hi"}       send a message: its type, and its other fields as JSON
? price {"of": "tea"}    send a request, and wait for the answer
@lobby say {"text": 1}   send a message with the field room
{"type": "say"}          send a line of JSON as it is
/join ROOM  /leave ROOM  /members ROOM  /state  /help  /quit"""

PROMPT = "> "
REPLAY = 20

AGAIN = 0.2
"""Seconds until the main thread is interrupted once more."""

_GREY, _BOLD, _GREEN, _RED, _CYAN = "90", "1", "32", "31", "36"


class Terminal:
    """The lines of one user, and the messages of one link.

    :param out: gets the output.
    :param colours: True to print in colours.
    :param buffer: returns the text that the user has typed so far; ``None`` without a user.
    """

    def __init__(
        self, link: Link, out: TextIO, *, colours: bool, buffer: Callable[[], str] | None = None
    ) -> None:
        self._link = link
        self._out = out
        self._colours = colours
        self._buffer = buffer
        self._lock = threading.Lock()  # guards the output
        self._rooms: dict[str, Room] = {}
        self.typing = False
        """True while the user types a line."""
        self.ended = threading.Event()
        """Set when the link has ended."""
        self.on_ended: Callable[[], object] = lambda: None
        """Called when the link has ended, on its thread."""
        link.on("state", self._on_state)
        link.on("*", lambda message: self._message("", message))
        if link._option.plain:
            link.on("message", lambda data: self._print(clean(data), _GREEN))

    def join(self, name: str) -> None:
        """Join a room, and print its messages."""
        if name in self._rooms:
            return
        room = self._rooms[name] = self._link.room(name, replay=REPLAY)
        label = f"[{clean(name)}] "
        room.on("join", lambda recovered, count: self._print(f"{label}joined", _GREY))
        room.on("gap", lambda why: self._print(f"{label}missed messages: {clean(why)}", _RED))
        room.on("members", lambda members: self._members(label, room))
        room.on("refused", lambda error: self._print(f"{label}{clean(error)}", _RED))
        room.on("*", lambda message: self._message(label, message))

    def line(self, text: str) -> bool:
        """Run a line of the user; return False if it ends the program."""
        text = text.strip()
        try:
            if text == "/quit":
                return False
            if text:
                self._do(text)
        except (HubThreadError, ValueError) as error:
            self._print(clean(error), _RED)
        return True

    def _do(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        rest = rest.strip()
        if self._link._option.plain and not word.startswith("/"):
            self._told(self._link.raw.send(text))
        elif word.startswith("/"):
            self._command(word, rest)
        elif word == "?":
            header, fields = _message(rest)
            answer = self._link.request(header, fields)
            self._message("", {name: answer[name] for name in answer if name != "reply"})
        elif word.startswith("@"):
            header, fields = _message(rest)
            self._told(self._link.send(header, {**fields, "room": word[1:]}))
        elif word.startswith("{"):
            json.loads(text)  # raises
            self._told(self._link.raw.send(text))
        else:
            header, fields = _message(text)
            self._told(self._link.send(header, fields))

    def _command(self, word: str, name: str) -> None:
        room = self._rooms.get(name)
        if word == "/help":
            self._print(HELP, _GREY)
        elif word == "/state":
            self._on_state(self._link.state, self._link.reason)
        elif word == "/join" and name:
            self.join(name)
        elif word == "/leave" and room is not None:
            del self._rooms[name]
            room.leave()
        elif word == "/members" and room is not None:
            self._members(f"[{clean(name)}] ", room)
        else:
            raise ValueError("expected /join ROOM, /leave ROOM, /members ROOM, /state or /quit")

    def _told(self, fate: str) -> None:
        if fate != "sent":
            self._print(f"({fate})", _GREY)

    def _on_state(self, state: str, reason: str) -> None:
        if state == "idle":  # the user has ended the program
            return
        wait = self._link.retry_at
        text = f"{state}: {clean(reason)}" if reason else state
        if wait is not None:
            text += f" (/quit ends; trying again in {max(0.0, wait - wall_time()):.1f} s)"
        self._print(f"* {text}", _RED if state in ("ended", "waiting") else _GREY)
        if state == "ended":
            self.ended.set()
            self.on_ended()

    def _members(self, label: str, room: Room) -> None:
        names = ", ".join(clean(name) for name in sorted(room.members))
        self._print(f"{label}members: {names or room.present}", _GREY)

    def _message(self, label: str, message: Any) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        if isinstance(kind, (str, int)):
            fields = {name: value for name, value in message.items() if name != "type"}
            body = _json(fields) if fields else ""
            text = f"{self._paint(clean(kind), _BOLD)} {body}".rstrip()
        else:
            text = _json(message)
        self._print(self._paint(label, _CYAN) + text)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and text else text

    def _print(self, text: str, colour: str | None = None) -> None:
        if colour is not None:
            text = self._paint(text, colour)
        with self._lock:
            if self._buffer is None or not self.typing:
                self._out.write(text + "\n")
            else:  # print above the line that the user types, and show that line again
                self._out.write(f"\r\x1b[K{text}\n{PROMPT}{self._buffer()}")
            self._out.flush()


def run(url: str, option: LinkOption, rooms: list[str]) -> int:
    """Connect, and read lines until the end; return the exit status."""
    link = Link(url, option)
    types = sys.stdin.isatty() and sys.stdout.isatty()
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    terminal = Terminal(
        link, sys.stdout, colours=colours, buffer=_line_buffer() if types else None
    )
    for name in rooms:
        terminal.join(name)
    interrupt = _Interrupt()
    terminal.on_ended = interrupt.send
    with link, contextlib.suppress(KeyboardInterrupt, EOFError), interrupt:
        link.connect()
        if not types:
            link.wait_open()
        goes_on = True
        while goes_on:
            terminal.typing = types
            line = input(PROMPT if types else "")
            terminal.typing = False
            goes_on = terminal.line(line)
    if types:
        sys.stdout.write("\n")
    return 1 if terminal.ended.is_set() else 0


class _Interrupt:
    """One ``KeyboardInterrupt`` for the main thread, from Ctrl-C or from another thread.

    A context manager of the main thread.  After the interrupt, and after its end, SIGINT does
    nothing more.
    """

    def __init__(self) -> None:
        self._done = False
        self._left = threading.Event()

    def __enter__(self) -> None:
        signal.signal(signal.SIGINT, self._raise)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._done = True
        # Ignored, because Python removes its handlers when it ends, but keeps ignoring.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._left.set()
        # After two SIGINT at once ``input`` raises a SystemError, caused by the interrupt.
        return isinstance(error, SystemError) and isinstance(error.__cause__, KeyboardInterrupt)

    def _raise(self, *signal_and_frame: object) -> None:
        if not self._done:
            self._done = True
            raise KeyboardInterrupt

    def send(self) -> None:
        """Interrupt the main thread, and wait until it has noticed.  Any other thread."""
        while not self._done:
            os.kill(os.getpid(), signal.SIGINT)
            # Python loses a signal that comes just before the read begins to wait.
            self._left.wait(AGAIN)


def _line_buffer() -> Callable[[], str] | None:
    """Return a function that returns the text typed so far.  It also makes arrow keys work."""
    try:
        import readline
    except ImportError:  # Windows: the prompt is printed again without the typed text
        return lambda: ""
    return readline.get_line_buffer


def _message(text: str) -> tuple[str | int, dict[str, Any]]:
    """Return the type and the fields of a message."""
    header, _, rest = text.partition(" ")
    if not header:
        raise ValueError('expected a type, and perhaps fields: say {"text": "hi"}')
    try:
        fields = json.loads(rest) if rest.strip() else {}
    except ValueError as error:
        raise ValueError(f"the fields are not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError('expected the fields as an object, such as {"text": "hi"}')
    return int(header) if header.isdecimal() else header, fields


def _json(value: object) -> str:
    if isinstance(value, bytes):
        return repr(value)
    return clean(json.dumps(value, ensure_ascii=False))


def clean(value: object) -> str:
    """Return the text of a value, with its control characters escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in str(value)
    )
