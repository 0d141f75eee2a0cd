"""One shared room of one hub: the messages that wait, and the order of those that arrive.

A batch may arrive in three ways: as the answer to the hub's own publish, by subscription, and from
the room's stream.  The room takes whichever comes first, if it follows the last batch.  A batch
that leaves a hole waits until the hole is filled from the stream.

With ``RedisBackplane(local=True)`` the hub's own messages are shown to its members while the
server is away.  Once all these messages have their places, the hub tells the members that they saw
messages without places.

Layer: backplane.  Threads: any thread publishes.  The publisher, the subscriber and the keeper
bring what arrives; the room's lock lets in one of them at a time.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from hubthread.backplane.interfaces import Message, Receiver
from hubthread.backplane.redis.scripts import Keys
from hubthread.backplane.redis.wire import unpack
from hubthread.history import History, Position

__all__ = ["Arrival", "Batch", "Room", "entry_arrival", "parse_arrival"]

BATCH_MESSAGES = 512
BATCH_BYTES = 1 << 20

REPAIR = History(size=256, ttl=30.0, max_bytes=1 << 20)
"""The history of a room that offers none: the stream needs some entries to fill holes."""

LATER_BYTES = 1 << 20
"""The most bytes of batches that wait behind a hole; further batches are read from the stream."""

MOST_ORIGINS = 1024
"""The most origins whose last number is remembered, to find a batch that comes in two epochs."""


class Batch:
    """Messages of this hub that make one entry of the stream."""

    __slots__ = (
        "body", "epoch", "first", "last", "messages", "refused", "room", "token", "top", "waits",
    )  # fmt: skip

    def __init__(self, room: Room, first: int, messages: list[Message], body: bytes) -> None:
        self.room = room
        self.first = first
        self.last = first + len(messages) - 1
        self.messages = messages
        self.body = body
        self.epoch = ""
        """The epoch in which the server has placed the batch; empty before the answer."""
        self.top = 0
        """The offset of the batch's last message, or a later one."""
        self.token = messages[0].token
        """The token of the lease, for pushes of the hub that owns the room; otherwise 0."""
        self.waits = True
        """True until the server has answered."""
        self.refused = False
        """True if the server has refused the batch, because another hub owns the room."""


class Arrival(NamedTuple):
    """A batch of any hub, with its place in the room's order."""

    epoch: str
    last: int
    """The offset of the last message."""
    size: int
    """The number of messages."""
    origin: str
    first: int
    """The number of the first message, among the messages of its origin."""
    body: bytes | None
    """The messages; None for a large batch, which must be read from the stream."""


def parse_arrival(data: bytes) -> Arrival | None:
    """Parse a published batch; None if another version of the library has written it."""
    parts = data.split(b":", 6)
    if len(parts) != 7 or parts[0] != b"1":
        return None
    _, last, count, epoch, origin, first, body = parts
    try:
        place = epoch.decode(), int(last), int(count), origin.decode(), int(first)
    except ValueError:
        return None
    return Arrival(*place, body or None)


def entry_arrival(epoch: str, entry: Any) -> Arrival:
    """Parse an entry of the room's stream.

    :returns: an arrival without a body if another version of the library has written the entry.
    """
    name, fields = entry
    last, _, count = name.partition(b"-")
    place = epoch, int(last), int(count)
    try:
        origin, _, first = fields[3].rpartition(b":")
        return Arrival(*place, origin.decode(), int(first), fields[1])
    except (ValueError, IndexError):
        return Arrival(*place, "", 0, None)


class Room:
    """One shared room, as this hub sees it in Redis.

    :param keep: the history that the room offers; None if it offers none.
    :param want: called with the room when the keeper has to read the stream.
    :param done: called with the room once ``let_go`` was called and all own messages have arrived.
    :param shows: returns True while own messages are shown ahead of their places.
    """

    def __init__(
        self,
        name: str,
        keys: Keys,
        keep: History | None,
        receiver: Receiver,
        want: Callable[[Room], None],
        done: Callable[[Room], None],
        shows: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.keys = keys
        self.keep = keep or REPAIR
        self.name_origin()
        self.receiver = receiver
        self._want = want
        self._done = done
        self._shows = shows
        self.lock = threading.RLock()  # guards what follows
        self.epoch = ""
        """Empty until the position is known."""
        self.top = 0
        """The offset of the last message that has arrived."""
        self.wanted = False
        """True while the keeper is to read the stream."""
        self.dirty = False
        """True while the publisher is to send waiting messages."""
        self.given = 0  # the number of the last own message that ``give`` took
        self.arrived = 0  # the number of the last own message that has arrived, or was given up
        self._fenced = 0  # the last own number from before the server changed
        self._owned = False  # this hub has pushed as the owner: from then on it shows nothing
        self._shown = 0  # the last own number that was shown ahead of its place
        self._unsure = False  # messages were shown, and the members are still to be told so
        self._waiting: deque[tuple[Message, bytes]] = deque()
        self._waiting_bytes = 0
        self._token = 0  # the token of the message that was given last
        self._one_token = True  # all waiting messages have this token
        self._own: deque[Batch] = deque()  # packed, and not arrived yet
        self._later: dict[int, Arrival] = {}  # by the offset before the first message
        self._later_bytes = 0
        self._in_vain = False  # the keeper found nothing, since the last entry of _later came
        self._seen: OrderedDict[str, int] = OrderedDict()  # the last number of each origin
        self._ending = False
        # Epochs that are over.  A late answer may name one of them.
        self._past: deque[str] = deque(maxlen=16)

    def name_origin(self) -> None:
        """Choose the origin: the name of this hub's messages, which no other hub uses.

        Called before the first message is sent.
        """
        self.origin = secrets.token_hex(6)
        self.encoded: tuple[bytes, ...] = ()
        """The parts of the publisher's commands that are the same for each batch."""

    # Any thread.

    def give(self, message: Message, data: bytes) -> tuple[int, bool]:
        """Queue a message; return its number, and True if the publisher has to be woken."""
        with self.lock:
            self.given += 1
            if message.token != self._token:
                self._token, self._one_token = message.token, not self._waiting
                self._owned = True
            self._waiting.append((message, data))
            self._waiting_bytes += len(data)
            tell, self.dirty = not self.dirty, True
            return self.given, tell

    def show(self) -> None:
        """Show the own messages that have no place yet, if the server is away."""
        with self.lock:
            first = max(self.arrived, self._shown) + 1
            if self.given < first or self._owned or not self._shows():
                return
            packed = (each for batch in reversed(self._own) for each in reversed(batch.messages))
            latest = chain((message for message, _ in reversed(self._waiting)), packed)
            messages = list(islice(latest, self.given + 1 - first))
            # Set before the call: a finaliser may push inside it, and then shows only its push.
            self._shown, self._unsure = self.given, True
            self.receiver.shown(messages[::-1], first)

    def show_only(self, message: Message) -> int | None:
        """Show a message that gets no place; return the number of the own message before.

        :returns: None if the message is not shown, because another hub may own the room.
        """
        with self.lock:
            if self._owned or message.token:
                return None
            self.show()
            self._unsure = True
            self.receiver.shown([message], None)
            return self.given

    def look_around(self) -> None:
        """Act on a new state of the server: it is away, or back."""
        with self.lock:
            self.show()
            self._tell_shown()

    def let_go(self) -> None:
        """End the room as soon as all own messages have arrived."""
        with self.lock:
            self._ending = True
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self._ending and self.arrived >= self.given:
            self._done(self)

    # The publisher.

    def next_batch(self) -> Batch | None:
        """Return the next batch of waiting messages, or None if no message waits."""
        with self.lock:
            taken = self._take_waiting()
            if not taken:
                self.dirty = False
                return None
            first = self.given - len(self._waiting) - len(taken) + 1
            body = b"".join([data for _, data in taken])
            batch = Batch(self, first, [message for message, _ in taken], body)
            self._own.append(batch)
            return batch

    def unanswered(self) -> list[Batch]:
        """Return the batches without an answer of the server."""
        with self.lock:
            return [batch for batch in self._own if batch.waits]

    def _take_waiting(self) -> list[tuple[Message, bytes]]:
        """Take waiting messages with the same token, as many as fit into one batch."""
        waiting = self._waiting
        alike = self._one_token
        if alike and len(waiting) <= BATCH_MESSAGES and self._waiting_bytes <= BATCH_BYTES:
            taken = list(waiting)
            waiting.clear()
            self._waiting_bytes = 0
            return taken
        taken = []
        size = 0
        while waiting and len(taken) < BATCH_MESSAGES:
            size += len(waiting[0][1])
            if taken and (size > BATCH_BYTES or waiting[0][0].token != taken[0][0].token):
                break
            taken.append(waiting.popleft())
            self._waiting_bytes -= len(taken[-1][1])
        self._one_token = alike or not waiting
        return taken

    def placed(self, batch: Batch, epoch: str, last: int) -> None:
        """Take an own batch that the server has placed."""
        count = len(batch.messages)
        with self.lock:
            batch.epoch, batch.top = epoch, last
            if batch.last <= self.arrived:
                return  # the answer is late: the batch has arrived in another way
            if self._come_to(epoch):
                self._arrive(Arrival(epoch, last, count, self.origin, batch.first, batch.body))
            else:
                self._lose_own(epoch)

    def refused(self, batch: Batch) -> None:
        """Take an own batch that the server has refused, and that gets no place."""
        with self.lock:
            batch.refused = True
            self._drop_refused()

    def moved(self, epoch: str, top: int) -> None:
        """Learn the room's position, for the first time or after its epoch was lost."""
        with self.lock:
            if not self.epoch:
                self.epoch, self.top = epoch, top
                self.receiver.attached(Position(epoch, top))
                self._tell_shown()
                return
            if self._come_to(epoch) and top > self.top:
                self.want()

    def reconnected(self, *, anew: bool) -> None:
        """Learn that the publisher has another connection.

        :param anew: True if the server is another one, which may not know the owner of the room.
        """
        with self.lock:
            self._past.clear()
            if anew:
                self._fenced = self.given
            self.want()

    def refuse_fenced(self, batch: Batch) -> bool:
        """Refuse an own batch from before the server changed; return True if it was refused.

        Another hub may have got the room, and only the server before knew this.
        """
        if not batch.token or batch.first > self._fenced:
            return False
        self.refused(batch)
        return True

    # The subscriber.

    def came(self, arrival: Arrival) -> None:
        """Take a batch that was published."""
        with self.lock:
            if not self.epoch:
                return  # the first position, which is read next, may be after this batch
            if arrival.epoch != self.epoch:
                self.want()  # only the server of the publisher decides on the epoch
            else:
                self._arrive(arrival)

    # The keeper.

    def want(self) -> None:
        """Have the keeper read the stream."""
        with self.lock:
            if not self.wanted and self.epoch:
                self.wanted = True
                self._want(self)

    def fetched(self, since: Position, epoch: str, top: int, entries: Sequence[Any]) -> None:
        """Take entries that the keeper has read from the stream.

        :param since: the position after which the keeper has read.
        :param epoch: the epoch of the room in Redis.
        :param top: the offset of the last message in Redis.
        :param entries: the entries after ``since``, all or the first of them.
        """
        with self.lock:
            self.wanted = False
            if since.epoch != self.epoch or epoch != self.epoch:
                # The epoch has changed, so the entries are useless.  If the keeper began in the
                # present epoch and found another one, the other one is newer.
                if since.epoch == self.epoch:
                    if epoch in self._past:
                        self._past.remove(epoch)
                    self._come_to(epoch)
                self.want()
                return
            for entry in entries:
                arrival = entry_arrival(epoch, entry)
                if arrival.last - arrival.size > self.top:
                    self._lose(arrival.last - arrival.size)
                self._arrive(arrival)
                if arrival.last > self.top:  # no hub of this version can read the entry
                    self._lose(arrival.last)
            if not entries and top > self.top:
                self._lose(min(top, *self._later) if self._later else top)
                self._take_later()
            if self._later and top <= self.top and self._in_vain:
                # The keeper read after these batches came, and did not find them: forged.
                self._later.clear()
                self._later_bytes = 0
            if top > self.top or self._later:
                self._in_vain = top <= self.top
                self.want()
            else:
                self._lose_passed()

    def position(self) -> Position:
        """Return the position of the last message that has arrived."""
        with self.lock:
            return Position(self.epoch, self.top)

    # Under the lock.

    def _come_to(self, epoch: str) -> bool:
        """Begin an epoch, unless it is the present one; return False for an epoch of the past."""
        if epoch == self.epoch:
            return True
        if epoch in self._past:
            return False
        before = self.epoch
        self._past.append(before)
        self.epoch, self.top = epoch, 0
        self._later.clear()
        self._later_bytes = 0
        self.receiver.lost(Position(epoch, 0), "epoch")
        self._lose_own(before)
        self.want()
        return True

    def _lose_own(self, epoch: str) -> None:
        """Give up own messages that were placed in an epoch of the past."""
        self._lose_while(lambda batch: batch.epoch == epoch)

    def _lose_passed(self) -> None:
        """Give up own messages whose places this hub has passed without getting them."""
        self._lose_while(lambda batch: batch.epoch == self.epoch and batch.top <= self.top)

    def _lose_while(self, lost: Callable[[Batch], bool]) -> None:
        number = 0
        for batch in self._own:
            if not lost(batch):
                break
            number = batch.last
        if number:
            self.receiver.lost(Position(self.epoch, self.top), "trimmed", number)
            self._drop_own(number)

    def _lose(self, top: int) -> None:
        """Go on after messages that are not in the stream any more."""
        self.top = top
        self.receiver.lost(Position(self.epoch, top), "trimmed")
        self._lose_passed()

    def _arrive(self, arrival: Arrival) -> None:
        """Take a batch of the present epoch, or keep it until the batches before it have come."""
        if arrival.last <= self.top:
            if arrival.origin == self.origin:
                self._lose_passed()
            return
        start = arrival.last - arrival.size
        if start > self.top or (arrival.body is None and arrival.origin != self.origin):
            size = len(arrival.body or b"")
            if arrival.body is not None and self._later_bytes + size <= LATER_BYTES:
                self._later_bytes += size
                self._later[start] = arrival
                self._in_vain = False
            self.want()
            return
        self._take(arrival)
        if self._later:
            self._take_later()

    def _take_later(self) -> None:
        for start in sorted(self._later):
            if start > self.top:
                return
            arrival = self._later.pop(start)
            self._later_bytes -= len(arrival.body or b"")
            if arrival.last > self.top:
                self._take(arrival)

    def _take(self, arrival: Arrival) -> None:
        place = Position(self.epoch, self.top + 1)
        skipped = self.top - (arrival.last - arrival.size)
        last_number = arrival.first + arrival.size - 1
        own = arrival.origin == self.origin
        again = self._seen.get(arrival.origin, 0) >= last_number
        messages = self._messages(arrival)
        if messages is None:
            self.want()
            return
        self.top = arrival.last
        if again:  # the server before took the batch and died, so it was sent a second time
            self.receiver.lost(Position(self.epoch, self.top), "epoch")
        else:
            # Own messages that were given up come without numbers, like those of another hub.  If
            # they were shown they need their numbers: the receiver has sent them already.
            known = own and (last_number > self.arrived or arrival.first <= self._shown)
            number = arrival.first + skipped if known else None
            self.receiver.arrived(place, messages[skipped:], number)
        self._seen[arrival.origin] = last_number
        self._seen.move_to_end(arrival.origin)
        if len(self._seen) > MOST_ORIGINS:
            self._seen.popitem(last=False)
        if own:
            self._drop_own(last_number)

    def _messages(self, arrival: Arrival) -> Sequence[Message] | None:
        if arrival.origin == self.origin:
            for batch in self._own:
                if batch.first == arrival.first:
                    return batch.messages
        if arrival.body is None:
            return None
        try:
            messages = unpack(arrival.body)
        except ValueError:
            return None
        return messages if len(messages) == arrival.size else None

    def _drop_own(self, number: int) -> None:
        self.arrived = max(self.arrived, number)
        while self._own and self._own[0].last <= number:
            self._own.popleft()
        self._drop_refused()

    def _drop_refused(self) -> None:
        """Drop refused batches, once all own batches before them have arrived."""
        while self._own and self._own[0].refused:
            self.arrived = self._own.popleft().last
            self.receiver.refused(self.arrived)
        self._tell_shown()
        self._end_if_done()

    def _tell_shown(self) -> None:
        """Tell the members of messages that were shown, once all of these have their places."""
        placed = bool(self.epoch) and self.arrived >= self._shown
        if self._unsure and placed and not self._shows():
            self._unsure = False
            self.receiver.lost(Position(self.epoch, self.top), "local")
