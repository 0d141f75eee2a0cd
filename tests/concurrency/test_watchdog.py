"""The watchdog: a stuck callback is logged once with its stack, and once when it ends."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import HotlineFrameOption, Hub, HubSetting, SettingError, Upgrader
from hubthread.concurrency.watchdog import Watchdog
from hubthread.testing import FakeClock, VirtualHub
from tests.support import AnyHub, Gate, Items, Logs, Serving, connect, raw_handshake, serving

LIMIT = 0.2
"""Seconds: longer than any callback that does not hang."""

STUCK, ENDED = "it is doing:", "has ended"


class Stuck:
    """A served hub, the gate at which a callback hangs, and a raw request."""

    def __init__(self, served: Serving, gate: Gate) -> None:
        self.hub: AnyHub = served.hub
        self.served = served
        self.hang_here = gate
        self.sock: socket.socket | None = None

    def ask(self, request: bytes) -> None:
        """Send a request, and do not wait for the answer."""
        self.sock = connect(self.served.server)
        self.sock.sendall(request)


def hang_in_the_hub(stuck: Stuck) -> str:
    stuck.hub.exec_async(stuck.hang_here)
    return f"hub {stuck.hub.name}"


def hang_in_a_filter(stuck: Stuck) -> str:
    stuck.served.pair()
    stuck.hub.broadcast_with_filter("x", stuck.hang_here)
    return f"hub {stuck.hub.name}"


def hang_in_a_handler(stuck: Stuck) -> str:
    peer, _ = stuck.served.pair()
    peer.send("hang")
    return "client 1"


def hang_in_a_closure_of_a_client(stuck: Stuck) -> str:
    _, client = stuck.served.pair()
    client.exec_async(stuck.hang_here)
    return "client 1"


def hang_at_the_end(stuck: Stuck) -> str:
    peer, _ = stuck.served.pair()
    peer.close()
    return "client 1"


def hang_in_a_tick(stuck: Stuck) -> str:
    first = iter([stuck.hang_here])
    logic = lambda frame, obj: next(first, bool)()  # noqa: E731
    HotlineFrameOption[Any](list, logic, hz=1000).run(stuck.hub.hotline())
    return "the clock of hotline 1"


def hang_in_a_closure_of_a_room(stuck: Stuck) -> str:
    HotlineFrameOption[Any](list).run(stuck.hub.hotline()).exec_async(stuck.hang_here)
    return "the clock of hotline 1"


def hang_in_a_handshake(stuck: Stuck) -> str:
    stuck.ask(raw_handshake("/hang"))
    return "on_handshake for '/hang' of ('127.0.0.1', "


def hang_in_an_origin_check(stuck: Stuck) -> str:
    stuck.ask(raw_handshake("/hang"))
    return "check_origin for '/hang' of ('127.0.0.1', "


def hang_in_a_page(stuck: Stuck) -> str:
    stuck.ask(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return "the page for '/page' of ('127.0.0.1', "


@pytest.mark.parametrize(
    "hang",
    [
        hang_in_the_hub,
        hang_in_a_filter,
        hang_in_a_handler,
        hang_in_a_closure_of_a_client,
        hang_at_the_end,
        hang_in_a_tick,
        hang_in_a_closure_of_a_room,
        hang_in_a_handshake,
        hang_in_an_origin_check,
        hang_in_a_page,
    ],
)
def test_watchdog_logs_each_stuck_callback_once_and_its_end(
    hang: Callable[[Stuck], str],
) -> None:
    """The stack shows the line that hangs."""
    gate = Gate()

    def hang_if_asked(ctx: Any, meta: Any) -> bool:
        gate()
        return True

    fields: dict[str, Any] = {"on_receive_message": hang_if_asked}
    if hang is hang_at_the_end:
        fields["on_connection_close"] = hang_if_asked
    elif hang is hang_in_a_handshake:
        fields["on_handshake"] = gate
    elif hang is hang_in_an_origin_check:
        fields["upgrader"] = Upgrader(check_origin=gate)
    elif hang is hang_in_a_page:
        fields["serve"] = {"path": "/ws", "pages": {"/page": gate}}
    with serving(watchdog=LIMIT, **fields) as s:
        stuck = Stuck(s, gate)
        try:
            name = hang(stuck)
            gate.reached()
            told = s.logs.wait(STUCK)
            assert name in told
            assert "in __call__" in told  # of the gate
            assert s.hub.statistics().stuck == 1
        finally:
            gate.open(2)
            if stuck.sock is not None:
                stuck.sock.close()
        assert name in s.logs.wait(ENDED)
    records = [each for each in s.logs.records.now() if STUCK in each.msg or ENDED in each.msg]
    assert [each.levelno for each in records] == [logging.WARNING, logging.INFO]
    assert s.hub.statistics().stuck == 0


def test_watchdog_ignores_many_short_callbacks_in_a_row() -> None:
    """Each takes a part of the limit, and all together take much more."""
    with VirtualHub(HubSetting[Any, Any](dict, logger=(logs := Logs()), watchdog=10.0)) as hub:
        client = hub.connect()
        for _ in range(20):

            def work() -> None:
                hub.clock.spend(3)
                hub.exec_sync(lambda _: None)  # the watchdog may sample here

            client.ctx.exec_async(work)
        hub.settle()
        assert logs.warnings() == []

        def long() -> None:
            for _ in range(20):
                work()

        client.ctx.exec_async(long)
        hub.settle()
        assert len(logs.warnings()) == 1
        hub.advance(5)
        assert "client 1: the callback that was stuck has ended" in logs.wait(ENDED)


class Hanging:
    """A part that stays in one callback until the test ends it."""

    def __init__(self, number: int) -> None:
        self.name = f"client {number}"
        self.runner = threading.get_ident()
        self.busy = True

    def current_callback(self) -> object:
        return 1 if self.busy else None


def test_watchdog_many_stuck_callbacks_are_five_stacks_and_a_count() -> None:
    clock, logs = FakeClock(), Logs()
    all_hang = [Hanging(number) for number in range(9)]
    watchdog = Watchdog(10.0, clock, lambda: all_hang, logs)
    watchdog.start()
    clock.advance(100)
    told = logs.warnings()
    assert [STUCK in each for each in told] == [True] * 5 + [False]
    assert "4 more callbacks" in told[-1]
    assert watchdog.stuck == 9
    for each in all_hang:
        each.busy = False
    clock.advance(5)
    assert sum(ENDED in each for each in logs.at_least(logging.INFO)) == 5
    assert watchdog.stuck == 0


class FailingOnce(Logs):
    """A log that raises for the first stuck callback."""

    failed = False

    def handle(self, record: logging.LogRecord) -> None:
        if STUCK in str(record.msg) and not self.failed:
            self.failed = True
            raise OSError("the disk is full")
        super().handle(record)


def test_watchdog_raising_log_handler_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's exception goes to ``threading.excepthook``."""
    shown: Items[BaseException | None] = Items()
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.add(args.exc_value))
    gate = Gate()
    with Hub(HubSetting[Any, Any](dict, logger=(logs := FailingOnce()), watchdog=LIMIT)) as hub:
        try:
            hub.exec_async(gate)
            assert isinstance(shown.wait(1)[0], OSError)
            gate.open()
            hub.exec_async(gate)
            logs.wait(STUCK)
        finally:
            gate.open(2)


def test_watchdog_none_starts_no_thread_and_zero_is_refused() -> None:
    with Hub(HubSetting[Any, Any](dict, watchdog=None)) as hub:
        assert hub.statistics().threads == 1
    with pytest.raises(SettingError, match="watchdog"):
        HubSetting[Any, Any](dict, watchdog=0)
