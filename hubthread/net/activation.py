"""Take the sockets that systemd has opened for this process.

Layer: net.  Threads: call it once, on the thread that opens the servers.
Source: systemd's sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket

__all__ = ["systemd_sockets"]

_FIRST = 3


def systemd_sockets() -> list[socket.socket]:
    """Return the sockets that systemd has passed to this process, in the unit's order.

    Give each to ``hub.serve(sock=...)``.  The variables of the environment (``LISTEN_FDS``) are
    removed, so that child processes do not take the sockets for theirs; a second call returns
    none.

    :returns: an empty list if there are none for this process.
    :raises OSError: when a descriptor that was passed is not a socket.
    """
    count, process = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if not count.isdecimal() or process != str(os.getpid()):
        return []
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    socks = []
    for descriptor in range(_FIRST, _FIRST + int(count)):
        sock = socket.socket(fileno=descriptor)
        sock.set_inheritable(False)
        socks.append(sock)
    return socks
