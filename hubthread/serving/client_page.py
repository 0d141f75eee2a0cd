"""The page with the browser's client, ``hubthread.js``.

Layer: serving.  Threads: any thread may call the page.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib import resources

from hubthread.protocol.http import Response
from hubthread.protocol.request import Request

__all__ = ["client_page"]


def client_page(request: Request) -> Response:
    """Return the browser's client: ``hub.serve(pages={"/hubthread.js": client_page})``.

    A browser keeps the script, and asks with each page load if it has changed.
    """
    body, tag = _script()
    headers = (("ETag", tag), ("Cache-Control", "no-cache"))
    if request.headers.get("if-none-match") == tag:
        return Response(304, headers=headers)
    return Response(200, body, "text/javascript; charset=utf-8", headers)


@cache
def _script() -> tuple[bytes, str]:
    body = (resources.files("hubthread") / "static" / "hubthread.js").read_bytes()
    return body, f'"{sha256(body).hexdigest()[:16]}"'
