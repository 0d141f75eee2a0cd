"""How a WebSocket connection ends, as a table that may be asked any number of times.

Layer: protocol (no threads, sockets or clocks).  Not thread-safe by itself: the caller
holds its connection's lock around every use, and carries the actions out after it.

Two Close frames and the end of the transport end a connection (RFC 6455 section 7), in
any order, from either side, more than once and at the same time.  The table has an
answer to every event in every state; whatever comes, at most one Close frame leaves,
one report is made, and the last state is CLOSED.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal

from hubthread.protocol.frames import encode_close, is_sendable_code

__all__ = ["Action", "CloseEvent", "CloseState", "Closing", "Initiator"]

Initiator = Literal["server", "client", "network"]

#: Reported when a Close carried no code; never sent (RFC 6455 section 7.4.1).
NO_STATUS = 1005
#: Reported when the transport ended without a Close; never sent.
ABNORMAL = 1006
_PROTOCOL_ERROR = 1002


class CloseState(Enum):
    """How far the closing handshake is."""

    OPEN = auto()
    #: Our Close is sent or queued; the peer's is awaited, within a deadline.
    CLOSE_SENT = auto()
    #: The peer has had its last word (its Close, or a violation after which it is not
    #: listened to: RFC 6455 section 7.1.7) and ours is sent or queued.  Only the
    #: transport's end is awaited, within a deadline.
    CLOSE_RECEIVED = auto()
    #: The transport has ended.
    CLOSED = auto()


class CloseEvent(Enum):
    """What can happen to a connection that is, or is not yet, closing."""

    #: Our side wants to close, with a code and a reason.
    LOCAL_CLOSE = auto()
    #: The peer's Close came, with its code (None: it had none) and reason.
    PEER_CLOSE = auto()
    #: The peer broke the protocol; the code is the one to close with.
    PROTOCOL_FAILURE = auto()
    #: The transport ended or failed.
    END_OF_FILE = auto()
    #: The peer was silent beyond the deadline of the state.
    TIMEOUT = auto()


class Action(Enum):
    """What the caller must do, in the order given."""

    #: Send :attr:`Closing.close_frame` after all that is queued, and nothing after it.
    SEND_CLOSE = auto()
    #: When all that is queued has gone, end the sending side; read on to end of file, so
    #: that unread bytes do not make the system reset the connection and lose our Close.
    FINISH_TRANSPORT = auto()
    #: Close the transport now.
    DROP_TRANSPORT = auto()
    #: Code, reason, initiator and cleanness are settled: tell the application.
    REPORT = auto()


_Row = tuple[CloseState, tuple[Action, ...]]

_OPEN, _SENT, _RECEIVED, _CLOSED = CloseState
_SEND, _FINISH, _DROP, _REPORT = Action

_STAY_SENT: _Row = (_SENT, ())
_STAY_RECEIVED: _Row = (_RECEIVED, ())
_STAY_CLOSED: _Row = (_CLOSED, ())

TABLE: dict[CloseState, dict[CloseEvent, _Row]] = {
    _OPEN: {
        CloseEvent.LOCAL_CLOSE: (_SENT, (_SEND,)),
        CloseEvent.PEER_CLOSE: (_RECEIVED, (_SEND, _FINISH, _REPORT)),
        CloseEvent.PROTOCOL_FAILURE: (_RECEIVED, (_SEND, _FINISH, _REPORT)),
        CloseEvent.END_OF_FILE: (_CLOSED, (_DROP, _REPORT)),
        CloseEvent.TIMEOUT: (_CLOSED, (_DROP, _REPORT)),
    },
    _SENT: {
        CloseEvent.LOCAL_CLOSE: _STAY_SENT,
        # The two may have crossed: ours can still be queued, so no DROP here.
        CloseEvent.PEER_CLOSE: (_RECEIVED, (_FINISH, _REPORT)),
        CloseEvent.PROTOCOL_FAILURE: (_RECEIVED, (_FINISH, _REPORT)),
        CloseEvent.END_OF_FILE: (_CLOSED, (_DROP, _REPORT)),
        CloseEvent.TIMEOUT: (_CLOSED, (_DROP, _REPORT)),
    },
    _RECEIVED: {
        CloseEvent.LOCAL_CLOSE: _STAY_RECEIVED,
        CloseEvent.PEER_CLOSE: _STAY_RECEIVED,
        CloseEvent.PROTOCOL_FAILURE: _STAY_RECEIVED,
        CloseEvent.END_OF_FILE: (_CLOSED, (_DROP,)),
        CloseEvent.TIMEOUT: (_CLOSED, (_DROP,)),
    },
    _CLOSED: dict.fromkeys(CloseEvent, _STAY_CLOSED),
}

_INITIATORS: dict[CloseEvent, Initiator] = {
    CloseEvent.LOCAL_CLOSE: "server",
    CloseEvent.PEER_CLOSE: "client",
    # The peer is to blame, but it is the server that ends the connection.
    CloseEvent.PROTOCOL_FAILURE: "server",
    CloseEvent.END_OF_FILE: "network",
    CloseEvent.TIMEOUT: "network",
}


class Closing:
    """One connection's way through the table.

    ``code``, ``reason`` and ``initiator`` tell the first cause and never change after
    it: while the connection is open they are None, "" and None.  ``clean`` is True once
    a Close has passed in both directions (RFC 6455 section 7.1.4).  ``code`` may be
    1005 or 1006, which are reported but never sent.
    """

    __slots__ = ("clean", "close_frame", "code", "initiator", "may_send", "reason", "state")

    def __init__(self) -> None:
        self.state = CloseState.OPEN
        self.code: int | None = None
        self.reason = ""
        self.initiator: Initiator | None = None
        self.clean = False
        #: The Close frame that SEND_CLOSE sends; empty until then.
        self.close_frame = b""
        #: Whether data, pings and pongs may still be sent: not after our Close.  Asked for
        #: each message, so it is kept: a property and an enumeration's member are shared by
        #: all threads, and on free-threaded CPython each look at them is a contended write.
        self.may_send = True

    def on(
        self, event: CloseEvent, code: int | None = None, reason: str = ""
    ) -> tuple[Action, ...]:
        """Take an event; returns what is to be done, which is often nothing.

        ``code`` and ``reason``: those of the local close, the peer's Close or the
        failure.  ``code`` is not looked at for END_OF_FILE and TIMEOUT, which are 1006.

        Raises :class:`ValueError` for a local close whose code must not be sent; the
        state is then as before.
        """
        state, actions = TABLE[self.state][event]
        if Action.SEND_CLOSE in actions:
            self.close_frame = self._close_frame(event, code, reason)
        if self.state is CloseState.OPEN:
            lost = event is CloseEvent.END_OF_FILE or event is CloseEvent.TIMEOUT
            self.code = ABNORMAL if lost else NO_STATUS if code is None else code
            self.reason = reason
            self.initiator = _INITIATORS[event]
        if event is CloseEvent.PEER_CLOSE and Action.REPORT in actions:
            self.clean = True
        self.state = state
        self.may_send = state is CloseState.OPEN
        return actions

    @staticmethod
    def _close_frame(event: CloseEvent, code: int | None, reason: str) -> bytes:
        # RFC 6455 section 5.5.1: the answer typically echoes the code received, and a
        # Close without one gets a Close without one.
        if event is CloseEvent.PEER_CLOSE and code is not None and not is_sendable_code(code):
            return encode_close(_PROTOCOL_ERROR)
        return encode_close(code, reason)
