"""The process of ``nodes.py``, run by its path: it imports nothing of the tests, and starts soon.

It reads lines of JSON, ``["push", text, …]`` and ``["came", user]``, and prints what it is told.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hubthread.backplane.interfaces import BackplaneState, Message
from hubthread.backplane.redis import backplane, keeper, presence, wire
from hubthread.history import History, Position
from hubthread.protocol.frames import Frame

BEAT = 0.1
HOLD = 60.0
"""Seconds without the server in which pushes are accepted."""

_saying = threading.Lock()


def _say(*words: object) -> None:
    with _saying:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


class _Host:
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        self.threads.append(threading.Thread(target=target, name=what))
        self.threads[-1].start()

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        _say("state", state.value)

    def log_bug(self, error: Exception, part: str) -> None:
        raise error

    def describe(self) -> dict[str, Any]:
        return {}


class _Teller:
    """A receiver that prints all that it is told."""

    has_presence = True

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        _say("event", position.epoch, position.offset, None)

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        for place, message in enumerate(messages):
            _say("event", first.epoch, first.offset + place, message.frame.payload)

    def refused(self, number: int) -> None:
        raise AssertionError("nobody owns the room here")

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        _say("event", position.epoch, position.offset, None)

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        pass

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        for key in came:
            _say("change", f"+{key}")
        for key in went:
            _say("change", f"-{key}")

    def counted(self, count: int) -> None:
        pass


def main(url: str, prefix: str, patience: str) -> None:
    """Be a node until standard input ends."""
    backplane.BEAT = BEAT
    seconds = float(patience)
    keeper.LATE = seconds / BEAT
    presence.LEASE_SECONDS = wire.REPLY = wire.CONNECT = seconds
    ask: Any = wire.Wire.ask
    ask.__kwdefaults__["timeout"] = seconds
    link, host = backplane.RedisBackplane(url, prefix=prefix, hold=HOLD).open("node"), _Host()
    link.attach("room", History(), _Teller())
    link.start(host)
    for line in sys.stdin:
        kind, *texts = json.loads(line)
        if kind == "push":
            for text in texts:
                link.publish("room", Message(Frame(text, 1)))
        else:
            link.present("room", dict.fromkeys(texts, "1"), ())
    link.close(1.0)
    for thread in host.threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
