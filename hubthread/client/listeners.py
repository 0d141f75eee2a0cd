"""Listeners by name, and the messages that no listener takes.

Layer: client.  Threads: any thread adds and removes listeners; the link's thread calls them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

__all__ = ["INBOX_BYTES", "Inbox", "Listener", "Listeners"]

Listener = Callable[..., object]

INBOX_BYTES = 16 << 20
"""The most bytes of messages that an inbox keeps."""


class Listeners:
    """Listeners by the header or event that they listen to.

    A change makes a new tuple, so it does not disturb a call in progress.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows
        self._all: dict[Hashable, tuple[Listener, ...]] = {}

    def add(self, name: Hashable, listener: Listener) -> Callable[[], None]:
        """Add a listener, and return the function that removes it."""
        entry = _Entry(listener)
        with self._lock:
            self._all[name] = (*self._all.get(name, ()), entry)

        def off() -> None:
            with self._lock:
                left = tuple(each for each in self._all.get(name, ()) if each is not entry)
                if left:
                    self._all[name] = left
                else:
                    self._all.pop(name, None)

        return off

    def of(self, name: Hashable) -> tuple[Listener, ...]:
        """Return the listeners of a name."""
        try:
            return self._all.get(name, ())
        except TypeError:  # the server has sent a header that is a list or an object
            return ()


class _Entry:
    """One registration.  The same function may be registered twice."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __call__(self, *values: object) -> object:
        return self._listener(*values)


class _Kept(NamedTuple):
    message: Any
    size: int


class Inbox:
    """Messages without a listener, the oldest first.  The caller holds the link's lock.

    Until a thread reads from the inbox, a full inbox drops the oldest message for a new one.  From
    then on nothing is dropped: the link stops reading while the inbox is full.

    :param bound: the most messages that the inbox keeps.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: deque[_Kept] = deque()
        self._size = 0
        self.read = False
        """True once a thread has read from it."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> bool:
        """True while no message may be added, because a thread reads the inbox too slowly."""
        return self.read and (len(self._kept) >= self._bound or self._size >= INBOX_BYTES)

    def put(self, message: object, size: int) -> None:
        """Add a message.

        :param size: the bytes of the message.
        """
        self._kept.append(_Kept(message, size))
        self._size += size
        while not self.read and (len(self._kept) > self._bound or self._size > INBOX_BYTES):
            self._size -= self._kept.popleft().size

    def take(self) -> Any:
        """Take the oldest message."""
        kept = self._kept.popleft()
        self._size -= kept.size
        return kept.message
