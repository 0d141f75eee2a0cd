"""How many connections each address has, so that one cannot take all the places.

Layer: net.  Threads: every method from any.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from logging import WARNING

from hubthread.concurrency.incidents import Incidents
from hubthread.limits import ADDRESS

__all__ = ["Addresses"]

NETWORK = 64
"""Bits of an IPv6 address that are somebody's: the rest is the choice of who has them (RFC
6177), who could else come from as many addresses as he likes."""


class Addresses:
    """The connections of one hub, by address.

    :param most: of one address at a time; ``None``: nobody is counted.
    :param shared: networks, as text, whose addresses are not counted.
    """

    def __init__(self, most: int | None, shared: Iterable[str], incidents: Incidents) -> None:
        self._most = most
        self._shared = [ip_network(each) for each in shared]
        self._incidents = incidents
        # Looked up for each connection, twice, in 0.5 µs; one that is new takes 15.
        self._group = lru_cache(1024)(self._find_group)
        self._lock = threading.Lock()  # guards what follows
        self._counts: dict[str, int] = {}

    def enter(self, peer: tuple[str, int] | str) -> bool:
        """Count a connection of ``peer``; false if it has as many as it may."""
        group = self._group_of(peer)
        if group is None:
            return True
        assert self._most is not None
        with self._lock:
            count = self._counts.get(group, 0)
            if count < self._most:
                self._counts[group] = count + 1
                return True
        text = (
            "%d connections of %s, the limit (Limits.connections_per_address): turning one away; "
            "if it is a proxy's address, name it in Limits.shared_addresses"
        )
        self._incidents.log_limit(ADDRESS, WARNING, text, self._most, group)
        return False

    def leave(self, peer: tuple[str, int] | str) -> None:
        """A connection that was counted has gone."""
        group = self._group_of(peer)
        if group is None:
            return
        with self._lock:
            count = self._counts[group] - 1
            if count:
                self._counts[group] = count
            else:
                del self._counts[group]

    def _group_of(self, peer: tuple[str, int] | str) -> str | None:
        """What ``peer`` is counted as, if at all: not on a Unix socket."""
        if self._most is None or isinstance(peer, str) or not peer[0]:
            return None
        return self._group(peer[0])

    def _find_group(self, host: str) -> str | None:
        try:
            address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        except ValueError:  # a WSGI server's word for it
            return repr(host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._shared):
            return None
        if isinstance(address, IPv6Address):
            return str(ip_network((int(address) >> NETWORK << NETWORK, NETWORK)))
        return str(address)
