"""Iterations, questions and rate limits in virtual time: the same rules, at one moment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubthread import (
    ClientClosed,
    ExecTimeout,
    HubSetting,
    IOContext,
    JsonHeader,
    MatcherMap,
    RateLimiter,
    WrongThread,
)
from hubthread.testing import FakeClock, VirtualClient, VirtualHub


def hub() -> VirtualHub[Any, Any]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id"))
    return VirtualHub(HubSetting[Any, Any](dict, receive_matcher=matcher))


def answer(client: VirtualClient, message: str | bytes) -> None:
    client.send_json({"reply": json.loads(message)["id"], "is": 7})


def test_each_client() -> None:
    """Waited for at once or later, and from a client's own callback."""
    with hub() as made:
        clients = [made.connect().ctx for _ in range(3)]
        ids = {client.connection_id for client in clients}
        found: list[Any] = []
        clients[1].exec_async(
            lambda: found.append(made.each_client(lambda client_id, ctx, meta: client_id).results)
        )
        made.settle()
        later = made.each_client(lambda client_id, ctx, meta: client_id, wait_hub=False)
        assert not later.done
        found.append(later.wait().results)
        assert [set(results) for results in found] == [ids, ids]
        with pytest.raises(WrongThread):
            made.exec_sync(lambda _: made.each_client(lambda client_id, ctx, meta: None))


def test_a_question_is_answered_or_not() -> None:
    """An answer comes at the moment of the question; one that does not come never will."""
    with hub() as made:
        talks, silent = made.connect(on_message=answer), made.connect()
        assert talks.ctx.request("q", {}) == {"is": 7}
        with pytest.raises(ExecTimeout):
            silent.ctx.request("q", {}, 1000)
        gone = talks.ctx
        talks.close()
        with pytest.raises(ClientClosed):
            gone.request("q", {})


def test_a_rate_limit_on_the_virtual_clock() -> None:
    clock = FakeClock()
    limiter = RateLimiter(rate=1, burst=2, clock=clock.now)
    heard: list[Any] = []

    def receive(ctx: IOContext, meta: Any) -> bool:
        heard.append(limiter(ctx, meta))
        return True

    setting = HubSetting[Any, Any](dict, on_receive_message=receive)
    with VirtualHub(setting, clock) as made:
        client = made.connect()
        for seconds in (0.0, 0.0, 0.0, 0.5, 0.5, 3600.0):
            made.advance(seconds)
            client.send("x")
        assert heard == [True, True, False, False, True, True]
