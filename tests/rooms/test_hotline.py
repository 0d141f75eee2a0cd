"""Hotlines: members, pushes, and their end."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    ContextNotClient,
    HotlineClosed,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
)
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, AnyClient, Gate, fence, in_thread, serving, together


def test_hotline_answer_and_hangup_are_idempotent() -> None:
    """Members are listed in the order in which they joined."""
    with serving() as s:
        (_, one), (_, two) = s.pairs(2)
        hotline = s.hub.hotline()
        hotline.answer(two)
        hotline.answer(one)
        hotline.answer(two)
        assert hotline.members == [two, one]
        assert hotline.members_num == 2
        assert one in hotline
        assert "one" not in hotline
        hotline.hangup(two)
        hotline.hangup(two)
        assert hotline.members == [one]
        assert two not in hotline


@pytest.mark.parametrize("wrong", [None, "client", 1, object()])
def test_hotline_answer_of_no_client_is_refused(wrong: Any) -> None:
    hub = Hub(HubSetting[Any, Any](dict))
    hotline = hub.hotline()
    for method in (hotline.answer, hotline.hangup):
        with pytest.raises(ContextNotClient, match="context not client"):
            method(wrong)
    hub.close()


def test_hotline_pushes_are_numbered_and_consumed() -> None:
    """A push without members is consumed, too."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        assert hotline.push_count == 0
        assert hotline.push("nobody") == 1
        assert hotline.wait_push_consumed(1, TIMEOUT)
        hotline.answer(client)
        assert hotline.push(b"somebody") == 2
        assert hotline.push_splicing("say ", {"a": 1}) == 3
        assert hotline.push_json({"ä": [1, None]}) == 4
        assert hotline.wait_push_consumed(4, TIMEOUT)
        assert hotline.is_push_consumed(2)
        assert not hotline.is_push_consumed(5)
        assert hotline.push_count == 4
        assert peer.messages(3) == [b"somebody", 'say {"a":1}', '{"ä":[1,null]}']


def test_hotline_wait_push_consumed_keeps_a_pusher_in_pace() -> None:
    with serving(outbox_bytes=2**16) as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)

        def push() -> None:
            for number in range(60):
                pushed = hotline.push(b"%05d" % number * 12_000)
                assert hotline.wait_push_consumed(pushed, TIMEOUT)

        pushing = in_thread(push)
        for number in range(60):
            assert peer.message()[:5] == b"%05d" % number
        pushing()
        assert client.statistics().dropped == 0


def test_hotline_closed_is_empty_and_refuses() -> None:
    """Accepted pushes are still sent."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        context = hotline.context
        hotline.push("last")
        hotline.close()
        hotline.close()
        assert hotline.is_closed
        assert context.reason == "the hotline was closed"
        assert hotline.members_num == 0
        assert client.statistics().hotlines == 0
        with pytest.raises(HotlineClosed):
            hotline.push("late")
        with pytest.raises(HotlineClosed):
            hotline.answer(client)
        hotline.hangup(client)
        assert client.statistics().hotlines == 0
        assert peer.message() == "last"
        assert hotline.wait_push_consumed(1, TIMEOUT)
        assert s.hub.statistics().hotlines == 0


def test_hotline_close_if_empty_racing_with_answer_does_one_of_them() -> None:
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        assert hotline.close_if_empty() is False
        hotline.hangup(client)
        assert hotline.close_if_empty() is True
        assert hotline.close_if_empty() is True
        for _ in range(100):
            raced = s.hub.hotline()
            outcome: dict[str, bool] = {}

            def race(who: int, hotline: Any, outcome: dict[str, bool]) -> None:
                if who:
                    outcome["closed"] = hotline.close_if_empty()
                    return
                try:
                    hotline.answer(client)
                    outcome["in"] = True
                except HotlineClosed:
                    outcome["in"] = False

            together(2, lambda who: race(who, raced, outcome))  # noqa: B023
            assert outcome["in"] is not outcome["closed"]
            assert (client in raced) is outcome["in"]
            raced.close()


def test_hotline_closed_while_others_push_and_join_ends_empty() -> None:
    with serving() as s:
        pairs = s.pairs(3)
        for _ in range(30):
            hotline = s.hub.hotline()

            def act(who: int, hotline: Any) -> None:
                try:
                    for _ in range(20):
                        if who < 3:
                            hotline.answer(pairs[who][1])
                            hotline.push("x")
                except HotlineClosed:
                    return
                if who == 3:
                    hotline.close()

            together(4, lambda who: act(who, hotline))  # noqa: B023
            assert hotline.members == []
        assert [client.statistics().hotlines for _, client in pairs] == [0, 0, 0]


def test_hotline_statistics_and_repr_show_its_state() -> None:
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline(HotlineOption(name="lobby"))
        hotline.answer(client)
        hotline.push("x")
        assert hotline.wait_push_consumed(1, TIMEOUT)
        assert repr(hotline) == "<Hotline 1 'lobby' open, 1 members>"
        statistics = hotline.statistics()
        assert (statistics.hotline_id, statistics.name, statistics.closed) == (1, "lobby", False)
        assert (statistics.members, statistics.pushes, statistics.waiting) == (1, 1, 0)
        hotline.close()
        assert repr(hotline) == "<Hotline 1 'lobby' closed, 0 members>"
        assert repr(s.hub.hotline()) == "<Hotline 2 open, 0 members>"
        assert hotline.hub is s.hub
        assert hotline.logger is s.logs


@pytest.mark.usefixtures("hasty_threads")
def test_hotline_answer_after_racing_hangups_holds() -> None:
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()

        def act(number: int, client: AnyClient) -> None:
            if number:
                hotline.hangup(client)
            hotline.answer(client)

        for _ in range(300):
            together(2, lambda number: act(number, client))
            assert client in hotline
            assert client.statistics().hotlines == 1
            hotline.hangup(client)
            assert client not in hotline
            assert client.statistics().hotlines == 0


def test_hotline_pushes_before_the_start_arrive_in_order() -> None:
    hub = Hub(HubSetting[Any, Any](dict))
    hotline = hub.hotline()
    assert hotline.push("nobody is in") == 1
    assert not hotline.is_push_consumed(1)
    with hub:
        assert hotline.wait_push_consumed(1, TIMEOUT)


def test_hotline_push_and_broadcast_leave_excluded_clients_out() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        ada, bob, eve = clients = [hub.connect() for _ in range(3)]
        room = hub.hotline()
        for client in clients:
            room.answer(client.ctx)
        room.push("1", exclude=ada.ctx)
        room.push_json(2, exclude=[ada.ctx, bob.ctx])
        room.push_splicing("3 ", 3, exclude=(eve.ctx,))
        room.push("4", exclude=())
        assert [client.messages() for client in clients] == [
            ["3 3", "4"], ["1", "3 3", "4"], ["1", "2", "4"],
        ]  # fmt: skip
        hub.broadcast("5", exclude=bob.ctx)
        hub.broadcast_json({"n": 6}, exclude={eve.ctx})
        assert [client.messages() for client in clients] == [["5", '{"n":6}'], ['{"n":6}'], ["5"]]


@pytest.mark.parametrize("wrong", [1, "client", [None], object()])
def test_hotline_exclude_of_no_client_is_refused(wrong: Any) -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        for send in (hub.hotline().push, hub.broadcast):
            with pytest.raises(ContextNotClient, match="context not client"):
                send("text", exclude=wrong)


def test_hotline_answer_with_first_message_comes_before_waiting_pushes() -> None:
    """Members that are in get no first message; a slow member gets it in its place."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        gate = Gate()
        s.hub.exec_async(gate)
        gate.reached()
        hotline.push("before")
        hotline.answer(client, first="snapshot")
        hotline.push("after")
        hotline.answer(client, first="again")
        gate.open()
        assert peer.messages(2) == ["snapshot", "after"]
        fence(s.hub)
        client.close()
        assert peer.rest() == ([], 1000, "")


def test_hotline_data_is_the_programs_and_stays_with_the_room() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hotline = hub.hotline()
        assert hotline.data is None
        hotline.data = {"topic": "tea"}
        assert HotlineFrameOption[Any](list).run(hotline).data == {"topic": "tea"}
