"""A backplane in the memory of one process.

Several hubs of one process may share a ``MemoryBackplane``: their shared rooms of one name are
then one room.  ``hubthread.testing`` uses that for clusters in virtual time.

Layer: backplane.  Threads: every method may be called on any thread, and returns at once.  The
messages are handed over by the hubs' flushing threads, and by any thread that needs the position.
"""

from __future__ import annotations

import itertools
import math
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any

from hubthread.backplane.interfaces import BackplaneHost, LeaseAnswer, Message, Receiver
from hubthread.backplane.stream import Stream
from hubthread.errors import NotOwner, UsageError
from hubthread.history import History, Position
from hubthread.statistics import BackplaneStatistics

__all__ = ["MemoryBackplane"]


class _Pushes:
    """Successive pushes of one hub that wait to be placed and handed over."""

    __slots__ = ("first", "link", "messages", "offset")

    def __init__(self, link: MemoryLink, first: int) -> None:
        self.link = link
        self.first = first
        """The number of the first push, among all pushes of the hub."""
        self.messages: list[Message] = []
        self.offset = 0  # the offset of the first push; 0 until it has its place

    @property
    def end(self) -> int:
        """The number that follows the number of the last push."""
        return self.first + len(self.messages)

    def hand_over(self, room: _Room) -> None:
        """Place the pushes and tell every hub.  Called again after an interrupt."""
        stream = room.stream
        if not self.offset:
            self.offset = stream.top + 1
        stream.extend(self.messages[stream.top + 1 - self.offset :])
        place = Position(stream.epoch, self.offset)
        for link, attached in list(room.attached.items()):
            number = self.first if link is self.link else None
            attached.receiver.arrived(place, self.messages, number)
        own = room.attached.get(self.link)
        if own is not None:
            room.forget(own, self)


class _Presence:
    """A change of one hub's presence that waits to be noted and handed over."""

    __slots__ = ("came", "link", "went")

    def __init__(self, link: MemoryLink, came: Mapping[str, str], went: Collection[str]) -> None:
        self.link = link
        self.came = came
        self.went = went

    def hand_over(self, room: _Room) -> None:
        """Note the change and tell every hub.  Called again after an interrupt."""
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
        """Note the count and tell every hub.  Called again after an interrupt."""
        room.counts[self.link] = self.count
        if not self.count:
            del room.counts[self.link]
        total = sum(room.counts.values())
        for attached in list(room.attached.values()):
            attached.receiver.counted(total)


class _Attached:
    """One hub that has a room."""

    __slots__ = ("detached", "latest", "link", "receiver")

    def __init__(self, link: MemoryLink, receiver: Receiver) -> None:
        self.link = link
        self.receiver = receiver
        # The lock of the room's queue guards what follows.
        self.latest = _Pushes(link, 1)  # the next push joins them, or goes on with their numbers
        self.detached = False


class _Room:
    """One shared room: its stream, its users, and the hubs that have it.

    A push only joins a queue, which has a lock of its own.  So a thread that pushes never waits
    for a thread that hands pushes over.  ``settle`` hands over all that was queued before the
    call.  The hubs call it when they flush, and whenever they need to know the present position.

    Lock order: ``lock``, then the locks of a receiver, then the lock of the queue.  A receiver
    never calls back.
    """

    def __init__(self, name: str, now: Callable[[], float]) -> None:
        self.name = name
        self.lock = threading.RLock()  # guards what follows
        self.stream = Stream(Position(secrets.token_hex(4), 0), None, now)
        self.attached: dict[MemoryLink, _Attached] = {}
        self.present: dict[str, tuple[str, set[MemoryLink]]] = {}
        """The members by key: the text about each, and the hubs that have it."""
        self.counts: dict[MemoryLink, int] = {}
        self._taken: deque[_Pushes | _Presence | _Count] = deque()  # being handed over
        self._again = False  # something was queued inside the call that hands over
        # Held by the call that hands over.  A call that finds it held is inside that call, on
        # its thread: in a finaliser or a signal handler.  "with" releases it at any interrupt.
        self._handing_over = threading.Lock()
        self._queue_lock = threading.RLock()  # guards the queue
        self._queue: deque[_Pushes | _Presence | _Count] = deque()
        self.fence = 0
        """The token of the last lease; a push with a lower one is refused."""

    def raise_fence(self, token: int) -> None:
        """Refuse pushes with a lower token from now on."""
        with self._queue_lock:
            self.fence = max(self.fence, token)

    def publish(self, own: _Attached, message: Message) -> int:
        """Queue a push; return its number, or 0 if the hub has detached the room.

        :raises NotOwner: for a push with a token that is too low.
        """
        with self._queue_lock:
            if own.detached:
                return 0
            if message.token and message.token < self.fence:
                raise NotOwner(f"room {self.name!r}: another hub owns the room by now")
            pushes = own.latest
            if not self._queue or self._queue[-1] is not pushes:
                pushes = own.latest = _Pushes(own.link, pushes.end)
                self._queue.append(pushes)
            # The number follows from the list, so an interrupt never parts the two.
            pushes.messages.append(message)
            return pushes.end - 1

    def forget(self, own: _Attached, pushes: _Pushes) -> None:
        """Forget pushes that were handed over, and keep only their numbers."""
        with self._queue_lock:
            if own.latest is pushes:
                own.latest = _Pushes(pushes.link, pushes.end)

    def accept(self, entry: _Presence | _Count) -> None:
        """Queue a change, and hand it over."""
        with self._queue_lock:
            self._queue.append(entry)
        self.settle()

    def settle(self) -> None:
        """Place all queued pushes and changes, and hand them to every hub."""
        try:
            with self.lock:
                self._hand_over()
        except BaseException:  # an interrupt: an entry may be handed over in part
            with self.lock:
                self._hand_over()
            raise

    def leave(self, link: MemoryLink) -> None:
        """Forget a hub, after its pushes, and tell the other hubs which users left with it."""
        with self.lock:
            own = self.attached.get(link)
            if own is not None:
                with self._queue_lock:
                    own.detached = True
            self.settle()
            self.attached.pop(link, None)
            gone = [key for key, (_, links) in self.present.items() if link in links]
            if gone:
                self.accept(_Presence(link, {}, gone))
            if link in self.counts:
                self.accept(_Count(link, 0))

    def _hand_over(self) -> None:
        self._again = True
        if self._handing_over.locked():
            return
        with self._handing_over:
            while self._again:
                self._again = False
                self._hand_over_taken()  # if an interrupt has left some
                with self._queue_lock:
                    # One statement: no interrupt comes between its two parts.
                    self._taken, self._queue = self._queue, deque()
                self._hand_over_taken()

    def _hand_over_taken(self) -> None:
        while self._taken:
            self._taken[0].hand_over(self)
            self._taken.popleft()


class _Lease:
    """The lease of one room, kept after its end for its token and the saved state."""

    __slots__ = ("node", "saved", "token", "until")

    def __init__(self) -> None:
        self.node = ""
        self.token = 0
        self.until = -math.inf
        self.saved = b""


class MemoryBackplane:
    """The default backplane: orders and keeps pushes in the memory of this process.

    What it keeps is gone when the process ends.  Then no client recovers.

    Threads: any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows; taken before that of a room
        self._rooms: dict[str, _Room] = {}
        self._unused: OrderedDict[str, _Room] = OrderedDict()  # the longest unused room is first
        self._boxes: dict[str, dict[MemoryLink, Callable[[bytes], object]]] = {}
        self._hosts: dict[MemoryLink, BackplaneHost] = {}
        # By the key of a record: its hub, the record, and the time at which it is forgotten.
        self._records: dict[str, tuple[str, bytes, float]] = {}
        self._leases: dict[str, _Lease] = {}
        self._tokens = itertools.count(1)

    def open(self, node: str, now: Callable[[], float] = monotonic) -> MemoryLink:
        """Return a connection for one hub; see ``Backplane.open``."""
        return MemoryLink(self, node, now)

    def _listen(self, box: str, link: MemoryLink, heard: Callable[[bytes], object]) -> None:
        with self._lock:
            self._boxes.setdefault(box, {})[link] = heard

    def _unlisten(self, box: str, link: MemoryLink) -> None:
        with self._lock:
            listeners = self._boxes.get(box, {})
            listeners.pop(link, None)
            if not listeners:
                self._boxes.pop(box, None)

    def _tell(self, box: str, letter: bytes) -> int:
        with self._lock:
            listeners = list(self._boxes.get(box, {}).values())
        for heard in listeners:
            heard(letter)
        return len(listeners)

    def _keep(self, key: str, link: MemoryLink, record: bytes, seconds: float) -> None:
        now = link.now()
        with self._lock:
            kept = self._record(key, now)
            if kept is None or kept[0] == link.node:
                self._records.pop(key, None)  # keeps the records in the order of their times
                self._records[key] = link.node, record, now + seconds

    def _drop(self, key: str, link: MemoryLink) -> None:
        with self._lock:
            kept = self._records.get(key)
            if kept is not None and kept[0] == link.node:
                del self._records[key]

    def _take(self, key: str, link: MemoryLink) -> tuple[str, bytes] | None:
        with self._lock:
            kept = self._record(key, link.now())
            if kept is None:
                return None
            node, record, until = kept
            self._records[key] = link.node, record, until
        return node, record

    def _record(self, key: str, now: float) -> tuple[str, bytes, float] | None:
        while self._records:
            oldest, (_, _, until) = next(iter(self._records.items()))
            if now < until:
                break  # most records behind it are younger
            self._records.pop(oldest, None)
        kept = self._records.get(key)
        return kept if kept is not None and now < kept[2] else None

    def _lease(
        self, name: str, link: MemoryLink, token: int, seconds: float, saved: bytes | None
    ) -> LeaseAnswer:
        now = link.now()
        with self._lock:
            lease = self._leases.setdefault(name, _Lease())
            begins = not token
            if begins:
                refused = link.node != lease.node and now < lease.until
            else:
                refused = token < lease.token
            if refused:
                return LeaseAnswer(False, lease.token, max(0.0, lease.until - now))
            if begins:
                token = lease.token if now < lease.until else next(self._tokens)
            found = lease.saved if begins else b""
            lease.node, lease.token = link.node, token
            lease.until = now + seconds if seconds else -math.inf
            if saved is not None:
                lease.saved = saved
            room = self._rooms.get(name)
            if room is not None:
                room.raise_fence(token)
        return LeaseAnswer(True, token, seconds, found)

    def _fences(self, name: str, token: int) -> bool:
        """Return True for the token of a hub that has lost the room; otherwise note the token."""
        if not token:
            return False
        with self._lock:
            lease = self._leases.setdefault(name, _Lease())
            fenced = token < lease.token
            lease.token = max(token, lease.token)
        return fenced

    def _room(self, name: str) -> _Room | None:
        return self._rooms.get(name)  # a single read needs no lock

    def _attach(
        self, name: str, link: MemoryLink, keep: History | None, receiver: Receiver
    ) -> None:
        with self._lock:
            self._forget_expired()
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = _Room(name, link.now)
                room.raise_fence(self._leases[name].token if name in self._leases else 0)
            with room.lock:
                if link in room.attached:
                    raise UsageError(f"room {name!r} is attached already")
                if keep is not None:
                    room.stream.keep = keep
                receiver.attached(Position(room.stream.epoch, room.stream.top), room.settle)
                room.attached[link] = _Attached(link, receiver)
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

    def _forget(self, link: MemoryLink) -> None:
        with self._lock:
            self._hosts.pop(link, None)
            for box in list(self._boxes):
                self._unlisten(box, link)

    def _detach_all(self, link: MemoryLink) -> None:
        with self._lock:
            for name in list(self._rooms):
                self._detach(name, link)

    def _forget_expired(self) -> None:
        """Forget expired rooms that no hub has, the longest unused room first."""
        while self._unused:
            name, room = next(iter(self._unused.items()))
            if not room.stream.expired():
                return
            del self._unused[name], self._rooms[name]
            lease = self._leases.get(name)
            if lease is not None and not lease.saved and lease.until == -math.inf:
                del self._leases[name]


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
        self._backplane._hosts[self] = host

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """See ``BackplaneLink.attach``."""
        self._backplane._attach(room, self, keep, receiver)

    def detach(self, room: str) -> None:
        """See ``BackplaneLink.detach``."""
        self._backplane._detach(room, self)

    def publish(self, room: str, message: Message) -> int:
        """See ``BackplaneLink.publish``."""
        found = self._backplane._room(room)
        own = None if found is None else found.attached.get(self)
        number = 0 if found is None or own is None else found.publish(own, message)
        if not number:
            raise UsageError(f"room {room!r} is not attached: call attach first")
        return number

    def show(self, room: str, message: Message) -> int | None:
        """See ``BackplaneLink.show``."""
        return None

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

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        """See ``BackplaneLink.history``."""
        found = self._backplane._room(room)
        if found is None:
            return None
        found.settle()
        with found.lock:
            messages = found.stream.last(count)
            return Position(found.stream.epoch, found.stream.top - len(messages)), messages

    def listen(self, box: str, heard: Callable[[bytes], object]) -> None:
        """See ``BackplaneLink.listen``."""
        self._backplane._listen(box, self, heard)

    def unlisten(self, box: str) -> None:
        """See ``BackplaneLink.unlisten``."""
        self._backplane._unlisten(box, self)

    def tell(
        self,
        box: str,
        letter: bytes,
        sent: Callable[[int | None], object],
        within: float | None = None,
    ) -> None:
        """See ``BackplaneLink.tell``."""
        sent(self._backplane._tell(box, letter))

    def keep(self, key: str, record: bytes, seconds: float) -> None:
        """See ``BackplaneLink.keep``."""
        self._backplane._keep(key, self, record, seconds)

    def drop(self, key: str, seconds: float) -> None:
        """See ``BackplaneLink.drop``."""
        self._backplane._drop(key, self)

    def take(self, key: str, timeout: float) -> tuple[str, bytes] | None:
        """See ``BackplaneLink.take``."""
        return self._backplane._take(key, self)

    def lease(
        self,
        room: str,
        token: int,
        seconds: float,
        told: Callable[[LeaseAnswer | None], object],
        saved: bytes | None = None,
    ) -> None:
        """See ``BackplaneLink.lease``."""
        told(self._backplane._lease(room, self, token, seconds, saved))

    def server_age(self) -> float:
        """See ``BackplaneLink.server_age``."""
        return math.inf

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """See ``BackplaneLink.nodes``."""
        hosts = list(self._backplane._hosts.items())
        return [(link.node, 0.0, host.describe()) for link, host in hosts]

    def statistics(self) -> BackplaneStatistics:
        """See ``BackplaneLink.statistics``."""
        return BackplaneStatistics("up")

    def close(self, timeout: float) -> None:
        """See ``BackplaneLink.close``."""
        self._backplane._detach_all(self)
        self._backplane._forget(self)
