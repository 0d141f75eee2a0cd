"""The text of the hub's own messages with clients of the subprotocol ``hubthread.1``.

They are JSON texts whose ``type`` begins with ``hub:``.

Layer: protocol.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Refusal", "check_hello", "encode_message", "load_message", "reply_to"]

VERSION = 1
MARK = '"hub:'
MARK_ENDS = 20
"""The mark is in the first characters of the hub's own messages, because ``type`` comes first."""


class Refusal(Exception):
    """A request of a client is refused.  The text is for the client."""


def load_message(payload: str | bytes) -> dict[str, Any] | None:
    """Return the decoded message, if it is one of the hub's own; otherwise None."""
    if not isinstance(payload, str) or MARK not in payload[:MARK_ENDS]:
        return None
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if isinstance(message, dict):
        kind = message.get("type")
        if isinstance(kind, str) and kind.startswith("hub:"):
            return message
    return None


def encode_message(message: dict[str, Any]) -> str:
    """Return the text of a message."""
    return json.dumps(message, separators=(",", ":"))


def reply_to(number: object) -> dict[str, Any]:
    """Return the field ``reply`` of an answer to a request, if the request has a number."""
    return {"reply": number} if isinstance(number, (int, str)) else {}


def check_hello(message: dict[str, Any], *, takes_token: bool) -> None:
    """Refuse a ``hub:hello`` of another version, or with a token that the hub does not check.

    :param takes_token: True if the hub checks tokens.
    :raises Refusal: for such a message.
    """
    if message.get("v") != VERSION:
        raise Refusal(f"v: expected {VERSION}")
    # A client must not think that its token was checked.
    if "token" in message and not takes_token:
        raise Refusal("token: this server takes none")
