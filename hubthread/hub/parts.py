"""The objects that a hub is assembled of.

Layer: hub.  Threads: made on the thread that makes the hub.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hubthread.core.core import Core
from hubthread.hub.lifecycle import Lifecycle
from hubthread.serving.wsgi import WSGIBridge

__all__ = ["Parts"]


class Parts(NamedTuple):
    """The objects that a hub is assembled of; ``hubthread.testing`` has virtual ones."""

    core: Core[Any, Any]
    lifecycle: Lifecycle
    bridge: WSGIBridge
