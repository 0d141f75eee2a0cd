"""The tools that tests share.  Tests import every name from here.

==================  ===============================================================
``waiting.py``      gates and lists to wait on instead of sleeping; work on threads
``logs.py``         a logger that keeps its records
``wire.py``         bytes on the wire: opcodes, masked frames, handshakes, readers
``transports.py``   connected sockets and TLS contexts, for tests without a hub
``peers.py``        bare clients of a server: WebSocket, TCP, UDP
``hubs.py``         a hub that serves for one test, and the clients that it has
``examples.py``     the number of examples of a model, for hypothesis
``programs.py``     programs in processes of their own, which share the time of the imports
==================  ===============================================================

No tool sleeps.  Each waits for a condition, and fails after ``TIMEOUT`` seconds.

Read ``waiting.py`` first, then ``hubs.py``: most tests need nothing else.
"""

from tests.support.hubs import (
    AnyClient,
    AnyHub,
    Serving,
    ended,
    fence,
    how_it_ended,
    listen,
    serving,
)
from tests.support.logs import Logs, incidents_to
from tests.support.peers import RawPeer, TcpPeer, UdpPeer, ask, connect, tcp_peer, udp_peer
from tests.support.transports import (
    DATA,
    NetServices,
    Starter,
    client_context,
    fill,
    outbox_bounds,
    server_context,
    tcp_pair,
    transport_pair,
    unix_pair,
    work,
)
from tests.support.waiting import TIMEOUT, Gate, Items, Notes, Task, in_thread, together, tries
from tests.support.wire import (
    BINARY,
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    close_frame,
    frame,
    masked_frame,
    raw_handshake,
    read_close,
    read_exactly,
    read_frame,
    read_to_end,
    status_of,
)

__all__ = [
    "BINARY",
    "CLOSE",
    "DATA",
    "KEY",
    "PING",
    "PONG",
    "TEXT",
    "TIMEOUT",
    "AnyClient",
    "AnyHub",
    "Gate",
    "Items",
    "Logs",
    "NetServices",
    "Notes",
    "RawPeer",
    "Serving",
    "Starter",
    "Task",
    "TcpPeer",
    "UdpPeer",
    "ask",
    "client_context",
    "close_frame",
    "connect",
    "ended",
    "fence",
    "fill",
    "frame",
    "how_it_ended",
    "in_thread",
    "incidents_to",
    "listen",
    "masked_frame",
    "outbox_bounds",
    "raw_handshake",
    "read_close",
    "read_exactly",
    "read_frame",
    "read_to_end",
    "server_context",
    "serving",
    "status_of",
    "tcp_pair",
    "tcp_peer",
    "together",
    "transport_pair",
    "tries",
    "udp_peer",
    "unix_pair",
    "work",
]
