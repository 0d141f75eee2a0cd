"""Make a :class:`Request` from the environ of a WSGI server.

Layer: protocol.  Threads: a pure function; any thread may call it.
Source: PEP 3333.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from hubthread.errors import HandshakeRejected
from hubthread.protocol.http import check_request
from hubthread.protocol.request import Headers, Request

__all__ = ["kept_environ", "request_of"]

_PATH = "/:@!$&'()*+,;=~"
_QUERY = "".join(map(chr, range(0x21, 0x7F)))
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def request_of(environ: Mapping[str, Any], *, post: bool = False) -> Request:
    """Return the request that a WSGI server has read, after the checks of our own server.

    The peer's address and the use of TLS are taken from the environ, where the server, or a
    middleware that trusts a proxy, has put them.

    :param environ: the environ that the application was called with.
    :param post: True if ``POST`` is taken, too.
    :raises HandshakeRejected: as :meth:`hubthread.protocol.http.RequestParser.receive`.
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
    check_request(request, post=post)
    return request


def kept_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of what an environ says of its request, without streams and sockets."""
    return {
        name: value
        for name, value in environ.items()
        if isinstance(value, str) or name in ("wsgi.version", "wsgi.multithread", "wsgi.run_once")
    } | {"wsgi.multiprocess": False}


def _fields(environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the header fields; WSGI has joined the values of a repeated field."""
    for name, value in environ.items():
        if name.startswith("HTTP_") and isinstance(value, str):
            yield name[5:].replace("_", "-"), value
        elif name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            yield name.replace("_", "-"), value
