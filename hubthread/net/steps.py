"""The work of a connection as a generator, which waits for its socket by ``yield``.

Layer: net.  Threads: one thread at a time runs a generator.

The same generator serves both kinds of readers.  With a thread of its own a connection blocks in
``Transport.recv``, and the generator never yields: ``run_steps`` runs it to its end.  Where
connections share threads, ``recv`` raises ``TimeoutError`` when there is nothing to receive; the
generator then yields what it waits for, and ``selecting.Watch`` resumes it.

=================  ===============================================================================
yielded value      the generator is resumed
=================  ===============================================================================
a number           when the socket is readable, or after so many seconds without a byte
``None``           as before: a byte came, so the seconds begin anew
``Writable``       when the socket takes bytes, or after so many seconds
``Drained``        when the outbox has sent all that waited, or after so many seconds
a generator        when that generator has come to its end
=================  ===============================================================================
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeAlias, TypeVar

from hubthread.concurrency.flusher import Corked
from hubthread.concurrency.habits import Habits

__all__ = ["Drained", "Shared", "Steps", "Watching", "Writable", "Writer", "run_steps"]

T = TypeVar("T")

Steps: TypeAlias = Generator[Any, None, T]
"""A generator of the values above, with its result."""


class Writable(float):
    """Seconds to wait until the socket takes bytes."""


class Drained(float):
    """Seconds to wait until the outbox is empty."""


class Writer(Protocol):
    """An outbox that waits for its socket without a thread."""

    @property
    def write_wait(self) -> float:
        """Seconds without a byte of progress after which the connection counts as stalled."""

    @property
    def has_writer(self) -> bool:
        """True while something waits for the socket."""

    def write_some(self, *, writable: bool) -> bool:
        """Send what the socket takes now; return False if nothing waits any more.

        :param writable: False after ``write_wait`` seconds in which the socket took nothing.
        """


class Shared(Protocol):
    """A client whose connection shares threads."""

    habits: Habits | None
    """The functions that tend to block the crew; ``None``: its reader is its own."""
    running: object
    """The function of the program that runs now, or has run last."""

    @property
    def name(self) -> str:
        """Its name in the log, and in the name of a thread that it blocks."""


class Watching(Protocol):
    """The place of one connection among those that share threads: ``selecting.Watch``."""

    habits: Habits
    """The functions that tend to block the crew."""
    client: Shared | None
    """The client, after its handshake."""

    @property
    def seconds_left(self) -> float:
        """The rest of the seconds that the generator has yielded."""

    def start_writer(self, writer: Writer) -> None:
        """Have ``writer`` send its backlog when the socket takes bytes.  Any thread."""

    def watch(self, corked: Corked) -> bool:
        """Uncork ``corked`` when the running step blocks; return False if it blocks already."""

    def forget(self, corked: Corked) -> None:
        """Stop watching ``corked``."""

    def note_busy(self) -> None:
        """Let other threads run before the next wait: a read has cost much CPU time."""

    def end(self) -> None:
        """Stop waiting for the socket, which is about to be closed."""


def run_steps(steps: Steps[T]) -> T:
    """Run steps that block instead of yielding, and return their result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
