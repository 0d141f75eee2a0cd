"""Receivers, clients and hosts of a backplane, and the rule for what they are told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from hubthread import BackplaneState
from hubthread.backplane.interfaces import Message
from hubthread.history import Position
from hubthread.testing import VirtualClient, VirtualHub
from tests.support.waiting import TIMEOUT, Items

__all__ = ["Event", "Host", "Member", "Page", "Recorder", "assert_one_order"]

Event = tuple[Position, str | None]
"""A push at its place; or None for the begin, or for a gap that was told, behind that place."""


class Host:
    """A hub of which there is only its backplane."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.states: Items[BackplaneState] = Items()

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        self.threads.append(threading.Thread(target=target, name=what))
        self.threads[-1].start()

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        self.states.add(state)

    def log_bug(self, error: Exception, part: str) -> None:
        raise error

    def describe(self) -> dict[str, Any]:
        return {"name": "host"}

    def join(self) -> None:
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


class Recorder:
    """A receiver that writes down all that it is told, in order."""

    has_presence = False

    def __init__(self) -> None:
        self.events: Items[tuple[Position, str | None, int | None]] = Items()
        """Positions, with the text that has arrived there, or None for the begin or a gap; and
        the own number."""
        self.refusals: Items[int] = Items()
        """The own numbers that have no place."""
        self.shows: list[tuple[list[str], int | None]] = []
        """What was shown ahead of its place, with the own number of the first."""

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        self.events.add((position, None, None))

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        for place, message in enumerate(messages):
            at = Position(first.epoch, first.offset + place)
            own = None if number is None else number + place
            self.events.add((at, str(message.frame.payload), own))

    def refused(self, number: int) -> None:
        self.refusals.add(number)

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        self.events.add((position, None, number))

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        self.shows.append(([str(message.frame.payload) for message in messages], number))

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        raise AssertionError("nobody is present here")

    def counted(self, count: int) -> None:
        raise AssertionError("nobody counts here")

    def texts(self) -> list[str]:
        return [text for _, text, _ in self.events.now() if text is not None]

    def gaps(self) -> int:
        return sum(text is None for _, text, _ in self.events.now()) - 1

    def order(self) -> list[Event]:
        """Return what was told, after a check that the own numbers rise."""
        numbers = [number for _, _, number in self.events.now() if number is not None]
        assert numbers == sorted(set(numbers))
        return [(position, text) for position, text, _ in self.events.now()]


class Page:
    """A client of ``hubthread.1`` that joins a room, and comes back with its position."""

    def __init__(self) -> None:
        self.client: VirtualClient | None = None
        self.position: Position | None = None
        self.events: list[Event] = []
        self.shown: list[str] = []
        """Pushes without a place, which a hub shows while the backplane is away."""

    def join(self, hub: VirtualHub[Any, Any], room: str) -> None:
        """Connect, and join behind the position."""
        self.client = hub.connect(headers={"Sec-WebSocket-Protocol": "hubthread.1"})
        ask: dict[str, Any] = {"type": "hub:join", "id": 1, "room": room}
        if self.position is not None:
            ask |= {"epoch": self.position.epoch, "at": self.position.offset}
        self.client.send_json(ask)
        self.look()

    def drop(self) -> None:
        """Lose the connection, after what has come was read."""
        self.look()
        if self.client is not None:
            self.client.drop()
            self.client = None

    def look(self) -> None:
        """Read what has come."""
        for text in [] if self.client is None else self.client.messages():
            message = json.loads(text)
            kind = message.get("type")
            if kind == "hub:join":
                if not message.get("recovered"):
                    self._note(Position(message["epoch"], message["at"]), None)
            elif kind == "hub:gap":
                self._note(Position(message["epoch"], message["at"]), None)
            else:
                said = message.get("text") or json.dumps(message["data"])
                if "n" in message:
                    assert self.position is not None
                    self._note(Position(self.position.epoch, message["n"]), said)
                else:
                    self.shown.append(said)

    def _note(self, position: Position, text: str | None) -> None:
        self.events.append((position, text))
        self.position = position

    def order(self) -> list[Event]:
        """Return what the client has got."""
        self.look()
        return self.events


class Member(Protocol):
    """A client, or a hub's side of a room, that remembers what it was told."""

    def order(self) -> list[Event]:
        """Return the pushes, each with its place, and the gaps, with the place behind them."""


def assert_one_order(members: Iterable[Member]) -> None:
    """Check G14: one order for all, each message once, and each hole is told.

    The check is the same for virtual time and for real processes.
    """
    places: dict[Position, str] = {}
    for member in members:
        order = member.order()
        texts = [text for _, text in order if text is not None]
        assert len(set(texts)) == len(texts)
        at: Position | None = None
        for position, text in order:
            if text is not None:
                assert at is not None
                assert position == Position(at.epoch, at.offset + 1)
                assert places.setdefault(position, text) == text
            at = position
