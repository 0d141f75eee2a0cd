"""The browser's client, ``hubthread.js``, as a page and as files.

Layer: serving.  Threads: any thread may call the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

from hubthread.checks import check_kind
from hubthread.errors import SettingError
from hubthread.protocol.http import Response
from hubthread.protocol.request import Request

__all__ = ["CONTENT_TYPE", "FILES", "client_file", "client_page", "client_tag", "with_client"]

FILES = ("hubthread.js", "hubthread.d.ts")
"""The names of the files: the module, and its types for TypeScript."""

CONTENT_TYPE = "text/javascript; charset=utf-8"


def client_page(request: Request) -> Response:
    """Return the browser's client; ``hub.serve(client="/hubthread.js")`` serves it.

    A browser keeps the script, and asks with each page load if it has changed.
    """
    tag = client_tag()
    headers = (("ETag", tag), ("Cache-Control", "no-cache"))
    if request.headers.get("if-none-match") == tag:
        return Response(304, headers=headers)
    return Response(200, client_file(FILES[0]), CONTENT_TYPE, headers)


def with_client(pages: Any, path: str | None) -> Any:
    """Return the pages of a server, with the browser's client among them.

    :param path: the path of the client; ``None`` for none.
    :raises SettingError: for a path without a slash, or one that a page has already.
    """
    if path is None:
        return pages
    check_kind("client", path, str, "a path such as '/hubthread.js'")
    pages = {} if pages is None else pages
    check_kind("pages", pages, Mapping, "a mapping from paths to functions")
    if not path.startswith("/"):
        raise SettingError("client", f"expected a path that begins with a slash, got {path!r}")
    if path in pages:
        raise SettingError("client", f"expected a path without a page, got {path!r}")
    return {**pages, path: client_page}


@cache
def client_file(name: str) -> bytes:
    """Return the content of one of the ``FILES``."""
    return (resources.files("hubthread") / "static" / name).read_bytes()


@cache
def client_tag() -> str:
    """Return the entity tag of the script, quoted."""
    return f'"{sha256(client_file(FILES[0])).hexdigest()[:16]}"'
