"""Settings: frozen, and checked when they are built."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hubthread import (
    HotlineOption,
    Hub,
    HubSetting,
    Limits,
    PingPongPlan,
    SettingError,
    SocketPeriod,
    Upgrader,
    WebsocketPeriod,
)

KINDS: dict[type[Any], dict[str, Any]] = {
    HubSetting: {"meta_gen": dict},
    WebsocketPeriod: {},
    PingPongPlan: {},
    SocketPeriod: {},
    Upgrader: {},
    HotlineOption: {},
    Limits: {},
}


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        (HubSetting, "meta_gen", None, "a function"),
        (HubSetting, "hub_name", 5, "a string"),
        (HubSetting, "logger", None, "a logging.Logger"),
        (HubSetting, "receive_matcher", {}, "a MatcherMap"),
        (HubSetting, "receive_matcher_error", 5, "expected a function"),
        (HubSetting, "on_handshake", "x", "expected a function"),
        (HubSetting, "on_receive_message", "x", "expected a function"),
        (HubSetting, "on_connection_start", "x", "expected a function"),
        (HubSetting, "on_connection_close", "x", "expected a function"),
        (HubSetting, "delayed_execution", "x", "expected a function"),
        (HubSetting, "chan_queue_size", 0, "at least 1"),
        (HubSetting, "chan_queue_size", 1.5, "an integer"),
        (HubSetting, "outbox_bytes", -1, "at least 1"),
        (HubSetting, "overflow", "close", "one of Overflow.CLOSE"),
        (HubSetting, "websocket_period", None, "a WebsocketPeriod"),
        (WebsocketPeriod, "upgrader", None, "an Upgrader"),
        (WebsocketPeriod, "ping_pong_plan", None, "a PingPongPlan"),
        (WebsocketPeriod, "expected_ws_error", 1000, "a set of close codes"),
        (WebsocketPeriod, "expected_ws_error", {999}, "an integer of at least 1000"),
        (WebsocketPeriod, "write_message_type", 8, "MessageType.TEXT"),
        (WebsocketPeriod, "write_newline", "\n", "bytes"),
        (WebsocketPeriod, "write_newline", b"\xff", "UTF-8 bytes"),
        (WebsocketPeriod, "read_buffer_preprocessing", 5, "expected a function"),
        (WebsocketPeriod, "message_buffer_size", 0, "at least 1"),
        (WebsocketPeriod, "max_fragments", 0, "at least 1"),
        (WebsocketPeriod, "close_timeout", 0, "above 0"),
        (WebsocketPeriod, "write_wait", float("nan"), "above 0"),
        (PingPongPlan, "ping_period", 0, "above 0, or None"),
        (PingPongPlan, "ping_period", True, "above 0, or None"),
        (PingPongPlan, "ping_timeout", -1, "above 0, or None"),
        (PingPongPlan, "ping_timeout", 16.0, "more than ping_period"),
        (PingPongPlan, "ping_handler", 5, "expected a function"),
        (PingPongPlan, "pong_handler", 5, "expected a function"),
        (Upgrader, "handshake_timeout", 0, "above 0"),
        (Upgrader, "handshake_timeout", "10", "a number"),
        (Upgrader, "max_head", 10, "at least 256"),
        (Upgrader, "write_buffer_size", 1, "at least 1024"),
        (Upgrader, "compression", "no", "True or False"),
        (Upgrader, "subprotocols", "chat", "a tuple of names"),
        (Upgrader, "subprotocols", ("a b",), "without spaces"),
        (Upgrader, "check_origin", "https://x.example", "use ['https://x.example']"),
        (Upgrader, "error", 5, "expected a function"),
        (HubSetting, "socket_period", 5, "a SocketPeriod"),
        (HubSetting, "limits", None, "a Limits"),
        (Limits, "connections_per_address", 0, "an integer of at least 1, or None"),
        (Limits, "shared_addresses", "10.0.0.0/8", "a tuple of networks"),
        (Limits, "shared_addresses", ("10.0.0.1/8",), "has host bits set"),
        (Limits, "shared_addresses", ("proxy.example",), "does not appear to be"),
        (Limits, "shared_addresses", (10,), "a tuple of networks such as"),
        (Limits, "messages_per_second", 0, "a number above 0, or None"),
        (Limits, "message_burst", 5, "None while messages_per_second is None"),
        (Limits, "message_time", 0, "a number above 0, or None"),
        (Limits, "idle_time", "60", "a number above 0, or None"),
        (Limits, "rooms_per_client", 0, "an integer of at least 1, or None"),
        (Limits, "rooms_per_client", 2.5, "an integer of at least 1, or None"),
        (SocketPeriod, "ping_period", 0, "above 0, or None"),
        (SocketPeriod, "pong_wait", "60", "a number above 0, or None"),
        (SocketPeriod, "write_wait", None, "above 0"),
        (SocketPeriod, "write_message_type", None, "MessageType.TEXT or MessageType.BINARY"),
        (SocketPeriod, "message_buffer_size", 0, "at least 1"),
        (SocketPeriod, "framing", "lines", "one of Framing.LINES, Framing.LENGTH_1"),
        (HotlineOption, "name", None, "a string"),
    ],
)
def test_setting_wrong_value_raises_with_field_and_range(
    kind: type[Any], field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(SettingError) as caught:
        kind(**{**KINDS[kind], field: value})
    message = str(caught.value)
    assert caught.value.field == field
    assert message.startswith(f"{field}: ")
    assert allowed in message
    assert repr(value) in message or isinstance(value, (float, set))
    assert "\n" not in message
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("check", [None, 5, ["no origin"]])
def test_hub_wrong_check_origin_raises(check: Any) -> None:
    """The handshake's own check runs when the hub is made, not at the first request."""

    def make() -> None:
        period = WebsocketPeriod[Any](upgrader=Upgrader(check_origin=check))
        Hub(HubSetting[Any, Any](dict, websocket_period=period))

    with pytest.raises(SettingError, match="check_origin"):
        make()


def test_hub_setting_without_meta_gen_raises() -> None:
    with pytest.raises(TypeError, match="meta_gen"):
        HubSetting()  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", list(KINDS))
def test_setting_is_frozen(kind: type[Any]) -> None:
    made = kind(**KINDS[kind])
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)
    assert dataclasses.replace(made) == made


def test_keepalive_periods_may_be_none() -> None:
    """No pings, no end by silence, or neither; but a ping period must be below the time-out."""
    PingPongPlan[Any](ping_period=None, ping_timeout=5.0)
    PingPongPlan[Any](ping_period=50.0, ping_timeout=None)
    PingPongPlan[Any](ping_period=None, ping_timeout=None)
    SocketPeriod(ping_period=50.0, pong_wait=None)
    with pytest.raises(SettingError, match=r"pong_wait: expected more than ping_period \(300 s\)"):
        SocketPeriod(ping_period=300.0)
