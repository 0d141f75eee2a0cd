"""Connections whose messages outlive them, for a peer that comes back.

Layer: net.  Threads: as ``outbox`` and ``connection``.

When such a connection is lost, its outbox passes everything on to an ``AwayOutbox``: the waiting
messages, their numbers, and the log of the messages that the socket has taken.  Messages that come
while the peer is away wait there, within the same bounds.  When the peer is back, the outbox of
its new connection takes everything over.  It first sends the messages that the peer has not got.

An outbox that has passed its messages on forwards all later messages, too.  So a thread may go on
to send while a connection is lost or replaced.  Lock order: outboxes in the order in which the
messages went.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from hubthread.concurrency.deadline import Deadline
from hubthread.net.backlog import Backlog
from hubthread.net.connection import Connection
from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import Outbox
from hubthread.net.sending import FollowUp
from hubthread.net.sent_log import RecordingTransport, SentLog
from hubthread.net.steps import Watching
from hubthread.net.traffic import Traffic
from hubthread.net.transport import SendingHalf
from hubthread.protocol.batch import Encoding, FrameBatch
from hubthread.protocol.close_codes import CloseCode
from hubthread.protocol.frames import APPLICATION_CODES, Frame, check_code
from hubthread.types import Overflow

__all__ = [
    "MOVED",
    "AwayLink",
    "AwayOutbox",
    "Greeting",
    "LastingConnection",
    "LastingOutbox",
]

AWAY = "away"
MOVED = "taken over"
NORMAL = 1000

_LOST = frozenset({"lost", "silent", "stalled", "no thread", "overflow", MOVED})
"""The causes of an end after which the client may come back.  After some Closes it may, too."""


class Greeting(NamedTuple):
    """The first message of a connection whose peer has come back."""

    encode: Callable[[int, int], bytes]
    """Returns the frame.  Called with the number of lost messages, and the greeting's number."""
    got: int | None
    """The number of the last message that the peer has got; ``None`` if it does not count."""


class _Estate(NamedTuple):
    """All that one outbox passes on to the next."""

    number: int
    """The number of the last write."""
    backlog: Backlog
    log: SentLog
    lost: int


class LastingOutbox(Outbox):
    """An outbox that passes its messages on when its connection ends.

    Threads: as ``Outbox``.
    """

    __slots__ = ("_heir", "_log", "keeps", "lost")

    def __init__(
        self,
        transport: SendingHalf,
        bounds: OutboxBounds,
        start_thread: Callable[[Callable[[], None], str], None],
        on_broken: Callable[[str], None],
        traffic: Traffic | None = None,
    ) -> None:
        super().__init__(transport, bounds, start_thread, on_broken, traffic)
        self.keeps = False
        """True while the messages are to outlive the connection."""
        # The lock guards what follows, too.
        self._log: SentLog | None = None
        self._heir: LastingOutbox | None = None  # the outbox that has taken everything over
        self.lost = 0
        """The number of lost messages that no greeting has told the peer of."""

    # For the session.

    def open(self, greeting: bytes) -> None:
        """Keep the messages from now on.

        :param greeting: the frame that goes out first.  It has no number among the writes.
        """

        def begin() -> FollowUp:
            return self._begin(SentLog(self._bounds.sent_bytes), greeting)

        self._change(begin)

    def park(self) -> LastingOutbox:
        """Give up the connection; return the outbox that has the messages now."""
        self._change(self._park)
        assert self._heir is not None
        return self._heir

    def pass_to(self, heir: LastingOutbox, greeting: Greeting) -> None:
        """Pass everything on to the outbox of the peer's new connection.

        It sends the greeting, the messages that the peer has not got, and those that wait.
        """
        if self._heir is None:
            self._change(lambda: self._pass(heir, greeting))
        else:
            self._heir.pass_to(heir, greeting)

    def is_possible(self, got: int) -> bool:
        """Return True if the peer may have got message ``got``."""
        with self._lock:
            if self._heir is not None:
                return self._heir.is_possible(got)
            return self._log is not None and got <= self._log.last

    def forget(self) -> None:
        """Forget the messages, because the peer does not come back."""
        with self._lock:
            self.keeps = False
            heir = self._heir
        if heir is not None:
            heir.forget()

    # As ``Outbox``.

    def send_batch(self, joined: bytes, wires: Sequence[bytes], keys: Sequence[Hashable]) -> int:
        """See ``Outbox``."""
        waits = super().send_batch(joined, wires, keys)
        if self._heir is None:
            return waits
        last = self.count
        return 0 if self._heir.is_consumed(last) else last

    def is_consumed(self, number: int) -> bool:
        """See ``Outbox``."""
        heir = self._heir
        return super().is_consumed(number) if heir is None else heir.is_consumed(number)

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """See ``Outbox``; the wait goes on where the messages go."""
        deadline = Deadline(timeout)
        if self._heir is None and not super().wait_consumed(number, timeout):
            return False
        heir = self._heir
        return heir is None or heir.wait_consumed(number, deadline.left())

    def waiting(self) -> tuple[int, int]:
        """See ``Outbox``."""
        heir = self._heir
        return super().waiting() if heir is None else heir.waiting()

    # Parts of changes: the caller holds the lock.

    def _add(
        self,
        joined: bytes,
        wires: Sequence[bytes],
        keys: Sequence[Hashable],
        *,
        counted: bool = True,
    ) -> FollowUp:
        heir = self._heir
        if heir is None:
            return super()._add(joined, wires, keys, counted=counted)
        if counted:
            self.count = heir._change(partial(heir._add, joined, wires, keys), len(wires))
        return None

    def _collect(self, wires: Sequence[bytes], keys: Sequence[Hashable], size: int) -> bool:
        return self._heir is None and super()._collect(wires, keys, size)

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> FollowUp:
        if not self.keeps or first is None:
            return super()._queue(sent, wires, keys, first)
        follow_up = self._lose("lost") if self._heir is None and sent < 0 else None
        if self._pass_late(wires, keys, first):
            return follow_up
        backlog, counts = self._backlog, self._traffic.counts
        dropped = backlog.dropped
        for place, (wire, key) in enumerate(zip(wires, keys, strict=True)):
            if not backlog.add(sent, (wire,), (key,), first + place):
                backlog.dropped -= 1  # the message is not dropped: it waits for the peer
                counts.dropped += backlog.dropped - dropped
                self._park()
                self._pass_late(wires[place:], keys[place:], first + place)
                return self._call_writer(), "overflow"
            sent = max(0, sent - len(wire))
        dropped = backlog.dropped - dropped
        counts.dropped += dropped
        if self._bounds.overflow is not Overflow.LATEST:
            self.lost += dropped  # told by the next greeting, if the peer is gone already
        return self._call_writer(), None

    def _pass_late(self, wires: Sequence[bytes], keys: Sequence[Hashable], first: int) -> bool:
        """Pass numbered messages on, if the present change has given the connection up."""
        heir = self._heir
        if heir is not None:
            heir._take(wires, keys, first)
        return heir is not None

    def _take(self, wires: Sequence[bytes], keys: Sequence[Hashable], first: int) -> None:
        """Queue messages that have their numbers already."""
        self._change(lambda: self._queue(0, wires, keys, first))

    def _update(self) -> bool:
        direct = super()._update()
        if self._heir is not None:
            self._clear = not self._lost and not self._pending()
        # No sender tries the socket itself: a change that fails there would lose its message.
        return direct and not self.keeps

    def _lose(self, trouble: str | None) -> FollowUp:
        if self.keeps and not self._lost and self._heir is None:
            self._park()
        return super()._lose(trouble)

    def _recover(self) -> FollowUp:
        self.keeps = False  # the log may lack bytes that the socket has taken
        return super()._recover()

    def _park(self) -> FollowUp:
        if self._heir is None:
            self._pass(AwayOutbox(self._bounds, self._traffic), None)
        return None

    def _pass(self, heir: LastingOutbox, greeting: Greeting | None) -> FollowUp:
        """Pass everything on to ``heir``, and forward all later messages."""
        other = self._heir
        if other is not None:  # everything has gone there meanwhile
            other._change(lambda: other._pass(heir, greeting))
            return None
        log = self._log
        assert log is not None
        backlog, self._backlog = self._backlog, Backlog(self._bounds)
        collected = self._collected
        if collected:
            keys = self._collected_keys or ()
            self._collected, self._collected_keys, self._collected_size = None, None, 0
            backlog.add(0, collected, keys, self.count - len(collected) + 1)
        # The peer of the old connection must not see half a frame.
        missing = log.add_rest(backlog.pass_on(heir._bounds))
        if missing:
            self._backlog.begin(None, missing)
        transport = self.transport
        if isinstance(transport, RecordingTransport):
            self.transport = transport.inner
        self._log, self._heir, self._open = None, heir, False
        if self._condition is not None:
            self._condition.notify_all()
        estate = _Estate(self.count, backlog, log, self.lost)
        heir._change(lambda: heir._inherit(estate, greeting))
        return None

    def _inherit(self, estate: _Estate, greeting: Greeting | None) -> FollowUp:
        """Take over everything that another outbox has passed on."""
        if self._heir is None and self._open:
            self.count, self._backlog, log, self.lost = estate
            if greeting is None:
                self._log = log
                return None
            rewound = log.rewind(greeting.got)
            lost, self.lost = self.lost + rewound.lost, 0
            log.tell(lost)
            frames = [greeting.encode(lost, rewound.number), *rewound.frames]
            return self._begin(log, b"".join(frames))
        # The new connection has ended before it could begin.
        if self._heir is None:
            self._heir, self.keeps = AwayOutbox(self._bounds, self._traffic), True
        heir = self._heir
        heir._change(lambda: heir._inherit(estate, None))
        self.count = heir.count
        return None

    def _begin(self, log: SentLog, frames: bytes) -> FollowUp:
        """Send ``frames`` before the waiting messages, and keep a log from now on."""
        self.keeps, self._log = True, log
        self.transport = RecordingTransport(self.transport, log)
        self._backlog.begin(None, frames)
        sent = self._offer(self._backlog.chunk())
        if sent < 0:
            return self._lose("lost")
        self._backlog.taken(sent)
        return self._call_writer(), None


class _Nowhere:
    """A transport that takes nothing."""

    unsent = 0
    watch: Watching | None = None

    def send(self, data: bytes | memoryview) -> int:
        return 0

    def wait_writable(self, timeout: float) -> bool:
        return False

    def finish(self) -> None:
        pass


_NOWHERE = _Nowhere()


def _ignore(*_: object) -> None:
    """Do nothing: there is no connection that could break or need a writer."""


class AwayOutbox(LastingOutbox):
    """The messages of a peer that is away, until it comes back or is given up.

    The bounds and the policy are those of a connection.  Only ``Overflow.CLOSE`` would end a
    client because of a bad network, so the oldest messages are dropped instead.  The greeting
    tells the peer how many messages are lost.  A message that is replaced by a later message with
    the same key does not count as lost.

    Threads: as ``Outbox``.
    """

    __slots__ = ()

    def __init__(self, bounds: OutboxBounds, traffic: Traffic) -> None:
        if bounds.overflow is Overflow.CLOSE:
            bounds = replace(bounds, overflow=Overflow.DROP_OLDEST)
        super().__init__(_NOWHERE, bounds, _ignore, _ignore, traffic)

    def forget(self) -> None:
        """See ``LastingOutbox``."""
        super().forget()
        self.end()

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> FollowUp:
        if self._open and first is not None:
            if self._condition is not None:
                self._condition.notify_all()  # dropped messages are consumed
            replaces = self._bounds.overflow is Overflow.LATEST
            for place, (wire, key) in enumerate(zip(wires, keys, strict=True)):
                dropped = self._backlog.dropped
                fits = self._backlog.add(0, (wire,), (key,), first + place)
                dropped = self._backlog.dropped - dropped
                self._traffic.counts.dropped += dropped
                self.lost += not fits if replaces else dropped
        return None

    def _call_writer(self) -> bool:
        return False


class LastingConnection(Connection):
    """The server's end of one WebSocket, whose client may come back on another WebSocket.

    Threads: as ``Connection``.
    """

    outbox: LastingOutbox
    outbox_class = LastingOutbox
    close_later: Callable[[int, str], object] = _ignore
    """Called with code and reason when the program closes a lost connection."""

    @property
    def is_lost(self) -> bool:
        """True if the connection has ended, and its client may come back."""
        cause, code = self.ended_by, self.code
        if cause == "peer":
            return code is not None and code != NORMAL and code < APPLICATION_CODES
        return cause in _LOST

    @property
    def encoding(self) -> Encoding:
        """The encoding of pushes and of waiting messages, which the next connection has, too."""
        return self._encoding

    def take_over(self) -> None:
        """Close the connection, because the client has come back on another connection."""
        super().close(CloseCode.TAKEN_OVER, "connected elsewhere", ended_by=MOVED)

    def close(
        self,
        code: int = NORMAL,
        reason: str = "",
        *,
        ended_by: str = "server",
        limit: str | None = None,
    ) -> None:
        """See ``Connection``."""
        super().close(code, reason, ended_by=ended_by, limit=limit)
        if ended_by == "server" and self.is_lost:
            self.close_later(code, reason)

    def _finish(self, *, drop_waiting: bool) -> None:
        if self.outbox.keeps:
            if self.is_lost:
                self.outbox.park()
            else:
                self.outbox.forget()
        super()._finish(drop_waiting=drop_waiting)


class AwayLink:
    """The stand-in for a connection while its client is away.

    Threads: any thread may call every method.

    :param connection: the connection that is lost.
    :param end: called with code and reason when the program closes the client.
    """

    clean = False
    is_open = False

    def __init__(self, connection: LastingConnection, end: Callable[[int, str], object]) -> None:
        self.outbox = connection.outbox.park()
        """The outbox where the messages wait."""
        self.encoding = connection.encoding
        """The encoding of pushes."""
        self._end = end
        self._cause = connection.ended_by
        self.ended_by: str | None = AWAY
        """``"away"``; at the end the cause of the loss, or ``"server"``."""
        self.limit = connection.limit
        """The limit that ended the connection, if a limit did."""
        self.code = connection.code
        """The close code of the lost connection."""
        self.reason = connection.reason
        """The reason that goes with ``code``."""
        bits: Any = self.encoding
        self._window_bits: int | None = getattr(bits, "window_bits", bits)

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped instead of sent."""
        return self.outbox.dropped

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """See ``Link``."""
        bits = self._window_bits
        return self.outbox.send(frame.wire if bits is None else frame.deflated(bits), key)

    def send_batch(self, batch: FrameBatch) -> int:
        """See ``Link``."""
        joined, wires = batch.encoded(self.encoding)
        return self.outbox.send_batch(joined, wires, batch.places)

    def send_control(self, frame: Frame) -> None:
        """Do nothing: a peer that is away cannot be pinged."""

    def close(
        self,
        code: int = NORMAL,
        reason: str = "",
        *,
        ended_by: str = "server",
        limit: str | None = None,
    ) -> None:
        """End the client now; see ``Link``."""
        check_code(code)
        self._end(code, reason)

    def shutdown(self) -> None:
        """End the client now, because the hub ends."""
        self._end(1001, "")

    def over(self, by: str | None = None) -> None:
        """Note the end of the client.

        :param by: ``"server"`` if the program has closed it; ``None`` at the end of the grace.
        """
        self.ended_by = by or self._cause
        self.outbox.forget()
