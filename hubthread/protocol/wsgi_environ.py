"""A request as a WSGI server hands it on: an environ (PEP 3333) to a :class:`Request`.

Layer: protocol.  No thread: a pure function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from hubthread.errors import HandshakeRejected
from hubthread.protocol.http import check_request
from hubthread.protocol.request import Headers, Request

__all__ = ["request_of"]

_PATH = "/:@!$&'()*+,;=~"
_QUERY = "".join(map(chr, range(0x21, 0x7F)))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def request_of(environ: Mapping[str, Any]) -> Request:
    """The request that a WSGI server has read, held to what our own server asks for.

    The peer's address and whether it came over TLS are what the environ says: the server,
    or a middleware that trusts a proxy, has put them there.

    Args:
        environ: what the application was called with.

    Raises:
        HandshakeRejected: as :meth:`hubthread.protocol.http.RequestParser.receive`.
    """
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    target = quote(path.encode("latin-1", "replace"), _PATH) or "/"
    if query:
        target += "?" + quote(query.encode("latin-1", "replace"), _QUERY)
    fields = list(_fields(environ))
    if any(_CONTROL.search(value) for _, value in fields):
        raise HandshakeRejected(400, "The request head contains a control character.")
    port = str(environ.get("REMOTE_PORT", ""))
    request = Request(
        method=environ["REQUEST_METHOD"],
        target=target,
        headers=Headers(fields),
        peer=(environ.get("REMOTE_ADDR", ""), int(port) if port.isdecimal() else 0),
        secure=environ.get("wsgi.url_scheme") == "https",
        http_version=environ.get("SERVER_PROTOCOL", "").removeprefix("HTTP/") or "1.0",
    )
    check_request(request)
    return request


def _fields(environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The header fields; of one that was repeated, WSGI has joined the values."""
    for name, value in environ.items():
        if name.startswith("HTTP_") and isinstance(value, str):
            yield name[5:].replace("_", "-"), value
        elif name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            yield name.replace("_", "-"), value
