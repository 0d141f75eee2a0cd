"""What an outbox has sent, keeps back and lets wait.

Layer: net, without a lock or thread of its own: everything here is called under the
outbox's lock, writes the socket without waiting for it, and runs nobody else's code.

A message goes to the socket at once; or it is *kept*, while somebody holds the outbox, to
be offered together with what follows; or it joins the *backlog*, because the socket has not
taken something before it.  Nothing is kept while there is a backlog.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence

from hubthread.concurrency.calls import thread_id
from hubthread.net.backlog import Backlog
from hubthread.net.options import OutboxBounds
from hubthread.net.transport import Transport

__all__ = ["Sending"]


class Sending:
    """The state of an outbox, and its steps.

    Steps that may need another thread or end the connection return what is to be seen to
    without the lock: whether a writer is to be started, and trouble.
    """

    __slots__ = (
        "_alone", "_backlog", "_clear", "_condition", "_consumed", "_direct", "_finished",
        "_half_closing", "_kept", "_kept_size", "_limits", "_lock", "_lost", "_open",
        "_transport", "_writer", "count", "holding",
    )  # fmt: skip

    def __init__(self, transport: Transport, limits: OutboxBounds) -> None:
        self._transport = transport
        self._limits = limits
        self._lock = threading.Lock()  # the outbox's; it guards all that follows
        self._condition: threading.Condition | None = None  # made with the first backlog
        self._backlog = Backlog(limits)
        self._consumed = 0
        self._open = True  # more is accepted
        self._clear = True  # ... and the socket has taken all that it was offered
        self._direct = True  # ... and nobody holds: the sender may try the socket itself
        self.holding = False  # what is sent is kept until ``release``, within bounds
        self._alone: frozenset[int] = frozenset()  # ... and so is what these threads send
        self._kept: list[bytes] | None = None
        self._kept_size = 0
        self._finished = False  # the last frame is sent or waits
        self._half_closing = False  # the sending side ends when nothing waits any more
        self._lost = False  # the socket is no longer touched, and nothing waits for it
        self._writer = False  # there is a writer thread, or one is being started
        self.count = 0

    def _offer(self, data: bytes) -> int:
        try:
            return self._transport.send(data)
        except OSError:
            return -1

    def _queue(
        self, sent: int, wires: Sequence[bytes], keys: Sequence[Hashable], first: int | None
    ) -> tuple[bool, str | None]:
        """Queue what is left of ``wires`` when ``sent`` bytes are out (-1: broken).

        :param first: the number of the first message; ``None``: a control frame.
        :returns: what is to be seen to without the lock: whether a writer is to be
            started, and trouble.
        """
        trouble = None
        if sent < 0:
            return False, self._lose("lost")
        if self._open:
            for place, (wire, key) in enumerate(zip(wires, keys, strict=True)):
                number = None if first is None else first + place
                if sent >= len(wire):
                    sent -= len(wire)  # out
                elif sent:
                    self._backlog.begin(number, memoryview(wire)[sent:])
                    sent = 0
                elif not self._backlog.admit(number, wire, key):
                    # What of this run comes behind it is dropped like itself.
                    self._backlog.dropped += len(wires) - place - 1
                    self._open = False
                    trouble = "overflow"
                    break
        return self._call_writer(), trouble

    def _keep(self, wires: Sequence[bytes], size: int) -> bool:
        """Keep messages of ``size`` bytes in all, if they are held and are not too much.

        A message of 16 takes 0.6 µs, kept and sent; by the backlog it was 2.8 (CPython 3.11).
        """
        if not self._clear or not (self.holding or thread_id() in self._alone):
            return False
        kept = self._kept
        if kept is None:
            kept = self._kept = []
        size += self._kept_size
        count = len(wires)
        if len(kept) + count > self._limits.cork_messages or size > self._limits.cork_bytes:
            return False
        kept += wires
        self._kept_size = size
        self.count += count
        return True

    def _send_behind(
        self,
        joined: bytes,
        wires: Sequence[bytes],
        keys: Sequence[Hashable],
        *,
        counted: bool = True,
    ) -> tuple[bool, str | None]:
        """Send frames, messages if ``counted``, behind all that is kept or waits; as ``_queue``.

        So a client that reads never overflows for being answered together.
        """
        start, trouble = self._send_kept()
        first = None
        if counted:
            first = self.count + 1
            self.count += len(wires)
        sent = self._offer(joined) if self._clear else 0
        more, worse = self._queue(sent, wires, keys, first)
        return start or more, trouble or worse

    def _send_kept(self) -> tuple[bool, str | None]:
        """Offer the socket all that is kept, together; as ``_queue``."""
        kept = self._kept
        if not kept:
            return False, None
        self._kept, self._kept_size = None, 0
        joined = b"".join(kept)
        sent = self._offer(joined)
        if sent == len(joined) and not self._transport.unsent:
            self._consumed = self.count
            return False, None
        # No keys: where they mean something nothing is kept.
        return self._queue(sent, kept, (None,) * len(kept), self.count - len(kept) + 1)

    def _call_writer(self) -> bool:
        """See that a writer brings out what waits; whether one is to be started."""
        self._settle()
        if not self._pending():
            return False
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        if self._writer:
            self._condition.notify_all()
            return False
        self._writer = True
        return True

    def _settle(self) -> None:
        """Note what has gone; after each change, with nothing kept."""
        pending = self._pending()
        self._clear = self._open and not pending
        self._direct = self._clear and not (self.holding or self._alone)
        if not pending:
            self._consumed = self.count
            if self._half_closing and not self._lost:
                self._half_closing = False
                self._transport.finish()
        elif not self._transport.unsent:  # else the transport has the end of a message
            first = self._backlog.first
            self._consumed = self.count if first is None else first - 1

    def _pending(self) -> bool:
        return not self._lost and (bool(self._backlog) or bool(self._transport.unsent))

    def _lose(self, trouble: str) -> str:
        """Nothing can be sent any more."""
        self._lost = True
        self._open = False
        self._kept, self._kept_size = None, 0
        self._backlog.forget()
        self._settle()
        if self._condition is not None:
            self._condition.notify_all()
        return trouble

    def _send_some(self) -> bool:
        """Offer the socket the first of the backlog; whether it took anything."""
        unsent = self._transport.unsent
        sent = self._transport.send(self._backlog.chunk())
        self._backlog.taken(sent)
        self._settle()
        return sent > 0 or self._transport.unsent < unsent

    def _drop_waiting(self) -> None:
        self._backlog.drop_waiting()
        if self._kept:
            self._backlog.dropped += len(self._kept)
            self._kept, self._kept_size = None, 0
