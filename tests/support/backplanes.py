"""Receivers and hosts of a backplane, and the rule that holds for what they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hubthread import BackplaneState
from hubthread.backplane.interfaces import Message
from hubthread.history import Position
from tests.support.waiting import TIMEOUT, Items

__all__ = ["Host", "Recorder", "assert_one_order"]


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

    def attached(self, position: Position) -> None:
        self.events.add((position, None, None))

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        for place, message in enumerate(messages):
            at = Position(first.epoch, first.offset + place)
            own = None if number is None else number + place
            self.events.add((at, str(message.frame.payload), own))

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        self.events.add((position, None, number))

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        raise AssertionError("nobody is present here")

    def counted(self, count: int) -> None:
        raise AssertionError("nobody counts here")

    def texts(self) -> list[str]:
        return [text for _, text, _ in self.events.now() if text is not None]

    def gaps(self) -> int:
        return sum(text is None for _, text, _ in self.events.now()) - 1


def assert_one_order(recorders: Iterable[Recorder]) -> None:
    """Check G14: one order for all, each message once, own numbers rise, and each hole is told."""
    places: dict[Position, str] = {}
    for recorder in recorders:
        at: Position | None = None
        last_number = 0
        texts = recorder.texts()
        assert len(set(texts)) == len(texts)
        for position, text, number in recorder.events.now():
            if text is not None:
                assert at is not None
                assert position == Position(at.epoch, at.offset + 1)
                assert places.setdefault(position, text) == text
            if number is not None:
                assert number > last_number
                last_number = number
            at = position
