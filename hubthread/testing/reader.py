"""The hub's end of a virtual connection: the work of a reader thread, as a job.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubthread.clients.client import Client
from hubthread.errors import HandshakeRejected
from hubthread.hub.session_sink import SessionSink
from hubthread.net.connection import INTERNAL_ERROR, Connection
from hubthread.net.keepalive import Keepalive
from hubthread.net.steps import Steps, run_steps
from hubthread.protocol.http import RequestParser
from hubthread.serving.accept import Arrival, Negotiated, negotiate
from hubthread.testing.transport import MemoryTransport

if TYPE_CHECKING:
    from hubthread.core.core import Core
    from hubthread.testing.clock import FakeClock

__all__ = ["Reader"]


class Reader:
    """The reader of one connection, from the request to the end (see ``Connection.run``).

    :param request: the bytes of the request, or the result of the negotiation that an
        application has done.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        clock: FakeClock,
        transport: MemoryTransport,
        request: bytes | Negotiated,
        peer: str,
    ) -> None:
        self._core = core
        self._clock = clock
        self._transport = transport
        self._came = request
        self._peer = peer
        self._keepalive = Keepalive(core.options, early=0.0)
        self._heard = 0.0  # the time of the last bytes, or of the last keepalive
        self._next = self._begin
        self._connection: Connection
        self._sink: Any = None
        self.refusal: HandshakeRejected | None = None
        """The refusal of the handshake, if it was refused."""
        self.on_end: Callable[[], object] = lambda: None
        """Called when the connection has ended."""
        self._arrival = Arrival(core, transport)
        self.job = transport.reader = self._clock.job(self._step, self._may_run)

    @property
    def client(self) -> Client[Any, Any] | None:
        """The hub's client, after a complete handshake; with sessions, after its first message."""
        sink = self._sink
        return sink.client if isinstance(sink, SessionSink) else sink

    def _may_run(self) -> bool:
        """Return False while a real reader would wait for the client's strand."""
        return self.client is None or self.client._strand.runner is None

    def _step(self) -> float | None:
        return self._next()

    def _begin(self) -> float | None:
        connection = run_steps(self._arrival.accept(self._negotiate))
        if connection is None:
            self._transport.shutdown()
            self._arrival.end()
            self.on_end()
            return None
        self._connection = connection
        self._sink = connection._sink
        self._heard = self._clock.now()
        self._next = self._receive
        return -math.inf

    def _negotiate(self, arrival: Arrival) -> Steps[Connection | None]:
        try:
            return (yield from arrival.connect(self._negotiated(arrival)))
        except HandshakeRejected as refusal:
            self.refusal = refusal
            raise

    def _negotiated(self, arrival: Arrival) -> Negotiated:
        if isinstance(self._came, Negotiated):
            return self._came
        upgrader = self._core.setting.websocket_period.upgrader
        parser = RequestParser(peer=(self._peer, 0), secure=False, max_head=upgrader.max_head)
        request = arrival.request = parser.receive(self._came)
        if request is None:
            raise HandshakeRejected(400, "The request was not complete.")
        return negotiate(self._core, request)

    def _receive(self) -> float:
        transport, keepalive, now = self._transport, self._keepalive, self._clock.now()
        goes_on = True
        if transport.incoming or transport.ended or transport.cut:
            try:
                goes_on = self._connection.receive(transport.recv())
            except BaseException:
                self._connection.close(INTERNAL_ERROR, "Internal server error")
                self._next = self._leave
                self.job.wake()
                raise
            self._heard = self._clock.now()
            if keepalive.elapsed:
                keepalive.reset()
        elif keepalive.next_timeout is not None and now >= self._heard + keepalive.next_timeout:
            self._heard = now
            goes_on = self._connection.keep_alive(keepalive)
        if not goes_on:
            self._next = self._leave
            return -math.inf
        if transport.incoming or transport.ended or transport.cut:
            return -math.inf
        return math.inf if keepalive.next_timeout is None else self._heard + keepalive.next_timeout

    def _leave(self) -> float:
        self._connection.leave()
        self._next = self._read_to_the_end
        return -math.inf

    def _read_to_the_end(self) -> float | None:
        transport = self._transport
        transport.incoming.clear()
        if not transport.ended and not transport.cut:
            return math.inf
        transport.shutdown()
        if transport.writer is not None:
            return -math.inf  # the writer was woken, and runs its last step first
        self._connection.end()
        self._arrival.end()
        self.on_end()
        return None
