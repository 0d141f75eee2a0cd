"""An exception strikes the calls that begin and end something: hubs, servers, rooms with a clock.

What was struck has happened or not: it can be done again, or used, and the hub ends in time and
leaves no thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from hubthread import HotlineFrameOption, Hub, HubSetting, HubThreadError, UsageError
from hubthread.integrations.flask import FlaskHub
from hubthread.testing import VirtualHub
from tests.interrupts.interrupting import MOST, at_each, nothing, strike
from tests.support import TIMEOUT, Logs

pytestmark = [
    pytest.mark.interrupts,
    # A strike inside a callback of the collector or of a weak reference reaches no caller.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A socket that was made just before the strike.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

AnyHub = Hub[Any, Any]
STEP = 3
"""Strike at every third place only, because each strike needs a hub of its own."""


def a_hub() -> AnyHub:
    return Hub(HubSetting[Any, Any](dict, logger=Logs()))


def strike_each(
    make: Callable[[], Any], call: Callable[[Any], object], step: int = STEP
) -> Iterator[Any]:
    """Make a thing, strike ``call`` of it, and yield it; for every ``step``-th place."""
    for number in range(0, 20 * MOST, step):
        made = make()
        struck = at_each(lambda made=made: call(made), strike)(number)  # type: ignore[misc]
        yield made
        if not struck:
            return
    pytest.fail("the call has no end")


def check_end(hub: AnyHub) -> None:
    """Close the hub, and check that nothing of it is left."""
    hub.close(TIMEOUT)
    assert hub.join(TIMEOUT)
    assert (hub.state, hub.servers()) == ("closed", [])
    assert hub._core.threads.join(TIMEOUT) == []


def test_start_struck_starts_again_or_has_begun() -> None:
    for hub in strike_each(a_hub, lambda hub: hub.start()):
        if hub.state == "new":
            hub.start()
        with contextlib.suppress(HubThreadError):  # a struck start may close the hub
            assert hub.exec_sync(lambda dhub: 1, TIMEOUT) == 1
        check_end(hub)


def test_close_struck_closes_again() -> None:
    def running() -> AnyHub:
        hub = a_hub()
        hub.start()
        hub.serve()
        return hub

    for hub in strike_each(running, lambda hub: hub.close(TIMEOUT)):
        check_end(hub)


def test_serve_struck_serves_again() -> None:
    with a_hub() as hub:
        for _ in strike_each(lambda: hub, lambda hub: hub.serve(), step=11):
            for server in hub.servers():
                server.close()
            with hub.serve():
                assert len(hub.servers()) == 1
            assert hub.servers() == []
        check_end(hub)


def test_frame_run_struck_runs_again_or_has_begun() -> None:
    option = HotlineFrameOption[Any](list)
    with a_hub() as hub:
        for room in strike_each(hub.hotline, option.run):
            with contextlib.suppress(UsageError):  # it has its clock
                assert option.run(room).exec_sync(lambda frame, obj: obj, TIMEOUT) == []
            assert room.wait_push_consumed(room.push("later"), TIMEOUT)
            room.close()
            assert room._wait_ended(TIMEOUT)
        check_end(hub)


def test_flask_init_app_struck_has_a_hub_or_none() -> None:
    flask = FlaskHub[Any, Any](HubSetting(dict))
    for app in strike_each(lambda: Flask("app"), lambda app: flask.init_app(app, VirtualHub), 997):
        if "hubthread" not in app.extensions:
            flask.init_app(app, VirtualHub)
        with app.app_context(), flask.hub as hub:
            assert hub.exec_sync(nothing, TIMEOUT) is None
