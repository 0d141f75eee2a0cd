"""Calls of hooks as the watchdog sees them, and the record of refused requests."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import Any

from hubthread import Request
from hubthread.concurrency.incidents import Incidents
from hubthread.core.hooks import HookCall, Refusals
from hubthread.limits import HEAD
from hubthread.protocol.request import Headers
from tests.support import Logs

REQUEST = Request("GET", f"/{'long' * 100}\n", Headers([]), peer=("192.0.2.1", 7))


def refusals(logs: Logs, callback: Any = None) -> tuple[Refusals, Incidents]:
    incidents = Incidents(logs, monotonic)
    return Refusals(logs, incidents, callback), incidents


def test_hook_call_is_in_a_callback_until_it_returns() -> None:
    """Its name quotes the path, which comes from the peer, and cuts it."""
    call = HookCall("on_handshake", REQUEST)
    assert call.runner == threading.get_ident()
    assert call.current_callback() == 0
    assert call.name.startswith("on_handshake for '/longlong")
    assert call.name.endswith("' of ('192.0.2.1', 7)")
    assert len(call.name) < 160
    call.runner = None
    assert call.current_callback() is None


def test_refusals_are_counted_and_reported() -> None:
    told: list[object] = []
    logs = Logs()
    logs.setLevel(logging.DEBUG)
    record, _ = refusals(logs, lambda *args: told.append(args))
    record.add(None, 400, "no HTTP")
    record.add(REQUEST, 404, "nothing here")
    assert record.count == 2
    assert told == [(None, 400, "no HTTP"), (REQUEST, 404, "nothing here")]
    assert "request refused: 400 no HTTP (None)" in logs.at_least(logging.DEBUG)[0]
    assert logs.warnings() == []


def test_refusals_by_a_limit_count_the_limit_and_name_the_peer() -> None:
    logs = Logs()
    record, incidents = refusals(logs)
    record.add(None, 431, "too long", HEAD, ("192.0.2.1", 7))
    assert incidents.counts()[HEAD] == 1
    assert "request refused: 431 too long (('192.0.2.1', 7))" in logs.at_least(logging.INFO)[0]


def test_refusals_callback_raising_is_logged() -> None:
    def trip(*_: object) -> None:
        raise LookupError("tripped")

    record, _ = refusals(logs := Logs(), trip)
    record.add(REQUEST, 401, "who?")
    assert record.count == 1
    (line,) = logs.warnings()
    assert "Upgrader.error raised" in line
    assert "tripped" in line
