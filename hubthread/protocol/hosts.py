"""The hosts that a server answers for: a check of ``Host`` against DNS rebinding.

A foreign page can let its own name resolve to the address of this machine.  Browsers then take
the server for the page's own: ``Host`` and ``Origin`` agree, and no check of the origin can tell.
The name in ``Host`` tells.  An address there is safe, because no name was resolved.

Layer: protocol.  Threads: immutable values; any thread may use them.
Source: RFC 9110 section 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import ip_address

from hubthread.errors import SettingError, SettingTypeError
from hubthread.protocol.request import Request, split_authority

__all__ = ["AllowedHosts", "hosts_of"]

_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")


class AllowedHosts:
    """The names that a request may have in ``Host``.

    Allowed besides them are ``localhost``, names below it, addresses, and a request without
    ``Host``, which comes from no browser.

    :param names: ``"example.org"``, and ``"*.example.org"`` for the names below it.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        plain = [each.lower().rstrip(".") for each in names]
        self._names = frozenset(["localhost", *plain])
        self._below = (".localhost", *(each[1:] for each in plain if each.startswith("*.")))
        # Nearly all requests ask for one of a few hosts.
        self._known = lru_cache(64)(self._allows)

    def allow(self, request: Request) -> bool:
        """Return True if the request's ``Host`` is allowed."""
        return self._known(request.headers.get("host", ""))

    def _allows(self, text: str) -> bool:
        authority = split_authority(text)
        host = authority[0].rstrip(".") if authority is not None else ""
        return not host or host in self._names or host.endswith(self._below) or _is_address(host)


def _is_address(host: str) -> bool:
    if host.startswith("["):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def hosts_of(given: object) -> AllowedHosts | None:
    """Return the hosts of a setting; ``None`` for ``"any"``.

    :raises SettingError: for anything but ``"any"`` and a collection of names.
    """
    if given == "any":
        return None
    wanted = f"expected 'any', None, or names such as ['example.org'], got {given!r}"
    if isinstance(given, str):
        raise SettingError("allowed_hosts", wanted)
    if not isinstance(given, Collection) or not all(isinstance(each, str) for each in given):
        raise SettingTypeError("allowed_hosts", wanted)
    for each in given:
        if not _NAME.fullmatch(each):
            raise SettingError("allowed_hosts", f"{wanted}: {each!r} is not a name")
    return AllowedHosts(given)
