"""A numbered place for each process of a program, with a Unix socket through which it answers.

A place is a number, with a lock file and a socket in a folder.  The system takes the lock back
when the process ends, however it ends.  The next process then takes the number and the files, so
neither the numbers nor the files grow.

Layer: net.  Threads: see ``WorkerSocket``; ``ask_workers`` may be called on any thread, and waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Callable
from errno import EAGAIN, EWOULDBLOCK
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.deadline import Deadline
from hubthread.net.bind import open_unix
from hubthread.net.waker import Waker

__all__ = ["MOST_WORKERS", "WorkerSocket", "ask_workers"]

MOST_WORKERS: Final = 256
"""The number of places in a folder: each is a value of a label in the database of metrics."""

_PATIENCE: Final = 1.0
"""Seconds that a process has to take an answer, before the next one gets its own."""

_LONGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer: a longer one is no answer."""

_PAUSE: Final = 0.1

_open: weakref.WeakSet[WorkerSocket] = weakref.WeakSet()


class WorkerSocket:
    """The place of this process, and its socket.

    Threads: one thread calls ``run``; any other calls ``close``.

    :param folder: the folder of the places; it is made if there is none.
    :raises OSError: if the folder cannot be used, or has no free place.
    """

    def __init__(self, folder: Path) -> None:
        self._lock_fd = -1
        self._closing = False
        self._pause = Bell()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            self.number, self._lock_fd = _claim(folder)
            """The number of the place."""
            opened.callback(self._unlock)
            path = folder / f"{self.number}.sock"
            path.unlink(missing_ok=True)  # of a process that was killed
            self._bound = open_unix(str(path), backlog=16, mode=0o600)
            opened.callback(self._bound.close)
            self._sock = self._bound.socks[0]
            self._sock.setblocking(False)
            self._waker = Waker()
            opened.pop_all()
        _open.add(self)

    def run(self, answer: Callable[[], bytes]) -> None:
        """Send ``answer()`` to each connection, until ``close``."""
        try:
            while not self._closing:
                if self._waker.wait(None, self._sock):
                    self._answer_next(answer)
        finally:
            self._release()

    def close(self) -> None:
        """Let ``run`` end, now or when it is called."""
        self._closing = True
        self._pause.ring()
        self._waker.ring()

    def _answer_next(self, answer: Callable[[], bytes]) -> None:
        try:
            peer, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor is left
            self._pause.wait(_PAUSE)
            return
        with peer, contextlib.suppress(OSError):  # the peer has ended, or does not read
            peer.settimeout(_PATIENCE)
            peer.sendall(answer())

    def _release(self) -> None:
        _open.discard(self)
        # The socket first: another process may take the place as soon as the lock is free.
        self._bound.close()
        self._waker.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def disown(self) -> None:
        """Close the copies of the descriptors in a forked child.

        The child would keep the lock and the socket after the end of this process.
        """
        self._sock.close()
        self._unlock()


def ask_workers(folder: Path, but: int | None, seconds: float) -> dict[int, bytes | None]:
    """Return the answer of each process in a place, by the number of the process.

    :param but: the place of the caller, which is not asked.
    :param seconds: the time of all of them together.
    :returns: None for a process that runs and does not answer.
    """
    with contextlib.ExitStack() as opened:
        asked: dict[int, socket.socket | None] = {}
        files = set(os.listdir(folder)) if folder.is_dir() else set()
        for number in range(MOST_WORKERS):
            path = folder / f"{number}.sock"
            if number == but or path.name not in files:
                continue
            sock = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.setblocking(False)
            try:
                sock.connect(str(path))
                asked[number] = sock
            except OSError as error:
                if error.errno in (EAGAIN, EWOULDBLOCK):  # its backlog is full
                    asked[number] = None
                # Otherwise the process has ended.
        # All of them have begun to answer: the time of the slowest is the time of all.
        deadline = Deadline(seconds)
        return {
            number: None if sock is None else _read(sock, deadline)
            for number, sock in asked.items()
        }


def _read(sock: socket.socket, deadline: Deadline) -> bytes | None:
    found = bytearray()
    try:
        while len(found) <= _LONGEST:
            sock.settimeout(max(0.001, deadline.left() or 0.0))
            data = sock.recv(256 * 1024)
            if not data:
                return bytes(found)
            found += data
    except TimeoutError:
        return None
    except OSError:
        return b""
    return b""


def _claim(folder: Path) -> tuple[int, int]:
    """Return the lowest free number, and the descriptor of its lock."""
    if fcntl is None:
        raise OSError("this system has no Unix sockets and no file locks")
    for number in range(MOST_WORKERS):
        descriptor = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        else:
            return number, descriptor
    raise OSError(f"all of its {MOST_WORKERS} places are taken")


def _disown_all() -> None:
    for each in list(_open):
        each.disown()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
