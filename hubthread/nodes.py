"""The names of hubs and of their clients, as other hubs of one backplane use them.

Layer: base.  Threads: values; any thread may use them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

__all__ = ["Address", "Node", "Target"]


class Address(NamedTuple):
    """A client among those of all hubs: ``ctx.address``.  ``hub.tell`` takes it.

    As JSON it is a list of two, and ``Address(*values)`` makes it again.
    """

    node: str
    """The name of the client's hub."""
    client: int
    """``ctx.connection_id``."""


@dataclass(frozen=True)
class Node:
    """One hub of the backplane, as it has last told the others; see ``hub.cluster``."""

    id: str
    """The name of the hub, which no other hub has."""
    name: str
    """``HubSetting.hub_name``, or the random name of the hub."""
    state: str
    """``running``, ``draining`` or ``closing``."""
    clients: int
    """Clients that are connected."""
    hotlines: int
    """Rooms that are open."""
    age: float
    """Seconds since the hub has told so."""


Target: TypeAlias = "str | Address | Node"
"""The clients of a message: the name of their user, one client, or those of one hub."""
