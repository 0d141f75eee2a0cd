"""The pushes of a room that wait in its members' outboxes; ``push_log.py`` fans them out.

Layer: core.  Threads: every method is called under the lock of the room's push log.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from hubthread.protocol.batch import FrameBatch

__all__ = ["Delivery", "Member"]


class Member(Protocol):
    """A member of a push log: the part that all kinds of clients have in common."""

    @property
    def subprotocol(self) -> str | None:
        """The member's subprotocol."""

    def send_batch(self, batch: FrameBatch) -> int:
        """Send a batch.

        :returns: the member's own number of the batch's last message if that has to wait,
            or zero.
        """

    def is_batch_consumed(self, number: int) -> bool:
        """Return True if message ``number`` no longer waits, or the member is gone."""

    def wait_batch_consumed(self, number: int, timeout: float | None) -> bool:
        """Wait until ``is_batch_consumed(number)``; return False after ``timeout`` seconds."""


M = TypeVar("M", bound=Member)

MOST_SPANS = 256
"""The most spans that are kept for one member; later pushes then extend the last span.  An
outbox that drops messages may never catch up."""


class _Span:
    """Pushes ``first`` to ``last``, which wait as consecutive messages of one member."""

    __slots__ = ("first", "gaps", "last", "write")

    def __init__(self, first: int, last: int, write: int) -> None:
        self.first = first
        self.last = last
        self.write = write
        """The member's own number of push ``last``."""
        self.gaps = False
        """True if an extended span has pushes that the member did not get."""

    def write_of(self, push: int) -> int:
        """Return the member's own number of ``push``; in an extended span, a later number."""
        return self.write if self.gaps else self.write - (self.last - push)


class Delivery(Generic[M]):
    """The members with a backlog, and for each of them the spans of pushes that wait."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: dict[M, deque[_Span]] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, member: M, first: int, last: int, write: int) -> None:
        """Note that pushes ``first`` to ``last`` wait at ``member``.

        :param write: the member's own number of push ``last``.
        """
        spans = self._spans.setdefault(member, deque())
        # Here, so that the member's outbox bounds the spans even without a query.
        while spans and member.is_batch_consumed(spans[0].write):
            spans.popleft()
        if len(spans) < MOST_SPANS:
            spans.append(_Span(first, last, write))
        else:
            # Each of these pushes counts as consumed with the last of them.
            spans[-1].gaps |= first > spans[-1].last + 1
            spans[-1].last, spans[-1].write = last, write

    def add_some(self, member: M, pushes: list[int], write: int) -> None:
        """Note that some pushes, in ascending order, wait at ``member``.

        :param write: the member's own number of the last of them.
        """
        first = pushes[0]
        for place, push in enumerate(pushes, 1):
            if place == len(pushes) or pushes[place] != push + 1:
                self.add(member, first, push, write - (len(pushes) - place))
                if place < len(pushes):
                    first = pushes[place]

    def forget_consumed(self) -> None:
        """Forget the spans that have been consumed, and the members without any left."""
        for member in list(self._spans):
            spans = self._spans[member]
            while spans and member.is_batch_consumed(spans[0].write):
                spans.popleft()
            if not spans:
                del self._spans[member]

    def first_pending(self, push: int) -> tuple[M, int] | None:
        """Return a member at which ``push`` waits, and its own number of the push; or None."""
        self.forget_consumed()
        for member, spans in self._spans.items():
            # From the end: callers mostly ask for the last push.  A member without a span that
            # holds the push was not in at the time, or has consumed it.
            span = next((span for span in reversed(spans) if span.first <= push), None)
            if span is not None and push <= span.last:
                write = span.write_of(push)
                if not member.is_batch_consumed(write):
                    return member, write
        return None
