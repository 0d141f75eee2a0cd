"""Send a broadcast to the clients that a filter of the program chooses.

Layer: hub.  Threads: the hub thread.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any

from hubthread.checks import checked
from hubthread.clients.client import Client
from hubthread.core.core import Core
from hubthread.protocol.frames import Frame

__all__ = ["send_filtered"]


def send_filtered(
    core: Core[Any, Any],
    clients: Iterable[Client[Any, Any]],
    frame: Frame,
    predicate: Callable[[Any, Any, Any], bool],
) -> None:
    """Send ``frame`` to each client for which ``predicate(hub, ctx, meta)`` is true."""
    variables = contextvars.Context()
    for client in clients:
        try:
            wanted = checked(variables.run(predicate, core.hub, client, client.meta))
        except KeyboardInterrupt as error:
            core.loop.interrupt(error)  # meant for the program, not for the filter
        except BaseException as error:  # noqa: BLE001 - logged
            core.incidents.log_exception(error, "a broadcast filter raised for %r", client)
        else:
            if wanted:
                client.ws_conn.send(frame)
