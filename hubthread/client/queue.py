"""The messages that wait for a connection, within bounds.

Layer: client.  Threads: the caller holds the lock of the link.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

__all__ = ["Entry", "Queue"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that waits."""

    data: str | bytes
    key: Hashable = None
    """A later message with the same key replaces this message."""
    until: float = math.inf
    """The time at which the message is dropped."""
    request: int | None = None
    """The number of the request, if the message is a request."""


class Queue:
    """Messages in their order.

    :param messages: the most messages that may wait.
    :param size: the most bytes that may wait.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._most = size
        self._entries: deque[Entry] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry, now: float) -> bool:
        """Keep a message; return False if the queue is full and the message is dropped."""
        if entry.key is not None:
            self._remove(lambda each: each.key == entry.key)
        size = _size(entry.data)
        if self._is_full(size):
            self._remove(lambda each: each.until <= now)
            if self._is_full(size):
                return False
        self._entries.append(entry)
        self._size += size
        return True

    def take(self, now: float) -> Entry | None:
        """Take the oldest message that is not too old; return ``None`` if there is none."""
        while self._entries:
            entry = self._entries.popleft()
            self._size -= _size(entry.data)
            if entry.until > now:
                return entry
        return None

    def forget(self, request: int) -> None:
        """Drop the message of a request whose caller waits no more."""
        self._remove(lambda each: each.request == request)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self._size = 0

    def _is_full(self, size: int) -> bool:
        return len(self._entries) >= self._messages or self._size + size > self._most

    def _remove(self, unwanted: Callable[[Entry], bool]) -> None:
        kept = deque(each for each in self._entries if not unwanted(each))
        if len(kept) < len(self._entries):
            self._entries = kept
            self._size = sum(_size(each.data) for each in kept)


def _size(data: str | bytes) -> int:
    return len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "replace"))
