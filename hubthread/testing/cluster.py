"""Several virtual hubs whose shared rooms are one, and a server between them that can fail.

Layer: testing.  Threads: only the thread that made the cluster.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Generic, TypeVar, cast

from hubthread.checks import check_kind, check_number
from hubthread.errors import WrongValue
from hubthread.settings import HubSetting
from hubthread.testing.backplane import VirtualBackplane, VirtualLink
from hubthread.testing.clock import FakeClock
from hubthread.testing.hub import VirtualHub

__all__ = ["VirtualCluster"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class VirtualCluster(Generic[Meta, Header]):
    """Virtual hubs that share rooms, as processes do with ``RedisBackplane``.

    ``with VirtualCluster(setting, 2) as cluster: one, two = cluster.hubs``.  The hubs share one
    clock.  Between them is a server in memory, which loses connections, messages or all its data
    when the test says so.

    Threads: only the thread that made the cluster.

    :param setting: the setting of every hub; its backplane is replaced.
    :param nodes: the number of hubs.
    :param local: see ``RedisBackplane``.
    """

    def __init__(
        self, setting: HubSetting[Meta, Header], nodes: int = 3, *, local: bool = False
    ) -> None:
        check_kind("setting", setting, HubSetting, "a HubSetting")
        check_number("nodes", nodes, 1, whole=True)
        check_kind("local", local, bool, "True or False")
        self.clock = FakeClock()
        """The clock of all hubs."""
        self._server = VirtualBackplane(self.clock, local)
        self.hubs: list[VirtualHub[Meta, Header]] = []
        """The hubs, from first to last."""
        for number in range(1, nodes + 1):
            name = f"{setting.hub_name or 'hub'}-{number}"
            own = replace(setting, hub_name=name, backplane=self._server)
            self.hubs.append(VirtualHub(own, self.clock))

    @property
    def errors(self) -> list[BaseException]:
        """The exceptions of callbacks, in all hubs, that were logged; empty if all is well."""
        return [error for hub in self.hubs for error in hub.errors]

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass; see ``VirtualHub.advance``."""
        self.clock.advance(seconds)

    def settle(self) -> None:
        """Do all work that is due now, such as the pushes of the test itself."""
        self.clock.settle()

    # Faults.

    def cut(self, hub: VirtualHub[Any, Any]) -> None:
        """Cut a hub from the server, until ``heal``.

        Messages on their way to the hub are lost; ``hub.tell`` and ``hub.call`` do not get
        through.  The hub's pushes wait.  After ten seconds further pushes are refused with
        ``BackplaneDown``; in a ``local`` cluster they reach only the hub's own members.  Then the
        other hubs let the hub's users leave, and do not list the hub in ``hub.cluster`` any more.
        """
        self._link(hub).cut()
        self.settle()

    def heal(self, hub: VirtualHub[Any, Any]) -> None:
        """Let a hub reach the server again."""
        self._link(hub).heal()
        self.settle()

    def drop(self, hub: VirtualHub[Any, Any], count: int = 1) -> None:
        """Silently lose the next messages from the server to a hub.

        A message is a batch of pushes, or the answer to a batch of the hub.  The hub finds the
        loss at the next batch, or within 25 seconds.

        :param count: the number of messages to lose.
        """
        check_number("count", count, 1, whole=True)
        self._link(hub).dropping = count

    def fail_over(self) -> None:
        """Let another server take over, which has none of the rooms' pushes.

        Pushes that a hub has not got are lost, and its members are told.  The new server places
        the waiting pushes.
        """
        self._server.fail_over()
        self.settle()

    def _link(self, hub: VirtualHub[Any, Any]) -> VirtualLink:
        if hub not in self.hubs:
            raise WrongValue(f"expected a hub of this cluster, got {hub!r}")
        return cast("VirtualLink", hub._core.sharing.link())

    # Start and end.

    def start(self) -> None:
        """Start all hubs."""
        for hub in self.hubs:
            hub.start()

    def close(self) -> None:
        """Close all hubs; virtual time passes until all clients have gone."""
        for hub in self.hubs:
            hub.close()

    def __enter__(self) -> VirtualCluster[Meta, Header]:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VirtualCluster of {len(self.hubs)} hubs>"
