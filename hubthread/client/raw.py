"""``link.raw``: messages in the server's own format.

Layer: client.  Threads: any.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_kind
from hubthread.errors import WrongValue

if TYPE_CHECKING:
    from hubthread.client.interfaces import Fate

__all__ = ["Raw"]


class Raw:
    """Text and bytes, sent as they are."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def send(
        self,
        data: str | bytes,
        *,
        ttl: float = math.inf,
        key: Hashable = None,
        volatile: bool = False,
    ) -> Fate:
        """Send a text message (``str``) or a binary one; see ``Link.send``.

        :raises WrongValue: for text with a lone surrogate, half a character.
        """
        check_kind("data", data, (str, bytes), "text or bytes")
        if isinstance(data, str) and not data.isascii():
            try:
                data.encode()
            except UnicodeEncodeError as error:  # here, and not when a queued message goes out
                raise WrongValue(f"the text is not valid UTF-8: {error}") from None
        fate: Fate = self._link._post(data, ttl=ttl, key=key, volatile=volatile)
        return fate
