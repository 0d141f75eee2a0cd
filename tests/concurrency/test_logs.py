"""The ids of log lines."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest

from hubthread import HotlineFrameOption, HotlineOption, HubSetting, IOContext
from hubthread.concurrency.logs import IDS, LogName, log_ids, log_safely
from hubthread.testing import VirtualHub
from tests.support import Logs


def fail(*args: Any) -> None:
    raise ValueError("tripped")


def logged(hub_logs: Logs, text: str) -> dict[str, Any]:
    """Return the ids of the first line with the text; every line has all attributes."""
    records = hub_logs.records.now()
    assert all(hasattr(record, name) for record in records for name in IDS)
    found = next(record for record in records if text in record.getMessage())
    ids = {name: getattr(found, name) for name in IDS}
    return {name: value for name, value in ids.items() if value is not None}


def a_hub(logs: Logs, **fields: Any) -> VirtualHub[Any, Any]:
    return VirtualHub(HubSetting[Any, Any](dict, hub_name="h", logger=logs, **fields))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("r7", "r7"), ("x" * 200, "x" * 100), ("é", None), ("a\tb", None), ("", None)],
)
def test_line_about_a_client_has_its_ids_and_those_of_its_handshake(
    sent: str, kept: str | None
) -> None:
    logs = Logs()
    with a_hub(logs, on_connection_start=fail) as hub:
        hub.connect(headers={"X-Request-ID": sent})
    ids = {"hub_name": "h", "client_id": 1, "request_id": kept}
    wanted = {name: value for name, value in ids.items() if value is not None}
    assert logged(logs, "on_connection_start raised") == wanted


def test_line_about_a_request_has_its_id() -> None:
    logs = Logs()
    with a_hub(logs, on_handshake=fail) as hub, pytest.raises(Exception, match="500"):
        hub.connect(headers={"X-Request-ID": "r7"})
    assert logged(logs, "the handshake hook raised") == {"request_id": "r7"}
    assert logged(logs, "request refused") == {"request_id": "r7"}


def test_line_about_a_room_has_its_ids() -> None:
    logs = Logs()
    with a_hub(logs) as hub:
        room = hub.hotline(HotlineOption("lobby", on_join=fail))
        peer = hub.connect()
        room.answer(peer.ctx)
        hub.settle()
        ids = {"hub_name": "h", "room_id": room.hotline_id, "room_name": "lobby"}
        assert logged(logs, "on_join raised") == ids


def test_line_about_a_ticking_room_has_its_ids() -> None:
    logs = Logs()
    with a_hub(logs) as hub:
        room = hub.hotline()
        HotlineFrameOption(list, fail, hz=10).run(room)
        hub.advance(0.2)
        assert logged(logs, "logic raised") == {"hub_name": "h", "room_id": room.hotline_id}


def test_line_about_the_hub_thread_has_the_name_of_the_hub() -> None:
    logs = Logs()
    with a_hub(logs) as hub:
        hub.exec_async(lambda dhub: fail())
        hub.settle()
    assert logged(logs, "a closure raised") == {"hub_name": "h"}


def test_callback_that_is_stuck_has_the_ids_of_its_client() -> None:
    """The watchdog names what it watches, and has no client."""
    logs = Logs()

    def start(ctx: IOContext, meta: object) -> None:
        name: Any = ctx.name  # type: ignore[attr-defined]
        log_safely(logs, logging.WARNING, "%s: stuck", name)

    with a_hub(logs, on_connection_start=start) as hub:
        hub.connect()
    assert logged(logs, "stuck") == {"hub_name": "h", "client_id": 1}


def test_things_without_ids_have_none_even_if_they_have_every_attribute() -> None:
    class Everything:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    assert log_ids(["text", 7, Everything()]) == dict.fromkeys(IDS)


def test_name_can_be_copied() -> None:
    name = copy.deepcopy(LogName("room", {"room_id": 7}))
    assert (name, log_ids([name])["room_id"]) == ("room", 7)
