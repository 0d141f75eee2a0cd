"""The recent messages of one room, by their offsets.

Layer: backplane.  Threads: the owner's lock guards a stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from hubthread.backplane.interfaces import Message
from hubthread.history import History, Position

__all__ = ["Stream"]


class Stream:
    """The messages of one room since ``start``, as far as ``keep`` allows.

    Each entry holds its offset, and messages are added in a single step.  So an exception that
    strikes from outside never separates the offsets from the messages.

    :param start: the position before the first message.
    :param keep: the bounds; None keeps no message, and only counts offsets.
    :param now: returns the time in seconds.
    """

    def __init__(self, start: Position, keep: History | None, now: Callable[[], float]) -> None:
        self.epoch = start.epoch
        self.keep = keep
        self._now = now
        self._entries: deque[tuple[int, Message]] = deque()  # each with its offset
        self._floor = start.offset  # the offset before the oldest entry
        self._bytes = 0
        self._used = now()

    @property
    def top(self) -> int:
        """The offset of the last message."""
        entries = self._entries
        return entries[-1][0] if entries else self._floor

    def extend(self, messages: Sequence[Message]) -> None:
        """Add messages after the last one."""
        # One read of the clock for all messages: each push takes this path.
        keep = self.keep
        if keep is None:
            self._floor = self.top + len(messages)
            return
        entries = self._entries
        now = self._now()
        if entries and now - self._used > keep.ttl:
            self._forget()
        # Without ``reached``, which would keep clients in memory as long as the message.
        kept = [each if each.reached is None else each._replace(reached=None) for each in messages]
        size = sum([len(message.frame.wire) for message in kept])
        entries.extend(enumerate(kept, self.top + 1))
        size = self._bytes = self._bytes + size
        if kept:
            self._used = now
        if size > keep.max_bytes or len(entries) > keep.size:
            self._trim(keep)

    def _trim(self, keep: History) -> None:
        entries = self._entries
        most, most_bytes = keep.size, keep.max_bytes
        while len(entries) > most or self._bytes > most_bytes:
            self._floor, oldest = entries[0]
            entries.popleft()
            self._bytes -= len(oldest.frame.wire)

    def extend_back(self, before: Position, messages: Sequence[Message]) -> None:
        """Add messages from before the oldest entry, as far as the bounds allow.

        :param before: the position before the first message.
        :param messages: the messages up to the oldest entry, or further.  If they end earlier,
            nothing is added.
        """
        keep, entries = self.keep, self._entries
        missing = self._floor - before.offset
        if keep is None or before.epoch != self.epoch or not 0 < missing <= len(messages):
            return
        size, added = self._bytes, 0
        for message in reversed(messages[:missing]):
            size += len(message.frame.wire)
            if len(entries) + added >= keep.size or size > keep.max_bytes:
                size -= len(message.frame.wire)
                break
            added += 1
        floor = self._floor - added
        extended = deque(enumerate(messages[missing - added : missing], floor + 1))
        extended += entries
        # One statement without a call: an interrupt finds all of it done, or nothing.
        self._entries, self._floor, self._bytes = extended, floor, size

    def reaches(self, since: Position) -> bool:
        """Return True if no message after ``since`` is missing here."""
        return since.epoch == self.epoch and self._floor <= since.offset <= self.top

    def __len__(self) -> int:
        return len(self._entries)

    def after(self, since: Position) -> list[Message] | None:
        """Return the messages after ``since``.

        :returns: None if ``since`` is of another epoch, is not reached yet, or if the message
            after it was forgotten.
        """
        self._forget_old()
        entries = self._entries
        if not self.reaches(since):
            return None
        skipped = since.offset - self._floor
        return [message for _, message in islice(entries, skipped, None)]

    def last(self, count: int) -> list[Message]:
        """Return the last ``count`` messages, or fewer if fewer are known."""
        self._forget_old()
        entries = self._entries
        skipped = max(0, len(entries) - count)
        return [message for _, message in islice(entries, skipped, None)]

    def expired(self) -> bool:
        """Return True if nothing was added for longer than ``History.ttl``."""
        return self.keep is None or self._now() - self._used > self.keep.ttl

    def _forget_old(self) -> None:
        if self._entries and self.expired():
            self._forget()

    def _forget(self) -> None:
        self._floor = self.top
        self._entries.clear()
        self._bytes = 0
