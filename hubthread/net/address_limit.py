"""Limit the connections of one address, so that one address cannot take all the places.

Layer: net.  Threads: any thread may call every method.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from logging import WARNING

from hubthread.concurrency.incidents import Incidents
from hubthread.limits import ADDRESS

__all__ = ["AddressLimit"]

IPV6_PREFIX = 64
"""Bits of an IPv6 address that identify a subscriber (RFC 6177).  The subscriber chooses the
other bits, and could otherwise use a new address for each connection."""


class AddressLimit:
    """The number of connections of a hub, by address.

    :param most: the most connections of one address at a time; ``None``: no limit.
    :param shared: networks, as text, whose addresses are not counted.
    """

    def __init__(self, most: int | None, shared: Iterable[str], incidents: Incidents) -> None:
        self._most = most
        self._shared = [ip_network(each) for each in shared]
        self._incidents = incidents
        # Each connection is looked up twice, and parsing an address is slow.
        self._group = lru_cache(1024)(self._find_group)
        self._lock = threading.RLock()  # guards what follows
        self._counts: dict[str, int] = {}

    def enter(self, peer: tuple[str, int] | str) -> bool:
        """Count a connection of ``peer``; return False if its address is at the limit."""
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
            "%d connections of %s, the limit (Limits.connections_per_address): refusing one; "
            "if it is a proxy's address, add it to Limits.shared_addresses"
        )
        self._incidents.log_limit(ADDRESS, WARNING, text, self._most, group)
        return False

    def leave(self, peer: tuple[str, int] | str) -> None:
        """Count a connection of ``peer`` no longer; ``enter`` has returned True for it."""
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
        """Return the key that ``peer`` is counted under; None, on a Unix socket too, for none."""
        if self._most is None or isinstance(peer, str) or not peer[0]:
            return None
        return self._group(peer[0])

    def _find_group(self, host: str) -> str | None:
        try:
            address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        except ValueError:  # a WSGI server gives something else as REMOTE_ADDR
            return repr(host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._shared):
            return None
        if isinstance(address, IPv6Address):
            return str(ip_network((int(address) >> IPV6_PREFIX << IPV6_PREFIX, IPV6_PREFIX)))
        return str(address)
