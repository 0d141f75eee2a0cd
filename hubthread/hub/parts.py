"""Assemble the parts of a hub.

Layer: hub.  Threads: the thread that makes the hub calls these functions.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from hubthread.clients.client import Client
from hubthread.clients.ratelimit import behind_limit, limiter_of
from hubthread.core.core import Core
from hubthread.core.runtime import Runtime
from hubthread.hub.client_messages import ClientMessages
from hubthread.hub.cluster import Letters
from hubthread.hub.dhub import DHub
from hubthread.hub.lifecycle import Lifecycle
from hubthread.hub.report import described
from hubthread.hub.session_table import SessionTable
from hubthread.protocol.handshake import validate_origin_check
from hubthread.serving.wsgi import WSGIBridge
from hubthread.settings import HubSetting

__all__ = ["Parts", "assemble", "wire"]


class Parts(NamedTuple):
    """The parts of a hub; ``hubthread.testing`` has virtual ones."""

    core: Core[Any, Any]
    lifecycle: Lifecycle
    bridge: WSGIBridge


def assemble(hub: Any, setting: HubSetting[Any, Any]) -> Parts:
    """Return the parts of a hub with real threads and sockets."""
    core = Core(hub, setting, Runtime.real(setting), DHub)
    lifecycle = Lifecycle(core)
    end = partial(lifecycle.end, hub.close)
    return Parts(core, lifecycle, WSGIBridge(core, lifecycle.start_once, end))


def wire(core: Core[Any, Any]) -> None:
    """Give a new core the objects that it needs from the layers above, and check the setting.

    :raises SettingError: for a ``check_origin`` that is neither a policy nor a function.
    """
    setting = core.setting
    core.client_class = Client
    core.letters = Letters(core)
    core.registry.on_user = core.letters.follow_user
    core.sharing.description = partial(described, core)
    core.limiter = limiter_of(setting.limits, core.clock.now)
    core.intercept = behind_limit(core.limiter, setting.on_receive_message)
    own = ClientMessages(core, setting.on_receive_message)
    core.client_messages = behind_limit(core.limiter, own) or own
    if setting.sessions is not None:
        core.sessions = SessionTable(core, setting.sessions)
    validate_origin_check(setting.websocket_period.upgrader.check_origin)
    if setting.receive_matcher is not None:
        setting.receive_matcher.freeze()
