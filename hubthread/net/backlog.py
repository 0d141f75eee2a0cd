"""What waits for one peer: bounded, and dropped by a named policy when it does not fit.

Layer: net, without a socket, lock or thread of its own: the outbox calls it under its
lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final

from hubthread.net.options import OutboxBounds
from hubthread.types import Overflow

__all__ = ["PING", "PONG", "Backlog"]

PING: Final = object()
PONG: Final = object()
"""The keys of our pings and of answers to pings.  Only the last of each matters (RFC 6455
section 5.5.3), so a peer that pings and never reads cannot fill its outbox with them; and
they overtake what waits, so that a slow peer is not cut by its own keepalive."""


class _Entry:
    """One waiting frame; ``number`` is ``None`` for a control frame, which is no message."""

    __slots__ = ("key", "number", "wire")

    def __init__(self, number: int | None, wire: bytes, key: Hashable) -> None:
        self.number = number
        self.wire = wire
        self.key = key


# Most outboxes never have a backlog, and an empty deque of their own costs 760 bytes.
_NOTHING: Final[deque[_Entry]] = deque()


class Backlog:
    """Frames that the socket has not taken, in the order in which they go out.

    First the rest of a frame that is partly out, which is never dropped or replaced; then
    the last ping and pong; then messages.  The bounds hold for the rest and the messages;
    a single message may be larger.  Under ``DROP_OLDEST``, where the newest always gets
    in, it may come on top of such a rest.
    """

    __slots__ = (
        "_entries",
        "_keyed",
        "_limits",
        "_rest",
        "_rest_number",
        "_urgent",
        "dropped",
        "size",
    )

    def __init__(self, limits: OutboxBounds) -> None:
        self._limits = limits
        self._rest: bytes | memoryview = b""
        self._rest_number: int | None = None  # of its message; None: a control frame's
        self._urgent: dict[Hashable, bytes] = {}
        self._entries = _NOTHING
        self._keyed: dict[Hashable, _Entry] = {}  # entries that may be replaced
        self.size = 0
        """Bytes of what ``len`` counts."""
        self.dropped = 0
        """Messages that the policy has dropped so far."""

    def __len__(self) -> int:
        """How many frames wait, without a control frame that overtakes or is partly out."""
        return len(self._entries) + (self._rest_number is not None)

    def __bool__(self) -> bool:
        return bool(self._entries or self._rest or self._urgent)

    @property
    def first(self) -> int | None:
        """The number of the first message that waits, if one does."""
        if self._rest_number is not None:
            return self._rest_number
        return next((entry.number for entry in self._entries if entry.number is not None), None)

    # In.

    def begin(self, number: int | None, rest: bytes | memoryview) -> None:
        """Wait, before all else, with the rest of a frame whose beginning is out."""
        self._rest = rest
        self._rest_number = number
        if number is not None:
            self.size += len(rest)

    def admit(self, number: int | None, wire: bytes, key: Hashable) -> bool:
        """Find a place for a frame by the policy; false when only closing is left."""
        if key is PONG or key is PING:
            self._urgent[key] = wire
            return True
        policy, size = self._limits.overflow, len(wire)
        if policy is Overflow.LATEST and key is not None:
            waiting = self._keyed.get(key)
            if waiting is not None:
                # It takes the older one's place, and its number: a place is consumed
                # when everything up to it is.
                self.size += size - len(waiting.wire)
                waiting.wire = wire
                self.dropped += 1
                return self.size <= self._limits.max_bytes or len(self) == 1
        if not self._fits(size):
            if policy is not Overflow.DROP_OLDEST:
                self.dropped += number is not None
                if policy is not Overflow.DROP_NEWEST:
                    return False
                self._limits.on_drop()
                return True
            while self._entries and not self._fits(size):
                self.dropped += self._take_entry().number is not None
                self._limits.on_drop()
        self._add(_Entry(number, wire, key))
        return True

    def add_last(self, wire: bytes) -> None:
        """Wait with the last frame of all, a control frame, which always finds a place."""
        self._add(_Entry(None, wire, None))

    def drop_waiting(self) -> None:
        """Drop all but the rest of what is partly out."""
        self._urgent.clear()
        while self._entries:
            self.dropped += self._take_entry().number is not None

    def forget(self) -> None:
        """Empty it: the connection has ended, which is no dropping."""
        self._rest = b""
        self._rest_number = None
        self._urgent.clear()
        self._entries.clear()
        self._keyed.clear()
        self.size = 0

    def _fits(self, size: int) -> bool:
        count = len(self)
        limits = self._limits
        return not count or (count < limits.max_messages and self.size + size <= limits.max_bytes)

    def _add(self, entry: _Entry) -> None:
        if self._entries is _NOTHING:
            self._entries = deque()
        self._entries.append(entry)
        self.size += len(entry.wire)
        if entry.key is not None and self._limits.overflow is Overflow.LATEST:
            self._keyed[entry.key] = entry

    # Out.

    def chunk(self) -> bytes | memoryview:
        """The next bytes to be sent: some frames together, or a piece of a large one."""
        most = self._limits.write_buffer
        if len(self._rest) >= most:
            return memoryview(self._rest)[:most]
        parts: list[bytes | memoryview] = [self._rest] if self._rest else []
        parts.extend(self._urgent.values())
        size = sum(map(len, parts))
        for entry in self._entries:
            size += len(entry.wire)
            # Not begun when it would be joined only to be cut: each try that the socket
            # refuses would copy a large message again.
            if size > most and parts:
                break
            parts.append(entry.wire)
        if len(parts) == 1:
            only = parts[0]
            return only if len(only) <= most else memoryview(only)[:most]
        return b"".join(parts)

    def taken(self, sent: int) -> None:
        """The socket took the first ``sent`` bytes of the chunk."""
        while sent:
            wire, number = self._take()
            if sent < len(wire):
                self.begin(number, memoryview(wire)[sent:])
                return
            sent -= len(wire)

    def message(self) -> bytes:
        """The frame that is next, whole: for peers who take nothing less."""
        return self._entries[0].wire

    def message_taken(self) -> None:
        """That one is out."""
        self._take_entry()

    def _take(self) -> tuple[bytes | memoryview, int | None]:
        if self._rest:
            rest, number = self._rest, self._rest_number
            self._rest, self._rest_number = b"", None
            if number is not None:
                self.size -= len(rest)
            return rest, number
        if self._urgent:
            return self._urgent.pop(next(iter(self._urgent))), None
        entry = self._take_entry()
        return entry.wire, entry.number

    def _take_entry(self) -> _Entry:
        entry = self._entries.popleft()
        self.size -= len(entry.wire)
        if self._keyed and self._keyed.get(entry.key) is entry:
            del self._keyed[entry.key]
        return entry
