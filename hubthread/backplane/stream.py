"""The recent messages of one room, by their offsets.

Layer: backplane.  Threads: the owner's lock guards a stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from hubthread.backplane.interfaces import Message
from hubthread.history import History, Position

__all__ = ["Stream"]


class _Entry(NamedTuple):
    offset: int
    message: Message


class Stream:
    """The messages of one room since ``start``, as far as ``keep`` allows.

    Each entry has its own offset, and adding one is a single step: an exception that strikes
    from outside never parts the offsets from the messages.

    :param start: the position before the first message.
    :param keep: the bounds; None keeps no message, and counts offsets all the same.
    :param now: returns the time in seconds.
    """

    def __init__(self, start: Position, keep: History | None, now: Callable[[], float]) -> None:
        self.epoch = start.epoch
        self.keep = keep
        self._now = now
        self._entries: deque[_Entry] = deque()
        self._floor = start.offset  # the offset before the oldest entry
        self._bytes = 0
        self._used = now()

    @property
    def top(self) -> int:
        """The offset of the last message."""
        entries = self._entries
        return entries[-1].offset if entries else self._floor

    def append(self, message: Message) -> int:
        """Add a message; return its offset."""
        offset = self.top + 1
        keep = self.keep
        if keep is None:
            self._floor = offset
            return offset
        self._forget_old()
        if message.reached is not None:  # the clients would be kept as long as the message
            message = message._replace(reached=None)
        self._entries.append(_Entry(offset, message))
        self._bytes += len(message.frame.wire)
        self._used = self._now()
        while len(self._entries) > keep.size or self._bytes > keep.max_bytes:
            oldest = self._entries[0]
            self._floor = oldest.offset
            self._entries.popleft()
            self._bytes -= len(oldest.message.frame.wire)
        return offset

    def after(self, since: Position) -> list[Message] | None:
        """Return the messages after ``since``.

        :returns: None for another epoch, an offset that is not reached yet, and an offset whose
            successor was forgotten.
        """
        self._forget_old()
        entries = self._entries
        if since.epoch != self.epoch or not self._floor <= since.offset <= self.top:
            return None
        skipped = since.offset - self._floor
        return [entry.message for entry in islice(entries, skipped, None)]

    def last(self, count: int) -> list[Message]:
        """Return the last ``count`` messages, or fewer if fewer are known."""
        self._forget_old()
        entries = self._entries
        skipped = max(0, len(entries) - count)
        return [entry.message for entry in islice(entries, skipped, None)]

    def expired(self) -> bool:
        """Return True if nothing was added for longer than ``History.ttl``."""
        return self.keep is None or self._now() - self._used > self.keep.ttl

    def _forget_old(self) -> None:
        if self._entries and self.expired():
            self._floor = self.top
            self._entries.clear()
            self._bytes = 0
