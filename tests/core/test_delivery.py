"""The spans of pushes that wait in members' outboxes."""

from __future__ import annotations

from hubthread.core.delivery import MOST_SPANS, Delivery
from tests.core.room_members import Peer


def behind(writes: int) -> Peer:
    """Return a member with so many messages that it has not consumed."""
    peer = Peer()
    peer.written = [None] * writes
    return peer


def test_delivery_first_pending_has_the_members_own_number() -> None:
    """The push may be in the middle of a span, or behind messages of other senders."""
    delivery, peer = Delivery[Peer](), behind(10)
    delivery.add(peer, 4, 6, 10)
    assert delivery.first_pending(3) is None
    assert [delivery.first_pending(push) for push in (4, 5, 6)] == [
        (peer, 8),
        (peer, 9),
        (peer, 10),
    ]
    assert delivery.first_pending(7) is None
    peer.consume(8)
    assert delivery.first_pending(4) is None
    assert delivery.first_pending(5) == (peer, 9)


def test_delivery_push_between_two_spans_does_not_wait() -> None:
    delivery, peer = Delivery[Peer](), behind(5)
    delivery.add(peer, 1, 1, 1)
    delivery.add(peer, 3, 4, 5)
    assert delivery.first_pending(2) is None
    assert delivery.first_pending(4) == (peer, 5)


def test_delivery_pushes_with_gaps_wait_as_consecutive_messages() -> None:
    delivery, peer = Delivery[Peer](), behind(5)
    delivery.add_some(peer, [1, 2, 4, 7], 5)
    found = [delivery.first_pending(push) for push in range(1, 9)]
    assert found == [(peer, 2), (peer, 3), None, (peer, 4), None, None, (peer, 5), None]


def test_delivery_gaps_beyond_most_spans_count_as_consumed_with_the_last() -> None:
    delivery, peer = Delivery[Peer](), behind(2 * MOST_SPANS)
    pushes = list(range(1, 4 * MOST_SPANS, 2))
    delivery.add_some(peer, pushes, len(pushes))
    peer.consume(len(pushes) - 1)
    assert delivery.first_pending(pushes[-2]) == (peer, len(pushes))


def test_delivery_consumed_spans_and_members_are_forgotten() -> None:
    delivery, slow, quick = Delivery[Peer](), behind(2), behind(1)
    delivery.add(slow, 1, 2, 2)
    delivery.add(quick, 1, 1, 1)
    assert len(delivery) == 2
    quick.consume(1)
    assert delivery.first_pending(1) == (slow, 1)
    assert len(delivery) == 1
    slow.vanished = True
    delivery.forget_consumed()
    assert len(delivery) == 0


def test_delivery_beyond_most_spans_extends_the_last_one() -> None:
    """These pushes count as consumed with the last of them; none is lost from sight."""
    delivery, peer = Delivery[Peer](), behind(2 * (MOST_SPANS + 10))
    for push in range(1, MOST_SPANS + 11):
        delivery.add(peer, push, push, 2 * push)
    last = MOST_SPANS + 10
    assert delivery.first_pending(last) == (peer, 2 * last)
    peer.consume(2 * last - 1)
    assert delivery.first_pending(last) == (peer, 2 * last)
    assert delivery.first_pending(MOST_SPANS - 1) is None
    peer.consume(2 * last)
    assert delivery.first_pending(last) is None
