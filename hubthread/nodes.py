"""The names of hubs and of their clients, as other hubs of one backplane use them.

Layer: base.  Threads: values; any thread may use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = ["Address", "Node", "Target"]


class Address(NamedTuple):
    """The address of a client among the clients of all hubs: ``ctx.address``, for ``hub.tell``.

    In JSON an address is a list of two values, and ``Address(*values)`` makes it again.
    """

    node: str
    """The name of the client's hub."""
    client: int
    """``ctx.connection_id``."""


@dataclass(frozen=True)
class Node:
    """One hub of the backplane, as it has described itself last; see ``hub.cluster``."""

    id: str
    """The unique name of the hub."""
    name: str
    """``HubSetting.hub_name``, or the random name of the hub."""
    state: str
    """``running``, ``draining`` or ``closing``."""
    clients: int
    """Clients that are connected."""
    hotlines: int
    """Rooms that are open."""
    age: float
    """Seconds since the hub has described itself."""


Target: TypeAlias = "str | Address | Node"
"""The receivers of a message: the clients of a user, one client, or all clients of one hub."""
