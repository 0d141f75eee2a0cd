"""The hosts that a server answers for."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import SettingError
from hubthread.protocol.hosts import AllowedHosts, hosts_of
from hubthread.protocol.request import Headers, Request


def asking(host: str | None) -> Request:
    return Request("GET", "/", Headers([] if host is None else [("Host", host)]))


ALLOWED = AllowedHosts(["Example.org", "*.sub.example.org"])


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "localhost", "LOCALHOST:8000", "app.localhost", "localhost.:80"),
        *("127.0.0.1", "192.0.2.7:80", "[::1]:8000", "[fe80::1%eth0]:80"),
        *("example.org", "EXAMPLE.ORG:443", "example.org.", "a.sub.example.org"),
    ],
)
def test_hosts_local_named_and_numeric_are_allowed(host: str | None) -> None:
    assert ALLOWED.allow(asking(host))


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "example.org.evil.example", "evilexample.org", "a.example.org"),
        *("sub.example.org", "notlocalhost", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("2130706433", "0x7f000001", "127.1"),
    ],
)
def test_hosts_of_other_names_are_refused(host: str) -> None:
    """Numbers in other forms are names here; a browser writes an address in its usual form."""
    assert not ALLOWED.allow(asking(host))


@pytest.mark.parametrize(
    "given", ["example.org", "", 1, [1], ["https://example.org"], ["a:80"], ["*"], [""]]
)
def test_hosts_of_a_wrong_setting_raise(given: Any) -> None:
    with pytest.raises(SettingError) as caught:
        hosts_of(given)
    assert caught.value.field == "allowed_hosts"


def test_hosts_of_any_are_none() -> None:
    assert hosts_of("any") is None
