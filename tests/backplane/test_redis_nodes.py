"""Hubs in processes of their own that are stopped, cut off, or far from the server."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator

from tests.support.backplanes import assert_one_order
from tests.support.networks import another_machine, ip
from tests.support.nodes import RemoteNode, remote_node
from tests.support.redis_server import Proxy, RedisServer
from tests.support.waiting import TIMEOUT


@contextlib.contextmanager
def nodes(
    url: str, other: str, command: tuple[str, ...] = (), patience: float = TIMEOUT
) -> Iterator[tuple[RemoteNode, ...]]:
    """Run two nodes that are up, with a user in each.

    :param other: the URL of the second.
    :param command: what runs the second.
    :param patience: that of the second.
    """
    prefix = secrets.token_hex(4)
    second = remote_node(other, prefix, command, patience)
    with remote_node(url, prefix) as one, second as two:
        for node in (one, two):
            node.up()
        one.came("ann")
        two.came("bob")
        for node in (one, two):
            node.changes.until(lambda changes: {"+ann", "+bob"} <= set(changes))
        yield one, two


def end_lease(server: RedisServer, node: RemoteNode, user: str) -> None:
    """Let the time pass after which the silent hub of a user counts as dead."""
    with server.client() as client:
        client.ping()  # the server has taken what the hub has sent before
        fields = [field.decode().split(":") for field in client.hkeys(f"{node.prefix}:{{room}}:p")]
        (hub,) = [field[1] for field in fields if field[-1] == f"u{user}"]
        client.zadd(f"{node.prefix}:leases", {hub: 0})


def settle(one: RemoteNode, two: RemoteNode) -> None:
    """Let both push again, and check that they have seen the same."""
    one.push("end one")
    two.push("end two")
    for node in (one, two):
        node.heard("end one", "end two")
    assert_one_order([one, two])
    assert one.gaps() == two.gaps() == 0


def test_hub_whose_process_is_stopped_catches_up_and_its_users_leave_once(
    server: RedisServer,
) -> None:
    with nodes(server.url, server.url) as (one, two):
        two.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, two.process.pid, os.WSTOPPED)
        end_lease(server, two, "bob")
        one.push("meanwhile")
        one.heard("meanwhile")
        one.changes.until(lambda changes: "-bob" in changes)
        two.process.send_signal(signal.SIGCONT)
        two.heard("meanwhile")
        one.changes.until(lambda changes: changes.count("+bob") == 2)
        settle(one, two)
        assert one.changes.now().count("-bob") == 1


def test_hub_whose_network_is_cut_finds_out_and_misses_nothing(server: RedisServer) -> None:
    """The packets vanish; no connection ends.  The other hub goes on."""
    # The proxy has its port from the system, which Redis would have to be told before it starts.
    proxy = Proxy(server.path, "")
    with (
        contextlib.closing(proxy),
        another_machine() as (name, host),
        nodes(server.url, f"redis://{host}:{proxy.port}", ("ip", "netns", "exec", name), 2.0) as (
            one,
            two,
        ),
    ):
        ip("-n", name, "link", "set", "far", "down")
        two.push("waits")
        one.push("meanwhile")
        one.heard("meanwhile")
        two.states.until(lambda states: states[-1] == "down")
        one.changes.until(lambda changes: "-bob" in changes)
        assert "down" not in one.states.now()
        ip("-n", name, "link", "set", "far", "up")
        two.up(2)
        two.heard("meanwhile", "waits")
        settle(one, two)


def test_hub_with_a_slow_way_to_the_server_sends_larger_batches(server: RedisServer) -> None:
    proxy = Proxy(server.path)
    try:
        with nodes(server.url, proxy.url) as (one, two):
            proxy.delay(0.05)
            count = 300
            two.push(*(f"slow {number}" for number in range(count)))
            one.push("fast")
            one.heard("fast", f"slow {count - 1}")
            with server.client() as client:
                assert client.xlen(f"{one.prefix}:{{room}}:s") < count / 4
            settle(one, two)
    finally:
        proxy.close()
