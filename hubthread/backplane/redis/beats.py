"""The hubs that are alive: each hub sends a beat to all hubs every few seconds.

A beat describes its hub.  So each hub knows all hubs without asking them.

Layer: backplane.  Threads: every method may be called on any thread, and returns at once.
"""

from __future__ import annotations

import json
import threading
from time import monotonic
from typing import Any

from hubthread.backplane.letters import decode_json, decode_letter, encode_letter
from hubthread.backplane.redis.wire import command

__all__ = ["Beats"]

LIFE = 10.0
"""Seconds that a hub counts as alive after its last beat."""


class Beats:
    """The last beat of each hub.

    :param channel: the channel that all hubs hear.
    """

    def __init__(self, channel: bytes) -> None:
        self._channel = channel
        self._lock = threading.RLock()  # guards what follows
        self._heard: dict[str, tuple[float, dict[str, Any]]] = {}

    def beat(self, node: str, described: dict[str, Any]) -> bytes:
        """Return the command that tells all hubs that this hub is alive."""
        letter = encode_letter({"beat": node}, json.dumps(described).encode())
        return command(b"PUBLISH", self._channel, letter)

    def bye(self, node: str) -> bytes:
        """Return the command that tells all hubs that this hub ends."""
        return command(b"PUBLISH", self._channel, encode_letter({"bye": node}, b""))

    def take(self, data: bytes) -> str | None:
        """Take a message to all hubs; return the hub's name if it is a beat, otherwise None.

        :raises ValueError: if another version of the library has written the message.
        """
        found = decode_letter(data)
        if found is None:
            raise ValueError("expected a beat")
        head, body = found
        node, gone, now = head.get("beat"), head.get("bye"), monotonic()
        with self._lock:
            if isinstance(gone, str):
                self._heard.pop(gone, None)
            if isinstance(node, str):
                described = decode_json(body)
                if not isinstance(described, dict):
                    raise ValueError("expected an object")
                # Forgets the beats of hubs that have died.
                alive = {name: beat for name, beat in self._heard.items() if now - beat[0] < LIFE}
                self._heard = {**alive, node: (now, described)}
                return node
        return None

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Return the hubs that are alive; see ``BackplaneLink.nodes``."""
        now = monotonic()
        with self._lock:
            heard = list(self._heard.items())
        return [(node, now - at, described) for node, (at, described) in heard if now - at < LIFE]
