"""A backplane in the memory of one process.

Several hubs of one process may share a ``MemoryBackplane``: their shared rooms of one name are
then one room.  ``hubthread.testing`` uses that for clusters in virtual time.

Layer: backplane.  Threads: every method may be called on any thread, and returns at once.  The
thread that publishes hands the messages over.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic

from hubthread.backplane.interfaces import BackplaneHost, Message, Receiver
from hubthread.backplane.stream import Stream
from hubthread.errors import UsageError
from hubthread.history import History, Position
from hubthread.statistics import BackplaneStatistics

__all__ = ["MemoryBackplane"]


class _Entry:
    """A push that waits to be placed and handed over."""

    __slots__ = ("link", "message", "number", "offset")

    def __init__(self, link: MemoryLink, message: Message) -> None:
        self.link = link
        self.message = message
        self.number = 0  # among the pushes of its hub; 0 until the push is placed
        self.offset = 0

    def hand_over(self, room: _Room) -> None:
        """Place the push and tell every hub.  After an interrupt it is called again."""
        stream = room.stream
        top = stream.top
        if not self.offset:
            self.offset = top + 1
        if top < self.offset:
            stream.append(self.message)
        own = room.attached.get(self.link)
        if own is not None and not self.number:
            own.placed += 1
            self.number = own.placed
        place, messages = Position(room.stream.epoch, self.offset), (self.message,)
        for link, attached in list(room.attached.items()):
            number = self.number if link is self.link else None
            attached.receiver.arrived(place, messages, number)


class _Presence:
    """A change of one hub's presence that waits to be noted and handed over."""

    __slots__ = ("came", "link", "went")

    def __init__(self, link: MemoryLink, came: Mapping[str, str], went: Collection[str]) -> None:
        self.link = link
        self.came = came
        self.went = went

    def hand_over(self, room: _Room) -> None:
        """Note the change and tell every hub.  After an interrupt it is called again."""
        for key, info in self.came.items():
            room.present.setdefault(key, (info, set()))[1].add(self.link)
        for key in self.went:
            if key in room.present:
                links = room.present[key][1]
                links.discard(self.link)
                if not links:
                    del room.present[key]
        came = {key: room.present[key][0] for key in self.came if key in room.present}
        went = [key for key in self.went if key not in room.present]
        if came or went:
            for attached in list(room.attached.values()):
                attached.receiver.present(came, went)


class _Count:
    """A change of one hub's count that waits to be noted and handed over."""

    __slots__ = ("count", "link")

    def __init__(self, link: MemoryLink, count: int) -> None:
        self.link = link
        self.count = count

    def hand_over(self, room: _Room) -> None:
        """Note the count and tell every hub.  After an interrupt it is called again."""
        room.counts[self.link] = self.count
        if not self.count:
            del room.counts[self.link]
        total = sum(room.counts.values())
        for attached in list(room.attached.values()):
            attached.receiver.counted(total)


class _Attached:
    """One hub that has a room."""

    __slots__ = ("placed", "receiver")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.placed = 0  # the number of this hub's pushes that have their place


class _Room:
    """One shared room: its stream, its users, and the hubs that have it.

    Lock order: this lock, then that of a receiver.  A receiver never calls back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.lock = threading.RLock()  # guards what follows
        self.stream = Stream(Position(secrets.token_hex(4), 0), None, now)
        self.attached: dict[MemoryLink, _Attached] = {}
        self.present: dict[str, tuple[str, set[MemoryLink]]] = {}
        """The members by key: the text about each, and the hubs that have it."""
        self.counts: dict[MemoryLink, int] = {}
        self._waiting: deque[_Entry | _Presence | _Count] = deque()
        # Held by the call that hands over.  A call that finds it held is inside that call, on
        # its thread: in a finaliser or a signal handler.  "with" releases it at any interrupt.
        self._handing_over = threading.Lock()

    def publish(self, link: MemoryLink, message: Message) -> int:
        entry = _Entry(link, message)
        self.accept(entry)
        if entry.number:
            return entry.number
        with self.lock:
            # Inside another call of this thread, which places what waits before it ends.
            ahead = [
                other
                for other in list(self._waiting)
                if isinstance(other, _Entry) and other.link is link and not other.number
            ]
            return self.attached[link].placed + len(ahead)

    def accept(self, entry: _Entry | _Presence | _Count) -> None:
        try:
            with self.lock:
                self._waiting.append(entry)
                self._hand_over()
        except BaseException:  # an interrupt: the entry may be handed over in part
            with self.lock:
                self._hand_over()
            raise

    def leave(self, link: MemoryLink) -> None:
        """Forget a hub, and tell the others who went with it."""
        with self.lock:
            self.attached.pop(link, None)
            gone = [key for key, (_, links) in self.present.items() if link in links]
            if gone:
                self.accept(_Presence(link, {}, gone))
            if link in self.counts:
                self.accept(_Count(link, 0))

    def _hand_over(self) -> None:
        if self._handing_over.locked():
            return
        with self._handing_over:
            while self._waiting:
                self._waiting[0].hand_over(self)
                self._waiting.popleft()


class MemoryBackplane:
    """The default backplane: orders and keeps pushes in the memory of this process.

    What it keeps is gone when the process ends.  Then no client recovers.

    Threads: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows; taken before that of a room
        self._rooms: dict[str, _Room] = {}
        self._unused: OrderedDict[str, _Room] = OrderedDict()  # detached first is first

    def open(self, node: str, now: Callable[[], float] = monotonic) -> MemoryLink:
        """Return a connection for one hub; see ``Backplane.open``."""
        return MemoryLink(self, node, now)

    def _room(self, name: str) -> _Room | None:
        return self._rooms.get(name)  # one look, which needs no lock

    def _attach(
        self, name: str, link: MemoryLink, keep: History | None, receiver: Receiver
    ) -> None:
        with self._lock:
            self._forget_expired()
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = _Room(link.now)
            with room.lock:
                if link in room.attached:
                    raise UsageError(f"room {name!r} is attached already")
                if keep is not None:
                    room.stream.keep = keep
                receiver.attached(Position(room.stream.epoch, room.stream.top))
                room.attached[link] = _Attached(receiver)
                if room.present:
                    receiver.present({key: info for key, (info, _) in room.present.items()}, ())
                if room.counts:
                    receiver.counted(sum(room.counts.values()))
            self._unused.pop(name, None)

    def _detach(self, name: str, link: MemoryLink) -> None:
        with self._lock:
            room = self._rooms.get(name)
            if room is None:
                return
            with room.lock:
                was_attached = link in room.attached
                room.leave(link)
                if was_attached and not room.attached:
                    self._unused[name] = room
            self._forget_expired()

    def _detach_all(self, link: MemoryLink) -> None:
        with self._lock:
            for name in list(self._rooms):
                self._detach(name, link)

    def _forget_expired(self) -> None:
        """Forget rooms that no hub has, from the longest unused on."""
        while self._unused:
            name, room = next(iter(self._unused.items()))
            if not room.stream.expired():
                return
            del self._unused[name], self._rooms[name]


class MemoryLink:
    """One hub's connection to a ``MemoryBackplane``; see ``BackplaneLink``.

    Threads: any thread.
    """

    def __init__(self, backplane: MemoryBackplane, node: str, now: Callable[[], float]) -> None:
        self._backplane = backplane
        self.node = node
        self.now = now

    def start(self, host: BackplaneHost) -> None:
        """See ``BackplaneLink.start``."""

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """See ``BackplaneLink.attach``."""
        self._backplane._attach(room, self, keep, receiver)

    def detach(self, room: str) -> None:
        """See ``BackplaneLink.detach``."""
        self._backplane._detach(room, self)

    def publish(self, room: str, message: Message) -> int:
        """See ``BackplaneLink.publish``."""
        found = self._backplane._room(room)
        if found is None or self not in found.attached:
            raise UsageError(f"room {room!r} is not attached: call attach first")
        return found.publish(self, message)

    def present(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        """See ``BackplaneLink.present``."""
        self._change(room, _Presence(self, came, went))

    def count(self, room: str, count: int) -> None:
        """See ``BackplaneLink.count``."""
        self._change(room, _Count(self, count))

    def _change(self, room: str, change: _Presence | _Count) -> None:
        found = self._backplane._room(room)
        if found is None:
            return
        with found.lock:
            if self in found.attached:
                found.accept(change)

    def history(self, room: str, since: Position, timeout: float) -> list[Message] | None:
        """See ``BackplaneLink.history``."""
        found = self._backplane._room(room)
        if found is None:
            return None
        with found.lock:
            return found.stream.after(since)

    def statistics(self) -> BackplaneStatistics:
        """See ``BackplaneLink.statistics``."""
        return BackplaneStatistics("up")

    def close(self, timeout: float) -> None:
        """See ``BackplaneLink.close``."""
        self._backplane._detach_all(self)
