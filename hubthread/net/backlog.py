"""The messages that wait for one peer, bounded, with a named policy for what does not fit.

Layer: net; it has no socket, lock or thread of its own.  Threads: the caller holds the lock of
the outbox (or UDP peer) that the backlog belongs to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final

from hubthread.net.options import OutboxBounds
from hubthread.protocol.envelope import Placed, Versioned
from hubthread.types import Overflow

__all__ = ["PING", "PONG", "Backlog"]

PING: Final = object()
PONG: Final = object()
"""The keys of our pings and of our answers to pings.  Only the last of each matters (RFC 6455
section 5.5.3), so a peer that pings and never reads cannot fill its outbox.  Both overtake what
waits, so that a slow peer is not cut by its own keepalive."""


_NOTICED: Final = (Placed, Versioned)
"""The keys of messages that leave a notice when they are dropped."""


class _Entry:
    """One waiting frame.

    :param number: the message's number; ``None`` for a control frame.
    """

    __slots__ = ("key", "number", "wire")

    def __init__(self, number: int | None, wire: bytes, key: Hashable) -> None:
        self.number = number
        self.wire = wire
        self.key = key

    @property
    def is_control(self) -> bool:
        """True for a control frame; False for a message and for the notice of a gap."""
        return self.number is None and not isinstance(self.key, _NOTICED)


# Shared, because most outboxes never have a backlog and an empty deque costs 760 bytes.
_EMPTY: Final[deque[_Entry]] = deque()


class Backlog:
    """Frames that the socket has not taken, in the order in which they go out.

    First comes the rest of a frame that is partly out, which is never dropped or replaced.  The
    last ping and pong follow, then the messages.  The bounds hold for the rest and the messages
    together; a single message may be larger.  Under ``DROP_OLDEST`` the newest message is
    accepted even if the rest alone exceeds the bounds.

    A dropped push of a room with a history, to a client that knows its position, leaves a notice
    in its place (``Placed.gap``), and so does a change of the users (``Versioned.gap``): at most
    one of each kind and room between two messages.  Notices are beyond the bounds.
    """

    __slots__ = (
        "_bounds",
        "_entries",
        "_keyed",
        "_rest",
        "_rest_number",
        "_urgent",
        "dropped",
        "size",
    )

    def __init__(self, bounds: OutboxBounds) -> None:
        self._bounds = bounds
        self._rest: bytes | memoryview = b""
        self._rest_number: int | None = None  # None: the rest of a control frame
        self._urgent: dict[Hashable, bytes] = {}
        self._entries = _EMPTY
        self._keyed: dict[Hashable, _Entry] = {}  # the entries that may be replaced
        self.size = 0
        """Bytes of the frames that ``len`` counts."""
        self.dropped = 0
        """Messages that the policy has dropped so far."""

    def __len__(self) -> int:
        """Return the number of frames that wait.

        Pings and pongs, and a control frame that is partly out, do not count.
        """
        return len(self._entries) + (self._rest_number is not None)

    def __bool__(self) -> bool:
        return bool(self._entries or self._rest or self._urgent)

    @property
    def first(self) -> int | None:
        """The number of the first message that waits; ``None`` if no message waits."""
        if self._rest_number is not None:
            return self._rest_number
        return next((entry.number for entry in self._entries if entry.number is not None), None)

    # Put in.

    def add(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> bool:
        """Add the rest of ``wires``; return False if the connection must be closed.

        :param sent: the bytes that are out.
        :param first: the number of the first message; ``None``: control frames.
        """
        for place, (wire, key) in enumerate(zip(wires, keys, strict=True)):
            number = None if first is None else first + place
            if sent >= len(wire):
                sent -= len(wire)  # out
            elif sent:
                self.begin(number, memoryview(wire)[sent:])
                sent = 0
            elif not self.admit(number, wire, key):
                # The rest of the batch is dropped like this message.
                self.dropped += len(wires) - place - 1
                return False
        return True

    def begin(self, number: int | None, rest: bytes | memoryview) -> None:
        """Put in the rest of a frame whose beginning is out, before all else."""
        self._rest = rest
        self._rest_number = number
        if number is not None:
            self.size += len(rest)

    def admit(self, number: int | None, wire: bytes, key: Hashable) -> bool:
        """Put in a frame, as the policy says; return False if the connection must be closed."""
        if key is PONG or key is PING:
            self._urgent[key] = wire
            return True
        policy, size = self._bounds.overflow, len(wire)
        if policy is Overflow.LATEST and key is not None:
            waiting = self._keyed.get(key)
            if waiting is not None:
                # The message takes the place and the number of the older one: a number is
                # consumed when everything up to it is.
                self.size += size - len(waiting.wire)
                waiting.wire = wire
                self.dropped += 1
                return self.size <= self._bounds.max_bytes or len(self) == 1
        if not self._fits(size):
            if policy is not Overflow.DROP_OLDEST:
                self.dropped += number is not None
                if policy is not Overflow.DROP_NEWEST:
                    return False
                self._bounds.on_drop()
                if isinstance(key, _NOTICED):
                    self._tell_last_gap(key)
                return True
            self._drop_oldest(size)
        self._add(_Entry(number, wire, key))
        return True

    def _drop_oldest(self, size: int) -> None:
        """Drop the messages that have waited longest, until ``size`` bytes fit."""
        # The last that is dropped of each kind and room.
        gaps: dict[tuple[type, str], Placed | Versioned] = {}
        while self._entries and not self._fits(size):
            entry = self._take_entry()
            if isinstance(entry.key, _NOTICED):
                gaps[type(entry.key), entry.key.room] = entry.key
            if entry.number is not None:
                self.dropped += 1
                self._bounds.on_drop()
        for key in gaps.values():
            self._add(_Entry(None, key.gap(), key), first=True)

    def _tell_last_gap(self, key: Placed | Versioned) -> None:
        """Add a message, behind the waiting ones, that tells of the dropped message at ``key``."""
        for entry in reversed(self._entries):
            other = entry.key
            if entry.number is not None or not isinstance(other, _NOTICED):
                break
            # Nothing of the room waits behind its last gap.
            if type(other) is type(key) and other.room == key.room:
                self.size -= len(entry.wire)
                entry.wire, entry.key = key.gap(), key
                self.size += len(entry.wire)
                return
        self._add(_Entry(None, key.gap(), key))

    def add_last(self, wire: bytes) -> None:
        """Put in the last frame of all, a control frame, which always fits."""
        self._add(_Entry(None, wire, None))

    def drop_waiting(self) -> None:
        """Drop all but the rest of a frame that is partly out."""
        self._urgent.clear()
        while self._entries:
            self.dropped += self._take_entry().number is not None

    def pass_on(self, bounds: OutboxBounds) -> bytes | memoryview:
        """Let the messages wait for another connection, without the control frames.

        :param bounds: the bounds and the policy from now on.
        :returns: the rest of the frame that is partly out; it waits here no more.
        """
        self._bounds = bounds
        self._urgent.clear()
        rest = self._take()[0] if self._rest else b""
        control = [each for each in self._entries if each.is_control]
        if control:
            self.size -= sum(len(each.wire) for each in control)
            self._entries = deque(each for each in self._entries if not each.is_control)
        return rest

    def forget(self) -> None:
        """Remove everything: the connection has ended.  Nothing counts as dropped."""
        self._rest = b""
        self._rest_number = None
        self._urgent.clear()
        self._entries.clear()
        self._keyed.clear()
        self.size = 0

    def _fits(self, size: int) -> bool:
        count = len(self)
        bounds = self._bounds
        return not count or (count < bounds.max_messages and self.size + size <= bounds.max_bytes)

    def _add(self, entry: _Entry, *, first: bool = False) -> None:
        if self._entries is _EMPTY:
            self._entries = deque()
        if first:
            self._entries.appendleft(entry)
        else:
            self._entries.append(entry)
        self.size += len(entry.wire)
        if entry.key is not None and self._bounds.overflow is Overflow.LATEST:
            self._keyed[entry.key] = entry

    # Take out.

    def chunk(self) -> bytes | memoryview:
        """Return the next bytes to send: some frames together, or a piece of a large one."""
        most = self._bounds.write_buffer
        if len(self._rest) >= most:
            return memoryview(self._rest)[:most]
        parts: list[bytes | memoryview] = [self._rest] if self._rest else []
        parts.extend(self._urgent.values())
        size = sum(map(len, parts))
        for entry in self._entries:
            size += len(entry.wire)
            # Do not join a large message only to cut it: each call that the socket refuses
            # would copy the message again.
            if size > most and parts:
                break
            parts.append(entry.wire)
        if len(parts) == 1:
            only = parts[0]
            return only if len(only) <= most else memoryview(only)[:most]
        return b"".join(parts)

    def taken(self, sent: int) -> None:
        """Remove the first ``sent`` bytes of the chunk, which the socket has taken."""
        while sent:
            wire, number = self._take()
            if sent < len(wire):
                self.begin(number, memoryview(wire)[sent:])
                return
            sent -= len(wire)

    def message(self) -> bytes:
        """Return the next frame, whole, for a socket that takes whole messages (UDP)."""
        return self._entries[0].wire

    def message_taken(self) -> None:
        """Remove the first frame: the socket has taken it whole."""
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
