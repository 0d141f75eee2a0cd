"""The values and interfaces between the parts of a link.

Layer: client.  Threads: the caller holds the lock of the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from hubthread.errors import HubThreadError

__all__ = ["Driver", "Fate", "Joining", "State", "Task", "Token", "Tunables", "Work"]

State: TypeAlias = Literal["idle", "connecting", "open", "waiting", "resting", "ended"]
"""The state of a link; the guide explains each."""
Fate: TypeAlias = Literal["sent", "queued", "dropped"]
"""The fate of a message, as far as the link knows."""


class Driver(Protocol):
    """The clock, the random numbers, and the connection of the present epoch."""

    def now(self) -> float:
        """Return the time in seconds.  This clock never goes back."""

    def random(self) -> float:
        """Return a random number from 0 to 1."""

    def wake(self) -> None:
        """Ask the machine for ``task`` and ``due`` again, soon."""

    def send(self, data: str | bytes) -> None:
        """Send a message; never block."""

    def ping(self) -> None:
        """Send a Ping."""

    @property
    def buffered(self) -> int:
        """The bytes that wait for the socket."""

    def hang_up(self, code: int | None) -> None:
        """End the connection with a Close, or cut it."""


class Token(NamedTuple):
    """The outcome of a token function."""

    value: str | None
    """The token; ``None`` without one."""
    reason: str = ""
    """The reason why there is no token; empty if there is a token, or none is needed."""
    ends: bool = False
    """True if the link ends, because there will be no token later, either."""


class Joining(Protocol):
    """A room, as the machine sees it."""

    @property
    def name(self) -> str:
        """The name."""

    def lost(self) -> None:
        """Note that the connection has ended."""

    def resume(self, lost: int) -> None:
        """Stay in the room, because the session goes on.

        :param lost: the number of the session's messages that are lost.
        """

    def joining(self) -> dict[str, Any] | None:
        """Return the message that joins, or ``None`` if the room is joined already."""

    def joined(self, answer: Mapping[str, Any]) -> None:
        """Take the answer of the server."""

    def refused(self, error: HubThreadError) -> None:
        """Note that the server does not let the client in."""

    def take(self, message: Mapping[str, Any], size: int) -> None:
        """Take a message of the room."""


class Task(NamedTuple):
    """An attempt that the driver has to make."""

    epoch: int
    again: bool
    """True if the server has refused the last token."""


@dataclass(frozen=True)
class Tunables:
    """The options that the machine reads."""

    plain: bool
    can_renew: bool
    """True if the token is a function, which may be asked again."""
    timeout: float
    messages: int
    size: int
    """The most bytes that may wait."""


class Work(Driver, Protocol):
    """The driver of a link: with a thread and sockets, or in virtual time."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self, timeout: float) -> None:
        """Wait for the end of the work, for ``timeout`` seconds at most."""
