"""The contexts of a hub: the given parent, the hub's own, and those of hotlines and clients."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import pytest

from hubthread import Context, Hub, HubClosed, HubSetting, Readers, SettingError
from hubthread.core.connections import CROWD
from hubthread.hub import lifecycle
from tests.support import TIMEOUT, Items, Logs, in_thread, serving


def test_core_context_parent_cancelled_closes_hub() -> None:
    """Every context below is cancelled for the same reason, and clients get 1001."""
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


def test_core_context_cancelled_by_handler_closes_hub() -> None:
    """Another thread closes the hub, which would wait for the caller."""
    parent = Context()
    with serving(
        context=parent, on_receive_message=lambda ctx, meta: parent.cancel("by a handler")
    ) as served:
        peer = served.peer()
        peer.send("the end")
        assert peer.closed()[0] == 1001
        peer.close()
        assert served.hub.join(TIMEOUT)


def test_core_context_parent_deadline_closes_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for a context below is woken."""
    later = 2 * TIMEOUT
    setting = HubSetting[Any, Any](dict, context=Context(deadline=monotonic() + later))
    hub = Hub(setting)
    hotline = hub.hotline()
    waiting = in_thread(hotline.context.wait)
    monkeypatch.setattr(lifecycle, "monotonic", lambda: monotonic() + later)
    hub.start()
    assert hub.join(TIMEOUT)
    assert waiting()
    assert hotline.is_closed


def test_core_context_hub_closed_leaves_parent() -> None:
    """The parent may have a deadline in the future; the next hub may use the same parent."""
    parent = Context(deadline=monotonic() + 1000)
    for _ in range(2):
        with Hub(HubSetting[Any, Any](dict, context=parent)) as hub:
            hotline = hub.hotline()
        assert hub.context.reason == hotline.context.reason == "the hub was closed"
        assert not parent.cancelled


def test_core_context_cancelled_before_start_closes_hub() -> None:
    """Closures submitted before still run."""
    parent, ran = Context(), threading.Event()
    hub = Hub(HubSetting[Any, Any](dict, context=parent))
    hub.exec_async(lambda _: ran.set())
    parent.cancel()
    assert hub.join(TIMEOUT)
    assert ran.is_set()


def test_core_context_parent_ended_is_refused() -> None:
    ended = Context()
    ended.cancel("over")
    for context in (ended, Context(deadline=monotonic()), object()):
        with pytest.raises(SettingError, match="context: ") as caught:
            HubSetting[Any, Any](dict, context=context)  # type: ignore[arg-type]
        assert caught.value.field == "context"


@pytest.mark.parametrize(("readers", "lines"), [(Readers.OWN, 1), (Readers.SHARED, 0)])
def test_core_tells_of_a_crowd_that_has_a_thread_each(readers: Readers, lines: int) -> None:
    logs = Logs()
    core = Hub(HubSetting[Any, Any](dict, readers=readers, logger=logs))._core
    for number in range(CROWD + 2):
        core.connections.open(Crowded(number))
    assert ["have a thread each" in each for each in logs.warnings()] == [True] * lines


class Crowded:
    """One of many connections."""

    def __init__(self, number: int) -> None:
        self.number = number

    def shutdown(self) -> None:
        """Do nothing."""
