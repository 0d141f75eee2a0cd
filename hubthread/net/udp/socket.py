"""One UDP socket: peers by address, made at their first datagram, ended by their silence.

Layer: net.  Threads: one, which receives, brings out what waits, and sees who is silent; no
code of the user runs on it.  It waits in one place, for all of that, and is woken by a socket
pair.
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

from hubthread.limits import CONNECTIONS, SILENCE, UNHANDLED
from hubthread.net.interfaces import Services
from hubthread.net.options import ConnectionOptions, RawFormat
from hubthread.net.udp.peer import Address, UdpPeer
from hubthread.protocol.raw_framing import read_datagram
from hubthread.protocol.websocket import ProtocolFailure

__all__ = ["UdpSocket"]

BATCH = 256
"""Datagrams received before the thread looks after its other business."""

MOST_UNHANDLED = 64
"""Messages of one peer that wait for its handler; what comes beyond is lost."""

MOST_UNHANDLED_BYTES = 16 * 1024 * 1024
"""Of all peers of one socket together."""

MOST_ENDING = 1024
"""Peers that have ended, and whose last callback is still to run, beside those who are in."""

PATIENCE = 1.0
"""Seconds for the thread to end where nothing keeps it."""

_LINE_END = 3
"""Bytes to read beyond the limit, to see that a datagram is too long: see ``read_datagram``."""


class UdpSocket:
    """The peers of one UDP socket.

    Those who have spoken once and those who have spoken twice are kept apart: where there are
    too many, one of the former makes room for the next, the longest silent first, so that a
    flood of forged addresses does not keep anybody out who is in, or comes and speaks twice.

    Threads: ``start`` once; ``close`` and the counters from any.

    :param welcome: called with each new peer, on the socket's thread, to give it its sink;
        must return at once, false if there is to be no such peer.
    """

    def __init__(
        self,
        sock: socket.socket,
        welcome: Callable[[UdpPeer], bool],
        raw_format: RawFormat,
        options: ConnectionOptions,
        services: Services,
        max_peers: int,
    ) -> None:
        self._sock = sock
        self._welcome = welcome
        self._format = raw_format
        self._options = options
        self._threads = services.threads
        self._timers = services.timers
        self._incidents = services.incidents
        self._max_peers = max_peers
        self._waker, self._wake = socket.socketpair()
        for each in (sock, self._waker, self._wake):
            each.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._writing = False  # whether it waits for room too
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._runner: int | None = None
        self._closing = False
        # By address, the longest silent first.
        self._once: OrderedDict[Address, UdpPeer] = OrderedDict()
        self._twice: OrderedDict[Address, UdpPeer] = OrderedDict()
        self._pings: OrderedDict[Address, float] = OrderedDict()  # when each is due
        self._lagging: deque[UdpPeer] = deque()
        self._unhandled_bytes = 0
        self.connections = 0
        """Peers now, with those whose last callback is still to run."""
        self.accepted = 0
        """Peers so far."""
        self.refused = 0
        """Datagrams that were not taken: no message, or no room for it or its sender."""
        name = sock.getsockname()
        self.address: tuple[str, int] | str = (name[0], name[1])

    def start(self) -> None:
        """Begin to receive.  :raises RuntimeError: when there is no thread for it."""
        try:
            self._threads.start(self._run, "datagrams")
        except RuntimeError:
            self._let_go()
            raise

    def close(self) -> None:
        """Let nobody new in; where nobody is in, return when the socket is closed.

        Else it stays for those, until the last has gone.
        """
        with self._lock:
            self._closing = True
            empty = not self._once and not self._twice and not self._lagging
            mine = self._runner == threading.get_ident()
            self._wake_up()
        if empty and not mine:
            self._ended.wait(PATIENCE)

    # What peers call: see datagram_peer.Port.

    def send(self, wire: bytes, address: Address) -> bool:
        """Send a datagram, if there is room."""
        try:
            self._sock.sendto(wire, address)
        except BlockingIOError:
            return False
        return True

    def lag(self, peer: UdpPeer) -> None:
        """Bring out what waits for ``peer`` when there is room."""
        with self._lock:
            self._lagging.append(peer)
            self._wake_up()

    def release(self, peer: UdpPeer) -> None:
        """Forget that address."""
        address = peer.address
        with self._lock:
            for table in (self._once, self._twice):
                if table.get(address) is peer:
                    del table[address]
                    self._pings.pop(address, None)
            if self._closing:
                self._wake_up()

    # What sinks call.

    def handled(self, peer: UdpPeer, size: int) -> None:
        """A message of so many bytes waits no more."""
        with self._lock:
            peer.unhandled -= 1
            self._unhandled_bytes -= size

    def gone(self) -> None:
        """The last callback of a peer has run."""
        with self._lock:
            self.connections -= 1

    # The socket's thread.

    def _wake_up(self) -> None:
        """Under the lock, so that the descriptor is still this one's."""
        with contextlib.suppress(OSError):  # full: it will wake; closed: it has ended
            self._wake.send(b"x")

    def _run(self) -> None:
        with self._lock:
            self._runner = threading.get_ident()
        try:
            while not self._is_over():
                self._selector.select(self._patience())
                self._receive()
                self._bring_out()
                self._see_who_is_silent()
        finally:
            self._let_go()

    def _is_over(self) -> bool:
        with self._lock:
            return self._closing and not (self._once or self._twice or self._lagging)

    def _let_go(self) -> None:
        self._selector.close()
        self._sock.close()
        self._waker.close()
        with self._lock:
            self._wake.close()
        self._ended.set()

    def _patience(self) -> float | None:
        """Seconds until somebody has been silent for long enough."""
        with self._lock:
            dues = [next(iter(self._pings.values()))] if self._pings else []
            limit = self._options.ping_timeout
            if limit is not None:
                tables = [table for table in (self._once, self._twice) if table]
                dues.extend(next(iter(table.values())).heard + limit for table in tables)
        return max(0.0, min(dues) - monotonic()) if dues else None

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)
        size = self._format.max_message + _LINE_END
        for _ in range(BATCH):
            try:
                data, address = self._sock.recvfrom(size)
            except BlockingIOError:
                return
            except OSError:  # some systems tell here that a peer has refused a datagram
                continue
            self._take(data, address)

    def _take(self, data: bytes, address: Address) -> None:
        form = self._format
        message = read_datagram(data, form.framing, form.max_message, text=form.text)
        peer, proven = self._look_up(address)
        if peer is None:
            if not isinstance(message, ProtocolFailure):
                peer = self._admit(address, len(data))
            elif message.limit is not None:
                text = "%s is no peer, and has sent %s"
                self._incidents.count_limit(message.limit)
                self._incidents.log_limited("no peer", INFO, text, address, message.reason)
            if peer is None:
                with self._lock:
                    self.refused += 1
                return
        elif proven:
            peer.trust()
        if message:  # an empty one is a sign of life
            self._hand_over(peer, message, len(data))

    def _look_up(self, address: Address) -> tuple[UdpPeer | None, bool]:
        """Who has spoken, and whether that proves the address."""
        now = monotonic()
        with self._lock:
            proven = False
            peer = self._twice.get(address)
            if peer is None:
                peer = self._once.pop(address, None)
                if peer is None:
                    return None, False
                self._twice[address] = peer
                proven = True
            peer.heard = now
            self._twice.move_to_end(address)
            period = self._options.ping_period
            if period is not None:
                self._pings[address] = now + period
                self._pings.move_to_end(address)
            return peer, proven

    def _admit(self, address: Address, received: int) -> UdpPeer | None:
        """Make a peer, if there is room for one, or can be made."""
        displaced = None
        with self._lock:
            full = len(self._once) + len(self._twice) >= self._max_peers
            room = not full or bool(self._once)
            ending = self.connections - len(self._once) - len(self._twice)
            if self._closing or not room or ending >= MOST_ENDING:
                peer = None
            else:
                if full:
                    _, displaced = self._once.popitem(last=False)
                bounds = self._options.bounds
                peer = UdpPeer(address, received, self, bounds, self._timers)
                peer.heard = monotonic()
                self._once[address] = peer
                self.connections += 1
                self.accepted += 1
        if full:
            text = "%d UDP peers, the limit of %s"
            self._incidents.log_limit(CONNECTIONS, WARNING, text, self._max_peers, self.address)
        if displaced is not None:
            displaced.cut("crowded out", "others came, and it had spoken only once")
        if peer is not None and not self._welcome(peer):
            self.release(peer)
            self.gone()
            return None
        return peer

    def _hand_over(self, peer: UdpPeer, message: str | bytes | ProtocolFailure, size: int) -> None:
        with self._lock:
            full = (
                peer.unhandled >= MOST_UNHANDLED
                or self._unhandled_bytes + size > MOST_UNHANDLED_BYTES
            )
            if full:
                self.refused += 1
            else:
                peer.unhandled += 1
                self._unhandled_bytes += size
        if full:
            text = "%s has sent more than its handler has dealt with: losing some"
            self._incidents.log_limit(UNHANDLED, INFO, text, peer.address)
        elif not peer.sink.arrive(message, size):
            self.handled(peer, size)

    def _bring_out(self) -> None:
        while True:
            with self._lock:
                peer = self._lagging[0] if self._lagging else None
            if peer is None or not peer.bring_out():
                break
            with self._lock:
                self._lagging.popleft()
        if self._writing != (peer is not None):
            self._writing = peer is not None
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._writing else 0)
            self._selector.modify(self._sock, events)

    def _see_who_is_silent(self) -> None:
        """End who has been silent for too long, and ping who has been for a while."""
        now = monotonic()
        period, timeout = self._options.ping_period, self._options.ping_timeout
        silent: list[UdpPeer] = []
        pinged: list[UdpPeer] = []
        with self._lock:
            if timeout is not None:
                for table in (self._once, self._twice):
                    for peer in table.values():
                        if peer.heard + timeout > now:
                            break
                        silent.append(peer)
            while self._pings:
                address, due = next(iter(self._pings.items()))
                if due > now or period is None:
                    break
                self._pings[address] = now + period
                self._pings.move_to_end(address)
                pinged.append(self._twice[address])
        for peer in pinged:
            peer.ping()
        for peer in silent:
            peer.cut("silent", f"silent for {timeout:g} s", SILENCE)
