"""G4: one order for all members; each gets exactly the pushes between its answer and hangup."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import QueueFull
from tests.support import TIMEOUT, AnyHub, Items, fence, in_thread, serving, together


@contextlib.contextmanager
def held(hub: AnyHub) -> Iterator[None]:
    """Keep the hub thread busy, so that pushes wait."""
    inside, release = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        inside.set()
        release.wait(TIMEOUT)

    hub.exec_async(hold)
    assert inside.wait(TIMEOUT)
    try:
        yield
    finally:
        release.set()


def test_room_pushes_of_several_threads_arrive_in_one_order() -> None:
    with serving() as s:
        pairs = s.pairs(4)
        hotline = s.hub.hotline()
        for _, client in pairs:
            hotline.answer(client)
        numbers: Items[tuple[int, str]] = Items()

        def push(who: int) -> None:
            for step in range(100):
                numbers.add((hotline.push(f"{who} {step}"), f"{who} {step}"))

        together(5, push)
        seen = [peer.messages(500) for peer, _ in pairs]
    expected = [text for _, text in sorted(numbers.now())]
    assert [number for number, _ in sorted(numbers.now())] == list(range(1, 501))
    for messages in seen:
        assert messages == expected


def test_broadcasts_of_several_threads_arrive_in_one_order() -> None:
    """The clients that broadcast see them in the same order."""
    with serving() as s:
        pairs = s.pairs(3)

        def broadcast(who: int) -> None:
            for step in range(50):
                pairs[who][1].hub_broadcast(f"{who} {step}")

        together(3, broadcast)
        seen = [peer.messages(150) for peer, _ in pairs]
    assert seen[0] == seen[1] == seen[2]
    assert sorted(map(str, seen[0])) == sorted(
        f"{who} {step}" for who in range(3) for step in range(50)
    )


def test_broadcasts_with_filter_arrive_in_order_with_the_others() -> None:
    with serving() as s:
        peer, _ = s.pair()
        with held(s.hub):
            s.hub.broadcast("1")
            s.hub.broadcast_with_filter("2", lambda *_: True)
            s.hub.broadcast("3")
        assert peer.messages(3) == ["1", "2", "3"]


def test_room_member_gets_exactly_the_pushes_while_it_was_in() -> None:
    """Pushes that still waited when it came or went included."""
    with serving() as s:
        (one, first), (two, second) = s.pairs(2)
        hotline = s.hub.hotline()
        hotline.answer(first)
        with held(s.hub):
            hotline.push("1")
            hotline.answer(second)
            hotline.push("2")
            hotline.hangup(first)
            hotline.push("3")
            hotline.hangup(second)
            hotline.push("4")
            hotline.answer(first)
            hotline.push("5")
            hotline.answer(first)  # it is in
            hotline.push("6")
            hotline.hangup(second)  # it is out
        fence(s.hub)
        first.close()
        second.close()
        assert one.rest() == (["1", "2", "5", "6"], 1000, "")
        assert two.rest() == (["2", "3"], 1000, "")


def test_room_member_gets_one_piece_of_the_order_while_others_push() -> None:
    with serving() as s:
        pairs = s.pairs(6)
        hotline = s.hub.hotline()
        pushed: dict[int, str] = {}
        stretches: dict[int, tuple[int, int, int, int]] = {}

        def act(who: int) -> None:
            if who < 3:
                for step in range(300):
                    pushed[hotline.push(f"{who} {step}")] = f"{who} {step}"
                return
            for number in range(2 * (who - 3), 2 * (who - 3) + 2):
                client = pairs[number][1]
                before = hotline.push_count
                hotline.answer(client)
                after = hotline.push_count
                hotline.push(f"{who} between")
                until = hotline.push_count
                hotline.hangup(client)
                stretches[number] = (before, after, until, hotline.push_count)

        # Between the pushers' own pushes stand those of the members' threads.
        together(6, act)
        fence(s.hub)
        whole: list[str] = []
        for _, client in pairs:
            client.close()
        for number, (peer, _) in enumerate(pairs):
            before, after, until, end = stretches[number]
            found, code, _reason = peer.rest()
            assert code == 1000
            assert until - after <= len(found) <= end - before
            known = [place for place, text in pushed.items() if text in found]
            assert all(before < place <= end for place in known)
            assert all(pushed[place] in found for place in pushed if after < place <= until)
            in_order = [pushed[place] for place in sorted(known)]
            assert [text for text in found if text in in_order] == in_order
            whole += [str(text) for text in found]
        assert len([text for text in whole if "between" in text]) >= 6


def test_room_answer_then_snapshot_misses_no_push() -> None:
    with serving() as s:
        hotline = s.hub.hotline()
        state = 0
        lock = threading.Lock()
        stop = threading.Event()

        def count() -> None:
            nonlocal state
            while not stop.is_set():
                with lock:
                    state += 1
                    hotline.push(str(state))
                fence(s.hub)

        counting = in_thread(count)
        try:
            for _ in range(10):
                peer, client = s.pair()
                hotline.answer(client)
                with lock:
                    client.write(f"snapshot {state}")
                found: list[Any] = []
                snapshot = None
                while snapshot is None or len(found) < 5:
                    message = str(peer.message())
                    if message.startswith("snapshot"):
                        snapshot = int(message.split()[1])
                    else:
                        found.append(int(message))
                # The pushes continue the snapshot without a gap.
                assert found == list(range(found[0], found[0] + len(found)))
                assert found[0] <= snapshot + 1
                hotline.hangup(client)
        finally:
            stop.set()
            counting()


def test_room_push_on_any_thread_returns_its_number_at_once() -> None:
    """While the hub thread is busy, too."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        with held(s.hub):
            assert [hotline.push(str(number)) for number in range(3)] == [1, 2, 3]
            assert in_thread(lambda: hotline.push("3"))() == 4
            assert client.exec_sync(lambda: hotline.push("4")) == 5
            assert not hotline.is_push_consumed(1)
            assert hotline.wait_push_consumed(1, 0.001) is False
        assert s.hub.exec_sync(lambda _: hotline.push("5")) == 6
        assert hotline.push_count == 6
        assert hotline.wait_push_consumed(6, TIMEOUT)
        assert peer.messages(6) == [str(number) for number in range(6)]


def test_room_push_with_a_full_queue_is_refused_and_does_nothing() -> None:
    """The accepted pushes arrive without a gap."""
    with serving(chan_queue_size=10) as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        fence(s.hub)
        with held(s.hub):
            for number in range(10):
                hotline.push(str(number))
            for _ in range(3):
                with pytest.raises(QueueFull, match="10 pushes"):
                    hotline.push("too many")
            assert hotline.push_count == 10
        fence(s.hub)
        hotline.push("10")
        assert peer.messages(11) == [str(number) for number in range(11)]


def test_room_member_disconnected_is_out_and_stays_out() -> None:
    with serving() as s:
        peer, client = s.pair()
        hotlines = [s.hub.hotline() for _ in range(5)]
        for hotline in hotlines:
            hotline.answer(client)
        gone = client.context
        peer.reset()
        assert gone.wait(TIMEOUT)
        assert [hotline.members for hotline in hotlines] == [[]] * 5
        hotlines[0].answer(client)
        assert hotlines[0].members_num == 0
