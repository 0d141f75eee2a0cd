"""The limit of one address: IPv4 addresses, IPv6 networks, and shared networks."""

from __future__ import annotations

from collections import Counter
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import Limits
from hubthread.concurrency.incidents import Incidents
from hubthread.net.address_limit import AddressLimit
from tests.support import Logs, together

SHARED = Limits().shared_addresses


def counted(most: int | None, *shared: str) -> tuple[AddressLimit, Incidents, Logs]:
    logs = Logs()
    incidents = Incidents(logs, monotonic)
    return AddressLimit(most, shared, incidents), incidents, logs


def come(addresses: AddressLimit, *hosts: str) -> list[bool]:
    return [addresses.enter((host, port)) for port, host in enumerate(hosts)]


@pytest.mark.parametrize(
    "hosts",
    [
        ("198.51.100.7", "198.51.100.7"),
        ("198.51.100.7", "::ffff:198.51.100.7"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::2"),
        ("unknown", "unknown"),
        # Beside the shared networks.
        ("172.32.0.1", "172.32.0.1"),
        ("11.0.0.1", "11.0.0.1"),
        ("100.128.0.1", "100.128.0.1"),
    ],
)
def test_address_limit_counts_addresses_of_one_subscriber_together(hosts: tuple[str, str]) -> None:
    addresses, incidents, logs = counted(1, *SHARED)
    assert come(addresses, *hosts) == [True, False]
    assert incidents.counts()["connections_per_address"] == 1
    (line,) = logs.warnings()
    assert line.startswith("1 connections of ")
    addresses.leave((hosts[1], 9))
    assert come(addresses, *hosts) == [True, False]


@pytest.mark.parametrize(
    "hosts",
    [
        ("198.51.100.7", "198.51.100.8"),
        ("2001:db8:1:2::1", "2001:db8:1:3::1"),
        ("unknown", "hidden"),
    ],
)
def test_address_limit_counts_subscribers_apart(hosts: tuple[str, str]) -> None:
    addresses, _, _ = counted(1, *SHARED)
    assert come(addresses, *hosts) == [True, True]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "100.64.0.1", "169.254.1.1", "fd00::1", "fe80::1%eth0", "",
    ],
)  # fmt: skip
def test_address_limit_does_not_count_shared_networks(host: str) -> None:
    addresses, incidents, _ = counted(1, *SHARED)
    assert come(addresses, host, host, host) == [True] * 3
    assert incidents.counts()["connections_per_address"] == 0
    addresses.leave((host, 1))


def test_address_limit_without_address_or_limit_counts_nothing() -> None:
    addresses, _, _ = counted(1)
    assert [addresses.enter("/run/hub.sock") for _ in range(2)] == [True, True]
    addresses.leave("/run/hub.sock")
    unlimited, _, _ = counted(None)
    assert come(unlimited, *["198.51.100.7"] * 9) == [True] * 9


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_address_limit_behaves_like_a_counter(most: int, steps: list[tuple[str, bool]]) -> None:
    addresses, incidents, _ = counted(most)
    model: Counter[str] = Counter()
    refused = 0
    for host, comes in steps:
        if comes:
            let_in = model[host] < most
            assert addresses.enter((host, 1)) == let_in
            model[host] += let_in
            refused += not let_in
        elif model[host]:
            addresses.leave((host, 1))
            model[host] -= 1
    assert incidents.counts()["connections_per_address"] == refused


def test_address_limit_counts_many_threads_exactly() -> None:
    addresses, incidents, _ = counted(50)
    together(8, lambda _: come(addresses, *["198.51.100.7"] * 20))
    assert incidents.counts()["connections_per_address"] == 110
    for _ in range(50):
        addresses.leave(("198.51.100.7", 1))
    assert come(addresses, *["198.51.100.7"] * 51) == [True] * 50 + [False]
