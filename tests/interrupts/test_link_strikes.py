"""An exception strikes the calls of the Python client, at each of their lines.

A call that was struck has happened or not.  The link goes on: other threads ask and are answered,
and rooms hear what is pushed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import FrameType
from typing import Any

import pytest

from hubthread import History, HotlineOption, Hub, HubSetting, JsonHeader, MatcherMap
from hubthread.client import Link, Lost, connect
from tests.interrupts.interrupting import MOST, at_each, strike
from tests.interrupts.test_lifecycle import strike_each
from tests.support import TIMEOUT, Items, Logs

pytestmark = [
    pytest.mark.interrupts,
    # A strike inside a callback of the collector or of a weak reference reaches no caller.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # A socket that was made just before the strike.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


STEP = 5
"""Strike at every fifth place only, because each strike needs a link of its own."""


class Line:
    """A hub, and a link with a room that is never left."""

    def __init__(self, hub: Hub[Any, Any], url: str) -> None:
        self.url = url
        self.hub = hub
        self._room = hub.room("kept", HotlineOption(shared=True, history=History()))
        self._heard: Items[Any] = Items()
        self._numbers = itertools.count()
        self.link = Link(url, logger=Logs())
        driver: Any = self.link._driver
        driver.random = lambda: 0.0  # it comes back at once
        self.kept = self.link.room("kept")
        self.kept.on("*", self._heard.add)
        joined = threading.Event()
        self.kept.on("join", lambda recovered, count: joined.set())
        self.link.connect()
        assert joined.wait(TIMEOUT)
        self.link.on("*", lambda message: None)

    def check(self) -> None:
        """Ask and push, with another thread: a lock that is left held would be seen."""
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._check()
            except BaseException as error:  # noqa: BLE001 - raised again on the test's thread
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "another thread hangs"
        if failures:
            raise failures[0]

    def _check(self) -> None:
        number = next(self._numbers)
        while True:
            self.link.wait_open(TIMEOUT)
            try:
                answer = self.link.request("echo", {"n": number}, timeout=TIMEOUT)
            except Lost:  # half a frame was out, which ends the connection
                continue
            break
        assert answer["n"] == number
        self._room.push_json(number)
        self._heard.until(lambda items: number in items)
        assert self.link._machine.rooms["kept"] is self.kept
        # A request that a strike has left ends with its time.
        assert all(each.deadline < inf for each in self.link._machine.requests._open.values())


@contextmanager
def line() -> Iterator[Line]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id", error_field="error"))
    matcher.add("echo", lambda ctx, meta, message: message)
    setting = HubSetting[Any, Any](
        dict, receive_matcher=matcher, may_join=lambda ctx, meta, name: True
    )
    with Hub(setting) as hub:
        made = Line(hub, hub.serve(path="/ws").url)
        try:
            yield made
        finally:
            made.link.close()


def reconnect(h: Line) -> None:
    h.link.disconnect()
    h.link.connect()


def wait_open(h: Line) -> None:
    h.link.wait_open(TIMEOUT)


CALLS: dict[str, Callable[[Line], object]] = {
    "send": lambda h: h.link.send("echo", {"text": "struck"}),
    "request": lambda h: h.link.request("echo", {"text": "struck"}, timeout=TIMEOUT),
    "room, leave": lambda h: h.link.room("struck").leave(),
    "disconnect, connect": reconnect,
    "wait_open": wait_open,
}


@pytest.mark.parametrize("name", ["send", "request", "room, leave", "wait_open"])
def test_call_of_a_link_struck_anywhere_leaves_the_link_alive(name: str) -> None:
    with line() as h:
        struck = at_each(lambda: CALLS[name](h), strike)
        for number in range(MOST):
            if not struck(number):
                break
            h.check()
        else:
            pytest.fail(f"{name} has no end")


def test_disconnect_and_connect_struck_anywhere_connect_again() -> None:
    with line() as h:
        struck = at_each(lambda: reconnect(h), strike)
        for number in range(MOST):
            more = struck(number)
            h.link.connect()  # does nothing if it has happened
            h.check()
            if not more:
                break
        else:
            pytest.fail("the calls have no end")


def test_message_is_received_once_or_not_at_all_where_receive_is_struck() -> None:
    with line() as h:
        pushed = h.hub.room("inbox", HotlineOption(shared=True)).push_json
        room = h.link.room("inbox")
        h.check()  # the room is joined before the request is answered
        got: list[object] = []
        struck = at_each(lambda: got.append(room.receive(TIMEOUT)), strike)
        for number in range(MOST):
            pushed(number)
            more = struck(number)
            h.check()
            while room._inbox:
                got.append(room.receive(TIMEOUT))
            if not more:
                break
        assert got == sorted(set(got), key=got.index)


def test_connect_struck_anywhere_connects_again() -> None:
    with line() as h:
        for link in strike_each(lambda: Link(h.url, logger=Logs()), Link.connect, STEP):
            link.connect()
            link.wait_open(TIMEOUT)
            check_end(link)


def test_close_struck_anywhere_ends_every_wait_when_it_is_called_again() -> None:
    with line() as h:
        waits: list[threading.Thread] = []

        def waiting() -> Link:
            link = connect(h.url, wait=TIMEOUT, logger=Logs())

            def wait() -> None:
                with pytest.raises(Lost):
                    link.receive()

            waits.append(threading.Thread(target=wait))
            waits[-1].start()
            return link

        for link in strike_each(waiting, Link.close, STEP):
            check_end(link)
            waits[-1].join(TIMEOUT)
            assert not waits[-1].is_alive()


def check_end(link: Link) -> None:
    """Close the link, and check that nothing of it is left."""
    link.close()
    driver: Any = link._driver
    assert driver._threads.join(TIMEOUT) == []
    assert not driver._held


@pytest.mark.parametrize("outer", CALLS)
def test_call_of_a_link_entered_again_on_its_own_thread_returns(outer: str) -> None:
    """As by a finaliser, a signal handler or a log handler that sends."""
    with line() as h:

        def enter(frame: FrameType) -> None:
            h.link.send("echo", {"n": -1})

        entered = at_each(lambda: CALLS[outer](h), enter)
        for number in range(MOST):
            if not entered(number):
                break
            h.check()
        else:
            pytest.fail(f"{outer} has no end")
