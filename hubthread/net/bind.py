"""Open the sockets that a server listens on: TCP, UDP and Unix.

Layer: net.  Threads: any; nothing here waits, except for the look-up of a host name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

__all__ = ["open_tcp", "open_udp", "open_unix"]


def open_tcp(host: str, port: int, backlog: int) -> socket.socket:
    """Return a listening TCP socket.

    :param port: 0 takes a free port.
    :param backlog: the number of connections that may wait to be accepted.
    :raises OSError: with the address in its text.
    """
    with _naming(f"{host}:{port}"):
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # Let a restarted server bind while the kernel still holds old connections.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    return sock


def open_udp(host: str, port: int) -> socket.socket:
    """Return a bound UDP socket.

    :param port: 0 takes a free port.
    :raises OSError: with the address in its text.
    """
    with _naming(f"{host}:{port}"):
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    return sock


def open_unix(path: str, backlog: int) -> socket.socket:
    """Return a listening Unix socket at ``path``; replace the file of a dead server.

    :param backlog: the number of connections that may wait to be accepted.
    :raises OSError: with the path in its text.
    """
    with _naming(path):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                        probe.setblocking(False)  # a server with a full backlog blocks connect
                        if probe.connect_ex(path) == errno.ECONNREFUSED:
                            os.unlink(path)
            sock.bind(path)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    return sock


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put ``place`` into the text of an error."""
    try:
        yield
    except UnicodeError:  # getaddrinfo could not encode the name
        raise OSError(
            errno.EINVAL, f"cannot listen on {place}: this is not a valid host name"
        ) from None
    except OSError as error:
        why = error.strerror or error  # the error of an overlong address has no strerror
        raise OSError(error.errno, f"cannot listen on {place}: {why}") from None
