"""Letters: messages of one hub, or of a program, to another hub or to a user's clients.

A letter goes to a *box* of the backplane.  Each hub hears the box of its own name, and the boxes
of the users that have clients on it.  A room that one hub owns has two boxes: one for calls to the
owner, and one for news about the lease.  A letter is a *head*, a line of JSON that says what the
letter is for, and a *body* of bytes.

Layer: backplane.  Threads: pure functions.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "decode_json",
    "decode_letter",
    "encode_letter",
    "lease_box",
    "node_box",
    "owner_box",
    "user_box",
]

VERSION = b"1"
"""The version of the format: the first byte of each letter.  Hubs ignore other versions."""


def node_box(node: str) -> str:
    """Return the box of a hub."""
    return f"n:{node}"


def user_box(user: str) -> str:
    """Return the box of a user.  Each hub that has clients of the user hears it."""
    return f"u:{user}"


def owner_box(room: str) -> str:
    """Return the box of the hub that owns a room."""
    return f"o:{room}"


def lease_box(room: str) -> str:
    """Return the box of all hubs that can own a room."""
    return f"l:{room}"


def encode_letter(head: dict[str, Any], body: bytes) -> bytes:
    """Return the bytes of a letter."""
    return VERSION + json.dumps(head).encode() + b"\n" + body


def decode_letter(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the head and the body; None if another version of the library wrote the letter."""
    line, found, body = data.partition(b"\n")
    if not found or line[:1] != VERSION:
        return None
    try:
        head = decode_json(line[1:])
    except ValueError:
        return None
    return (head, body) if isinstance(head, dict) else None


def decode_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that another hub has written.

    :raises ValueError: if the text is not JSON, or is nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the text is nested too deep") from None
