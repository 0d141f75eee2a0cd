"""The thread of a link, and its sockets.

Layer: client.  Threads: the link's thread runs ``_run``.  Any thread that holds the lock of the
link may send, hang up and wake.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import random
import threading
import time
import weakref
from base64 import b64encode
from functools import partial
from typing import Any, NamedTuple

from hubthread.client.interfaces import Task
from hubthread.client.machine import NORMAL
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.threads import Threads
from hubthread.net.dial import Dialing, Interrupted
from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import PONG, Outbox
from hubthread.net.transport import Transport
from hubthread.net.waker import Waker
from hubthread.protocol.client_handshake import (
    Exchange,
    WrongAnswer,
    check_upgrade,
    upgrade_fields,
)
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.protocol.frames import MessageType, encode_close, is_sendable_code
from hubthread.protocol.masking import client_frame, masked_close
from hubthread.protocol.websocket import (
    ClientProtocol,
    PeerClose,
    Ping,
    Pong,
    ProtocolFailure,
    WebSocketEvent,
)
from hubthread.types import Overflow

__all__ = ["Dialed", "SocketDriver"]

LINGER = 1.0
"""Seconds for the closing handshake."""
_ABNORMAL = 1006
_NO_STATUS = 1005
_MASK_BYTES = 4
_KEY_BYTES = 16

# Wide bounds: the machine queues further messages itself, but one message may be large.
_BOUNDS = OutboxBounds(
    max_messages=1 << 20,
    max_bytes=1 << 30,
    overflow=Overflow.CLOSE,
    write_buffer=64 * 1024,
    write_wait=20.0,
    linger=0.2,
)

# A clock that goes on while the computer sleeps, where the system has such a clock.
_CLOCK = (
    getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    if hasattr(time, "clock_gettime")
    else None
)

_drivers: weakref.WeakSet[SocketDriver] = weakref.WeakSet()


class _Connection:
    """One open WebSocket, from the client's end."""

    def __init__(self, transport: Transport, threads: Threads, max_message: int) -> None:
        self.transport = transport
        self.protocol = ClientProtocol(max_message=max_message)
        self.outbox = Outbox(transport, _BOUNDS, threads.start, self._broken)

    def send(self, kind: int, payload: bytes) -> None:
        """Send a message."""
        self.outbox.send(client_frame(kind, payload, os.urandom(_MASK_BYTES)))

    def control(self, kind: int, payload: bytes, key: Any = None) -> None:
        """Send a ping or a pong."""
        self.outbox.send_control(client_frame(kind, payload, os.urandom(_MASK_BYTES)), key)

    def close(self, code: int | None) -> None:
        """Send our Close, once."""
        close = encode_close(code if code is not None and is_sendable_code(code) else None)
        self.outbox.finish(masked_close(close, os.urandom(_MASK_BYTES)))

    def cut(self) -> None:
        """Shut the socket down, which wakes its reader."""
        self.transport.shutdown()

    def end(self) -> None:
        """Wait at most a second for the server's Close, and release the socket."""
        self.close(None)  # does nothing if our Close is sent: the call may have been interrupted
        deadline = Deadline(LINGER)
        try:
            while left := deadline.left():
                self.transport.set_deadline(left)
                with contextlib.suppress(TimeoutError):
                    if not self.transport.recv():
                        break
        except OSError:
            pass
        self.transport.shutdown()
        self.outbox.end()
        self.transport.close()

    def _broken(self, trouble: str) -> None:
        self.cut()


class Dialed(NamedTuple):
    """A connection after its handshake."""

    connection: _Connection
    rest: bytes
    """The bytes after the server's answer."""
    subprotocol: str | None
    token: str | None


class SocketDriver:
    """The driver of one link on real sockets and threads."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._waker: Waker | None = None
        self._threads: Threads
        self._connection: _Connection | None = None  # the connection of the present epoch
        self._held: list[Transport] = []  # all open sockets

    # For the machine.

    @staticmethod
    def now() -> float:
        """See ``Driver``."""
        return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)

    random = staticmethod(random.random)

    def wake(self) -> None:
        """See ``Driver``."""
        if self._waker is not None:
            self._waker.ring()

    def send(self, data: str | bytes) -> None:
        """See ``Driver``."""
        if self._connection is not None:
            if isinstance(data, str):
                self._connection.send(MessageType.TEXT, data.encode())
            else:
                self._connection.send(MessageType.BINARY, data)

    def ping(self) -> None:
        """See ``Driver``."""
        if self._connection is not None:
            self._connection.control(MessageType.PING, b"")

    @property
    def buffered(self) -> int:
        """See ``Driver``."""
        return 0 if self._connection is None else self._connection.outbox.waiting_bytes

    def hang_up(self, code: int | None) -> None:
        """See ``Driver``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if code is None:
                connection.cut()
            else:
                connection.close(code)
        self.wake()

    # For the link.

    def start(self) -> None:
        """See ``Work``."""
        link = self._link
        self._threads = Threads(f"hubthread-{link._name}", link._incidents)
        _drivers.add(self)
        waker = self._waker = Waker()
        try:
            self._threads.start(partial(self._run, waker), "reader")
        except BaseException:
            self._waker = None  # if the thread runs despite the exception, it ends
            waker.close()
            raise

    def stop(self, timeout: float) -> None:
        """See ``Work``."""
        self._threads.join(timeout + LINGER)

    def disown(self) -> None:
        """Release the sockets in a forked process, which must send nothing on them."""
        link = self._link
        link._lock = threading.RLock()
        link._changed = threading.Condition(link._lock)
        link._closed = link._forked = True
        link._why = (
            "the link belongs to the process that this process was forked from: make a new one"
        )
        waker, self._waker, self._connection = self._waker, None, None
        if waker is not None:  # without ``close``: another thread may have held its lock
            waker._reading.close()
            waker._writing.close()
        link._machine.disconnect()
        for transport in self._held:
            plain: Any = getattr(transport, "_plain", transport)
            plain._sock.close()

    # The link's thread.

    def _run(self, waker: Waker) -> None:
        link = self._link
        machine = link._machine
        with link._lock:  # waits until ``start`` has returned
            if self._waker is not waker:
                return
        try:
            while True:
                link._delivery.run_events()
                with link._lock:
                    if link._closed and not link._delivery.busy:
                        return
                    task, due, busy = machine.task(), machine.due(), link._delivery.busy
                if task is not None:
                    self._attempt(task)
                elif not busy:
                    waker.wait(_seconds(due, self.now()))
                    with link._lock:
                        machine.on_time()
        finally:
            with link._lock:
                link._closed = True
                if machine.state != "ended":
                    machine.disconnect()
                link._changed.notify_all()
                self._waker = None
            waker.close()

    def _attempt(self, task: Task) -> None:
        assert self._waker is not None
        dialed = self._dial(task, self._waker)
        if dialed is None:
            return
        try:
            if self._begin(task.epoch, dialed):
                self._talk(task.epoch, dialed)
        finally:
            self._release(dialed.connection)

    def _dial(self, task: Task, waker: Waker) -> Dialed | None:
        """Open a connection; on failure, tell the machine and return None."""
        link = self._link
        machine, option = link._machine, link._option
        token = link._fetch_token(task)
        with link._lock:
            timeout = None if token.reason else machine.begin(task.epoch)
        if timeout is None:
            return None

        def wanted() -> bool:
            return bool(task.epoch == machine.epoch)

        dialing = Dialing(timeout, waker, wanted)
        names = () if option.plain else (SUBPROTOCOL,)
        key = b64encode(os.urandom(_KEY_BYTES)).decode()
        fields = upgrade_fields(link._address, key, names, option.fields())
        exchange = Exchange("GET", link._address.target, fields)
        transport: Transport | None = None
        try:
            transport = dialing.open(link._address, option.ssl, option.proxy)
            answer = dialing.ask(transport, exchange)
            chosen = check_upgrade(answer, key, names)
        except BaseException as error:
            if transport is not None:
                transport.shutdown()
                transport.close()
            if not isinstance(error, (Interrupted, WrongAnswer, OSError)):
                raise
            with link._lock:
                if wanted():
                    self._report(error)
            return None
        self._held.append(transport)
        connection = _Connection(transport, self._threads, option.max_message)
        return Dialed(connection, answer.rest, chosen, token.value)

    def _release(self, connection: _Connection) -> None:
        """Wait for the server's Close, and release the socket."""
        connection.end()
        self._held.remove(connection.transport)

    def _report(self, error: Exception) -> None:
        """Tell the machine why there is no connection.  The caller holds the lock."""
        machine = self._link._machine
        if isinstance(error, WrongAnswer):
            machine.on_refused(error.status, str(error), error.retry_after)
        else:
            why = getattr(error, "strerror", None) or error
            machine.on_unreachable(f"the server cannot be reached: {why}")

    def _begin(self, epoch: int, dialed: Dialed) -> bool:
        """Tell the machine of a new connection; return False if its epoch is over."""
        link, connection = self._link, dialed.connection
        with link._lock:
            if epoch != link._machine.epoch:
                connection.close(NORMAL)
                return False
            self._connection = connection
            link._machine.on_connected(dialed.subprotocol, dialed.token)
        return True

    def _talk(self, epoch: int, dialed: Dialed) -> None:
        """Read until the connection, or its epoch, ends."""
        link, connection = self._link, dialed.connection
        machine, transport = link._machine, connection.transport
        if not self._receive(epoch, connection, dialed.rest):
            return
        while True:
            with link._lock:
                if epoch != machine.epoch:
                    return
                paused, due = link._delivery.paused, machine.due()
            if paused:
                assert self._waker is not None
                self._waker.wait(None)
                link._delivery.run_events()
                continue
            transport.set_deadline(_seconds(due, self.now()))
            if not self._read(epoch, connection):
                return

    def _read(self, epoch: int, connection: _Connection) -> bool:
        """Wait for bytes and take them, or run due deadlines; return False at the end."""
        link = self._link
        machine = link._machine
        try:
            data = connection.transport.recv()
        except TimeoutError:
            with link._lock:
                if epoch == machine.epoch:
                    machine.on_time()
            link._delivery.run_events()
            return True
        except OSError:
            data = b""
        with link._lock:
            if epoch != machine.epoch:
                return False
            if not data:
                machine.on_closed(_ABNORMAL, "")
                return False
            machine.on_heard()
        return self._receive(epoch, connection, data)

    def _receive(self, epoch: int, connection: _Connection, data: bytes) -> bool:
        """Take bytes, and run the callbacks; return False at the end."""
        link = self._link
        link._delivery.run_events()
        for event in connection.protocol.receive(data):
            if not self._take(epoch, connection, event):
                return False
            link._delivery.run_events()
        return True

    def _take(self, epoch: int, connection: _Connection, event: WebSocketEvent) -> bool:
        """Take an event; return False if it is the last one."""
        link = self._link
        machine = link._machine
        with link._lock:
            if epoch != machine.epoch:
                return False
            if isinstance(event, (str, bytes)):
                machine.on_data(event)
            elif isinstance(event, Ping):
                connection.control(MessageType.PONG, event.payload, PONG)
            elif isinstance(event, PeerClose):
                connection.close(event.code)
                machine.on_closed(_NO_STATUS if event.code is None else event.code, event.reason)
                return False
            elif isinstance(event, ProtocolFailure):
                connection.close(event.code)
                machine.end(f"the server breaks the protocol: {event.reason}")
                return False
            else:
                assert isinstance(event, Pong)
        return True


def _seconds(due: float, now: float) -> float | None:
    return None if due == math.inf else max(0.0, due - now)


def _after_fork_in_child() -> None:
    for driver in list(_drivers):
        driver.disown()


@atexit.register
def _close_all() -> None:
    """Close the links that the program has not closed."""
    for driver in list(_drivers):
        driver._link.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
