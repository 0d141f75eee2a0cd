"""The answer to a page that asks why its handshakes fail.

A browser hides the status of a refused handshake from its page.  So ``hubthread.js`` fetches the
address of the WebSocket with the header ``X-Hubthread-Check``.  The server decides about this
request as about a handshake, and answers 204 or the refusal.

Pages of other origins may read the answer.  A page that may not connect reads that, and no
more: its origin is checked before the hooks.

Layer: serving.  Threads: the thread that has the request.
Source: the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected
from hubthread.protocol.handshake import as_handshake
from hubthread.protocol.http import Response
from hubthread.protocol.request import CHECK_FIELD, Request
from hubthread.serving.accept import refusal_response

__all__ = ["answer_check"]


def answer_check(
    core: Core[Any, Any], request: Request, decide: Callable[[Request], object]
) -> Response:
    """Return the response to such a request.

    :param decide: refuses the handshake that it gets with ``HandshakeRejected``, or returns.
    """
    response = Response(204)
    if request.method != "OPTIONS":
        try:
            decide(as_handshake(request))
        except HandshakeRejected as refusal:
            response = refusal_response(core, refusal)
    fields = [("Cache-Control", "no-store"), ("Vary", "Origin")]
    if request.origin is not None:
        fields += [
            ("Access-Control-Allow-Origin", request.origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Headers", CHECK_FIELD),
            ("Access-Control-Expose-Headers", "Retry-After"),
        ]
    return dataclasses.replace(response, headers=(*response.headers, *fields))
