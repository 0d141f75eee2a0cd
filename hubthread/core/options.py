"""Build the options of connections from a hub's settings.

Layer: core.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hubthread.net.options import ConnectionOptions, OutboxBounds, RawFormat
from hubthread.protocol.frames import MessageType
from hubthread.settings import HubSetting, SocketPeriod

__all__ = ["raw_format", "raw_options", "websocket_options"]


def websocket_options(
    setting: HubSetting[Any, Any], on_drop: Callable[[], object]
) -> ConnectionOptions:
    """Return the options of a hub's WebSocket connections.

    :param on_drop: see ``OutboxBounds.on_drop``.
    """
    period = setting.websocket_period
    bounds = OutboxBounds(
        setting.chan_queue_size,
        setting.outbox_bytes,
        setting.overflow,
        period.upgrader.write_buffer_size,
        period.write_wait,
        sent_bytes=0 if setting.sessions is None else setting.sessions.sent_bytes,
        on_drop=on_drop,
    )
    return ConnectionOptions(
        bounds,
        period.ping_pong_plan.ping_period,
        period.ping_pong_plan.ping_timeout,
        period.close_timeout,
        setting.limits.message_time,
    )


def raw_options(setting: HubSetting[Any, Any], bounds: OutboxBounds) -> ConnectionOptions:
    """Return the options of a hub's raw TCP and UDP peers.

    :param bounds: those of the hub's WebSocket connections.
    """
    period = setting.socket_period
    return ConnectionOptions(
        replace(bounds, write_wait=period.write_wait),
        period.ping_period,
        period.pong_wait,
        period.write_wait,
        setting.limits.message_time,
    )


def raw_format(period: SocketPeriod) -> RawFormat:
    """Return the message format of a hub's raw peers."""
    text = period.write_message_type == MessageType.TEXT
    return RawFormat(period.framing, period.message_buffer_size, text)
