"""Members of a push log for tests: quick, slow, or gone."""

from __future__ import annotations

import threading

from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame, MessageType


def frame(number: int) -> Frame:
    return Frame(str(number), MessageType.TEXT)


class Peer:
    """A member that keeps its messages, and consumes them at once, later, or never."""

    subprotocol = None

    def __init__(self) -> None:
        self.written: list[str | None] = []
        """The payload of each message; None for a message that is not the room's."""
        self.sends = 0
        self.consumed = 0
        self.lags = False
        self.vanished = False
        self.caught_up = threading.Condition()

    def send_batch(self, run: FrameBatch) -> int:
        self.sends += 1
        if self.vanished:
            return 0
        self.written += [str(each.payload) for each in run.frames]
        if self.lags:
            return len(self.written)
        self.consumed = len(self.written)
        return 0

    def is_batch_consumed(self, number: int) -> bool:
        return self.vanished or number <= self.consumed

    def wait_batch_consumed(self, number: int, timeout: float | None) -> bool:
        with self.caught_up:
            return self.caught_up.wait_for(lambda: self.is_batch_consumed(number), timeout)

    def consume(self, number: int) -> None:
        with self.caught_up:
            self.consumed = max(self.consumed, number)
            self.caught_up.notify_all()

    def got(self) -> list[int]:
        return [int(each) for each in self.written if each is not None]

    def waits_for(self, push: int) -> bool:
        """Return True if this push was written to the member, and not consumed."""
        number = self.written.index(str(push)) + 1 if str(push) in self.written else 0
        return not self.vanished and number > self.consumed
