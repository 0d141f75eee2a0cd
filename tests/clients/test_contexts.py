"""The tree of contexts: what the user gives, the hub's, and those of hotlines and clients."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import pytest

from hubthread import Context, Hub, HubClosed, HubSetting, SettingError
from tests.support import TIMEOUT, Items, in_thread, serving


def test_cancelling_the_given_context_closes_the_hub() -> None:
    """All below is cancelled for its reason, the clients are told, and nothing is left."""
    parent, told = Context(), Items[tuple[str, str]]()
    with serving(context=parent) as served:
        peer, client = served.pair()
        tree: dict[str, Any] = {
            "hub": served.hub,
            "hotline": served.hub.hotline(),
            "silent": served.hub.silent_hotline(),
            "client": client,
        }
        for name, owner in tree.items():
            owner.context.add_callback(lambda reason, name=name: told.add((name, reason)))
        assert not any(owner.context.cancelled for owner in tree.values())
        assert parent.cancel("enough")
        assert sorted(told.now()) == sorted((name, "enough") for name in tree)
        assert peer.closed() == (1001, "the server is going away")
        peer.close()
        assert served.hub.join(TIMEOUT)
        with pytest.raises(HubClosed):
            served.hub.exec_async(lambda _: None)
        assert served.logs.warnings() == []


def test_cancelling_the_hub_s_own_context_closes_it_and_nothing_above() -> None:
    parent = Context()
    with serving(context=parent) as served:
        served.hub.context.cancel()
        assert served.hub.join(TIMEOUT)
    assert not parent.cancelled


def test_a_handler_may_cancel_it() -> None:
    """Where the hub would wait for the caller, another thread closes it."""
    parent = Context()
    with serving(
        context=parent, on_receive_message=lambda ctx, meta: parent.cancel("by a handler")
    ) as served:
        peer = served.peer()
        peer.send("the end")
        assert peer.closed()[0] == 1001
        peer.close()
        assert served.hub.join(TIMEOUT)


def test_the_deadline_of_the_given_context_closes_the_hub() -> None:
    """Nobody has to ask for it; who waits for a context below is woken."""
    setting = HubSetting[Any, Any](dict, context=Context(deadline=monotonic() + 0.3))
    hub = Hub.started(setting)
    hotline = hub.hotline()
    waiting = in_thread(lambda: hotline.context.wait(TIMEOUT))
    assert hub.join(TIMEOUT)
    assert waiting()
    assert hotline.is_closed


def test_closing_the_hub_leaves_the_given_context_alone() -> None:
    """Also with a deadline that has not come, and for the next hub that hangs from it."""
    parent = Context(deadline=monotonic() + 1000)
    for _ in range(2):
        with Hub(HubSetting[Any, Any](dict, context=parent)) as hub:
            hotline = hub.hotline()
        assert hub.context.reason == hotline.context.reason == "the hub was closed"
        assert not parent.cancelled


def test_a_hub_that_has_not_started_closes_too() -> None:
    """What was submitted before still runs."""
    parent, ran = Context(), threading.Event()
    hub = Hub(HubSetting[Any, Any](dict, context=parent))
    hub.exec_async(lambda _: ran.set())
    parent.cancel()
    assert hub.join(TIMEOUT)
    assert ran.is_set()


def test_a_context_that_has_ended_is_refused() -> None:
    """The error names the field, as for what is no context at all."""
    ended = Context()
    ended.cancel("over")
    for context in (ended, Context(deadline=monotonic()), object()):
        with pytest.raises(SettingError, match="context: ") as caught:
            HubSetting[Any, Any](dict, context=context)  # type: ignore[arg-type]
        assert caught.value.field == "context"


def test_a_client_s_context_ends_with_the_client() -> None:
    """Alone; and joined with another it ends with whichever comes first."""
    with serving() as served:
        (leaving, gone), (_, stays) = served.pairs(2)
        game = Context()
        joined = Context.merge(gone.context, game)
        other = Context.merge(stays.context, game)
        leaving.close()
        assert joined.wait(TIMEOUT)
        assert joined.reason == gone.context.reason == "the connection has ended"
        assert not stays.context.cancelled
        assert not other.cancelled
        game.cancel("the game is over")
        assert other.reason == "the game is over"
        assert not stays.context.cancelled
        assert not served.hub.context.cancelled
