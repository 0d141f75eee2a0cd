"""A wake-up for a thread that waits for a socket.

Layer: net.  Threads: any thread rings; one thread, the owner, waits.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from hubthread.net.transport import PlainTransport

__all__ = ["Waker", "WakingTransport"]

MOST_SHARED_READ = 16
"""The exponent of the size of a read, 64 KiB, for a peer that fills its reads."""

_LONGEST = 2**31 - 1
"""Milliseconds that poll takes: it is a C int."""


class Waker:
    """Ends the wait of its owner, now or when it waits next."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self._lock = threading.RLock()  # guards the descriptor of the writing end

    def ring(self) -> None:
        """Wake the owner.  Any thread, also after ``close``."""
        with self._lock, contextlib.suppress(OSError):  # full: it has rung already; or closed
            self._writing.send(b"\0")

    def wait(
        self, timeout: float | None, sock: socket.socket | None = None, *, write: bool = False
    ) -> bool:
        """Wait for a ring or for ``sock``.

        :param timeout: seconds; ``None``: without a limit.
        :param write: wait until ``sock`` can be written to, instead of read.
        :returns: True if ``sock`` is ready.
        """
        most = None if timeout is None else min(max(0, int(timeout * 1000 + 0.999)), _LONGEST)
        wanted = [] if sock is None else [sock]
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            for each in wanted:
                poll.register(each, select.POLLOUT if write else select.POLLIN)
            ready = {fd for fd, _ in poll.poll(most)}
        else:
            reading = [self._reading] if write else [self._reading, *wanted]
            seconds = None if most is None else most / 1000
            found = select.select(reading, wanted if write else [], wanted, seconds)
            ready = {each.fileno() for each in (*found[0], *found[1], *found[2])}
        if self._reading.fileno() in ready:
            self.clear()
        return sock is not None and sock.fileno() in ready

    def fileno(self) -> int:
        """Return the descriptor that is readable after a ring, for an owner with a selector."""
        return self._reading.fileno()

    def clear(self) -> None:
        """Forget the rings so far.  The owner."""
        with contextlib.suppress(BlockingIOError):
            while self._reading.recv(4096):
                pass

    def close(self) -> None:
        """Release the descriptors.  The owner."""
        with self._lock:
            self._writing.close()
        self._reading.close()


class WakingTransport(PlainTransport):
    """A socket whose ``recv`` also ends, with ``TimeoutError``, when ``waker`` rings.

    :param sock: a connected socket; the transport owns it from now on.
    """

    __slots__ = ("_waker",)

    def __init__(self, sock: socket.socket, waker: Waker) -> None:
        super().__init__(sock)
        self._waker: Waker | None = waker
        sock.setblocking(False)

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``."""
        self._deadline = seconds

    def recv(self) -> bytes:
        """See ``Transport``."""
        if self._waker is not None and not self._waker.wait(self._deadline, self._sock):
            raise TimeoutError
        return super().recv()

    def detach(self) -> int:
        """Wait no more in ``recv``; return the descriptor, for a thread that reads many."""
        self._waker = None
        self._deadline = 0.0
        return self._sock.fileno()

    def _look_at_budget(self) -> None:
        if self._waker is not None:
            super()._look_at_budget()
        elif self._full:  # a thread that reads many never yields for one of them
            self._read_power = MOST_SHARED_READ
