"""The UDP sockets of one server and their peers, kept by address.

A peer is made at its first datagram and ended by its silence.

A server has one socket for each address of its host name.

Layer: net.  Threads: one thread receives, sends what waits, and ends silent peers.  It waits in
one place for all of that, and is woken by a socket pair.  No user code runs on it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from logging import INFO, WARNING
from time import monotonic
from typing import TypeAlias

from hubthread.limits import CONNECTIONS, SILENCE, UNHANDLED
from hubthread.net.bind import Bound, address_of
from hubthread.net.interfaces import Services
from hubthread.net.options import ConnectionOptions, RawFormat
from hubthread.net.udp.peer import Address, UdpPeer
from hubthread.protocol.raw_framing import read_datagram
from hubthread.protocol.websocket import ProtocolFailure

__all__ = ["UdpSocket"]

BATCH = 256
"""Datagrams of one socket that the thread receives before it turns to its other work."""

MOST_UNHANDLED = 64
"""Messages of one peer that wait for its handler; further ones are lost."""

MOST_UNHANDLED_BYTES = 16 * 1024 * 1024
"""Bytes of the messages that wait for their handlers, of all peers of one server together."""

MOST_ENDING = 1024
"""Peers that have ended and whose last callback has not run.  While there are more, no new
peer is made."""

CLOSE_TIMEOUT = 1.0
"""Seconds that ``close`` waits for the thread to end when no peer is left."""

_LINE_END = 3
"""Bytes to read beyond the limit, to see that a datagram is too long: see ``read_datagram``."""


_Key: TypeAlias = "tuple[_Port, Address]"
"""A peer: the socket that its datagrams come to, and its address."""


class _Port:
    """One bound socket of a ``UdpSocket``, as its peers see it: a ``PeerSocket``."""

    def __init__(self, sock: socket.socket, owner: UdpSocket) -> None:
        self.sock = sock
        self._owner = owner

    def send(self, wire: bytes, address: Address) -> bool:
        """See ``PeerSocket``."""
        try:
            self.sock.sendto(wire, address)
        except BlockingIOError:
            return False
        return True

    def send_later(self, peer: UdpPeer) -> None:
        """See ``PeerSocket``."""
        self._owner.send_later(self, peer)

    def forget(self, peer: UdpPeer) -> None:
        """See ``PeerSocket``."""
        self._owner.forget((self, peer.address), peer)


class UdpSocket:
    """The peers of the UDP sockets of one server.

    Peers are kept in two tables: *unproven* after one datagram, *proven* after two.  When there
    are too many peers, the unproven one that has been silent longest makes room.  A flood of
    forged addresses therefore keeps no proven peer out, and no new peer that sends twice.

    Threads: ``start`` is called once; any thread may call ``close`` and read the counters.

    :param bound: the sockets; this object owns them from now on.
    :param welcome: called with each new peer, on the sockets' thread, to set ``peer.sink``.  It
        must return at once.  False refuses the peer.
    :param max_peers: the most peers at the same time.
    """

    def __init__(
        self,
        bound: Bound,
        welcome: Callable[[UdpPeer], bool],
        raw_format: RawFormat,
        options: ConnectionOptions,
        services: Services,
        max_peers: int,
    ) -> None:
        self._bound = bound
        self._welcome = welcome
        self._format = raw_format
        self._options = options
        self._threads = services.threads
        self._timers = services.timers
        self._incidents = services.incidents
        self._traffic = services.meter.traffic("udp")
        self._max_peers = max_peers
        self.addresses: tuple[tuple[str, int] | str, ...] = tuple(map(address_of, bound.socks))
        """``(host, port)`` of each socket as bound."""
        self._ports = [_Port(sock, self) for sock in bound.socks]
        with contextlib.ExitStack() as opened:
            self._waker, self._wake = map(opened.enter_context, socket.socketpair())
            self._selector = opened.enter_context(selectors.DefaultSelector())
            for each in (*bound.socks, self._waker, self._wake):
                each.setblocking(False)
            for each in (*bound.socks, self._waker):
                self._selector.register(each, selectors.EVENT_READ)
            opened.pop_all()
        self._waits_for_room: _Port | None = None  # the selector watches it for writing too
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._ended = False
        self._runner: int | None = None
        self._closing = False
        # By address; the peer that has been silent longest comes first.
        self._unproven: OrderedDict[_Key, UdpPeer] = OrderedDict()
        self._proven: OrderedDict[_Key, UdpPeer] = OrderedDict()
        self._pings: OrderedDict[_Key, float] = OrderedDict()  # when each ping is due
        # Peers with messages that wait for room in their socket.
        self._waiting: deque[tuple[_Port, UdpPeer]] = deque()
        self._unhandled_bytes = 0
        self.connections = 0
        """Peers now, including those whose last callback has not run."""
        self.accepted = 0
        """Peers so far."""
        self.refused = 0
        """Datagrams that were not taken: malformed, or no room for them or their sender."""

    def start(self) -> None:
        """Begin to receive.

        :raises RuntimeError: when the system cannot start a thread.
        """
        try:
            self._threads.start(self._run, "datagrams")
        except RuntimeError:
            self._release_sockets()
            raise

    def close(self, timeout: float | None = None) -> bool:
        """Accept no new peer.  Without peers, return when the socket is closed.

        With peers, the socket stays open until the last of them has ended.
        """
        with self._lock:
            self._closing = True
            empty = not self._unproven and not self._proven and not self._waiting
            mine = self._runner == threading.get_ident()
            self._wake_up()
        if empty and not mine:
            most = CLOSE_TIMEOUT if timeout is None else timeout
            with self._lock:
                return self._changed.wait_for(lambda: self._ended, most)
        return True

    # Called by the ports, for their peers, on any thread.

    def send_later(self, port: _Port, peer: UdpPeer) -> None:
        """See ``PeerSocket``."""
        with self._lock:
            self._waiting.append((port, peer))
            self._wake_up()

    def forget(self, key: _Key, peer: UdpPeer) -> None:
        """See ``PeerSocket``."""
        with self._lock:
            for table in (self._unproven, self._proven):
                if table.get(key) is peer:
                    del table[key]
                    self._pings.pop(key, None)
            if self._closing:
                self._wake_up()

    # Called by sinks, on any thread.

    def handled(self, peer: UdpPeer, size: int) -> None:
        """Note that the handler of a message of ``size`` bytes has run."""
        with self._lock:
            peer.unhandled -= 1
            self._unhandled_bytes -= size

    def gone(self) -> None:
        """Note that the last callback of a peer has run."""
        with self._lock:
            self.connections -= 1

    # The sockets' thread.

    def _wake_up(self) -> None:
        """Wake the thread.  The caller holds the lock, so the descriptor is still open."""
        with contextlib.suppress(OSError):  # full: the thread wakes anyway; closed: it has ended
            self._wake.send(b"x")

    def _run(self) -> None:
        with self._lock:
            self._runner = threading.get_ident()
        try:
            while not self._is_over():
                self._selector.select(self._next_timeout())
                self._receive()
                self._send_waiting()
                self._check_silence()
        finally:
            self._release_sockets()

    def _is_over(self) -> bool:
        with self._lock:
            return self._closing and not (self._unproven or self._proven or self._waiting)

    def _release_sockets(self) -> None:
        self._selector.close()
        self._bound.close()
        self._waker.close()
        with self._lock:
            self._wake.close()
            self._ended = True
            self._changed.notify_all()

    def _next_timeout(self) -> float | None:
        """Return the seconds until a ping is due or a peer has been silent for too long."""
        with self._lock:
            dues = [next(iter(self._pings.values()))] if self._pings else []
            limit = self._options.ping_timeout
            if limit is not None:
                tables = [table for table in (self._unproven, self._proven) if table]
                dues.extend(next(iter(table.values())).heard + limit for table in tables)
        return max(0.0, min(dues) - monotonic()) if dues else None

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)
        for port in self._ports:
            self._receive_at(port)

    def _receive_at(self, port: _Port) -> None:
        size = self._format.max_message + _LINE_END
        for _ in range(BATCH):
            try:
                data, address = port.sock.recvfrom(size)
            except BlockingIOError:
                return
            except OSError:  # some systems report here that a peer refused a datagram
                continue
            self._handle(data, (port, address))

    def _handle(self, data: bytes, key: _Key) -> None:
        """Handle one datagram."""
        form = self._format
        message = read_datagram(data, form.framing, form.max_message, text=form.text)
        peer, proven = self._look_up(key, len(data))
        if peer is None:
            if not isinstance(message, ProtocolFailure):
                peer = self._admit(key, len(data))
            elif message.limit is not None:
                text = "refused a datagram of %s, which is not a peer: %s"
                self._incidents.count_limit(message.limit)
                self._incidents.log_limited("no peer", INFO, text, key[1], message.reason)
            if peer is None:
                with self._lock:
                    self.refused += 1
                return
        elif proven:
            peer.mark_proven()
        if message:  # an empty datagram is only a sign of life
            self._hand_over(peer, message, len(data))

    def _look_up(self, key: _Key, size: int) -> tuple[UdpPeer | None, bool]:
        """Return the peer, and True if this datagram proves its address."""
        now = monotonic()
        with self._lock:
            proven = False
            peer = self._proven.get(key)
            if peer is None:
                peer = self._unproven.pop(key, None)
                if peer is None:
                    return None, False
                self._proven[key] = peer
                proven = True
            peer.heard = now
            self._traffic.counts.received_bytes += size
            self._proven.move_to_end(key)
            period = self._options.ping_period
            if period is not None:
                self._pings[key] = now + period
                self._pings.move_to_end(key)
            return peer, proven

    def _admit(self, key: _Key, received: int) -> UdpPeer | None:
        """Make a peer, if there is room or room can be made."""
        displaced = None
        with self._lock:
            full = len(self._unproven) + len(self._proven) >= self._max_peers
            room = not full or bool(self._unproven)
            ending = self.connections - len(self._unproven) - len(self._proven)
            if self._closing or not room or ending >= MOST_ENDING:
                peer = None
            else:
                if full:
                    _, displaced = self._unproven.popitem(last=False)
                bounds = self._options.bounds
                port, address = key
                self._traffic.counts.received_bytes += received
                peer = UdpPeer(address, received, port, bounds, self._timers, self._traffic)
                peer.heard = monotonic()
                self._unproven[key] = peer
                self.connections += 1
                self.accepted += 1
        if full:
            text, where = "%d UDP peers, the limit of %s", (self._max_peers, self.addresses[0])
            self._incidents.log_limit(CONNECTIONS, WARNING, text, *where)
        if displaced is not None:
            reason = "it made room for a new peer: it had sent only one datagram"
            displaced.cut("crowded out", reason)
        if peer is not None and not self._welcome(peer):
            self.forget(key, peer)
            self.gone()
            return None
        return peer

    def _hand_over(self, peer: UdpPeer, message: str | bytes | ProtocolFailure, size: int) -> None:
        """Give a message to the peer's sink, unless too many wait for their handlers."""
        with self._lock:
            full = (
                peer.unhandled >= MOST_UNHANDLED
                or self._unhandled_bytes + size > MOST_UNHANDLED_BYTES
            )
            if full:
                self.refused += 1
            else:
                peer.unhandled += 1
                self._traffic.counts.received += 1
                self._unhandled_bytes += size
        if full:
            text = "%s sends faster than its handler works: losing some of its messages"
            self._incidents.log_limit(UNHANDLED, INFO, text, peer.address)
        elif not peer.sink.arrive(message, size):
            self.handled(peer, size)

    def _send_waiting(self) -> None:
        """Send the datagrams that wait for peers, while there is room."""
        while True:
            with self._lock:
                port, peer = self._waiting[0] if self._waiting else (None, None)
            if peer is None or not peer.send_waiting():
                break
            with self._lock:
                self._waiting.popleft()
        if self._waits_for_room is not port:
            if self._waits_for_room is not None:
                self._selector.modify(self._waits_for_room.sock, selectors.EVENT_READ)
            if port is not None:
                self._selector.modify(port.sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            self._waits_for_room = port

    def _check_silence(self) -> None:
        """End peers that have been silent for too long, and ping the peers whose ping is due."""
        now = monotonic()
        period, timeout = self._options.ping_period, self._options.ping_timeout
        silent: list[UdpPeer] = []
        pinged: list[UdpPeer] = []
        with self._lock:
            if timeout is not None:
                for table in (self._unproven, self._proven):
                    for peer in table.values():
                        if peer.heard + timeout > now:
                            break
                        silent.append(peer)
            while self._pings:
                key, due = next(iter(self._pings.items()))
                if due > now or period is None:
                    break
                self._pings[key] = now + period
                self._pings.move_to_end(key)
                pinged.append(self._proven[key])
        for peer in pinged:
            peer.ping()
        for peer in silent:
            peer.cut("silent", f"silent for {timeout:g} s", SILENCE)
