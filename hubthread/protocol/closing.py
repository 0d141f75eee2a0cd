"""The closing handshake of a WebSocket connection, as a table of states and events.

Two Close frames and the end of the transport end a connection (RFC 6455 section 7): in any
order, from either side, more than once and at the same time.  The table has an answer to
every event in every state.  At most one Close frame is sent, the first cause stands, and the
last state is CLOSED.

Layer: protocol.  Threads: not thread-safe; the caller holds the lock of its connection around
every call, and carries the action out after releasing it.
Source: RFC 6455 section 7.
"""

from __future__ import annotations

from enum import Enum, auto

from hubthread.protocol.frames import encode_close, is_sendable_code

__all__ = ["Action", "CloseEvent", "CloseState", "Closing"]

NO_STATUS = 1005
"""Reported for a Close without a code; never sent (RFC 6455 section 7.4.1)."""
ABNORMAL = 1006
"""Reported for a transport that ended without a Close; never sent."""
_PROTOCOL_ERROR = 1002


class CloseState(Enum):
    """The progress of the closing handshake."""

    OPEN = auto()
    CLOSE_SENT = auto()
    """Our Close is sent or queued; the peer's Close is awaited, within a deadline."""
    CLOSE_RECEIVED = auto()
    """The peer sent its Close, or broke the protocol and is no longer listened to (RFC 6455
    section 7.1.7).  Our Close is sent or queued; the end of the transport is awaited, within a
    deadline."""
    CLOSED = auto()
    """The transport has ended."""


class CloseEvent(Enum):
    """An event that begins or continues the closing handshake."""

    LOCAL_CLOSE = auto()
    """Our side closes, with a code and a reason."""
    PEER_CLOSE = auto()
    """The peer's Close arrived, with its code (``None`` for a Close without one) and reason."""
    PROTOCOL_FAILURE = auto()
    """The peer broke the protocol; the code is the code to close with."""
    END_OF_FILE = auto()
    """The transport ended or failed."""
    TIMEOUT = auto()
    """The peer was silent beyond the deadline of the state."""


class Action(Enum):
    """The caller's part in a transition."""

    FINISH = auto()
    """Send ``Closing.close_frame`` after everything that is queued, and nothing after it; then
    end the sending side.  Asked for twice when the peer's Close meets ours: idempotent."""
    DROP = auto()
    """Close the transport now."""


_Row = tuple[CloseState, Action | None]

_OPEN, _SENT, _RECEIVED, _CLOSED = CloseState

TABLE: dict[CloseState, dict[CloseEvent, _Row]] = {
    _OPEN: {
        CloseEvent.LOCAL_CLOSE: (_SENT, Action.FINISH),
        CloseEvent.PEER_CLOSE: (_RECEIVED, Action.FINISH),
        CloseEvent.PROTOCOL_FAILURE: (_RECEIVED, Action.FINISH),
        CloseEvent.END_OF_FILE: (_CLOSED, Action.DROP),
        CloseEvent.TIMEOUT: (_CLOSED, Action.DROP),
    },
    _SENT: {
        CloseEvent.LOCAL_CLOSE: (_SENT, None),
        # Not DROP: the two may have crossed, and our Close can still be queued.
        CloseEvent.PEER_CLOSE: (_RECEIVED, Action.FINISH),
        CloseEvent.PROTOCOL_FAILURE: (_RECEIVED, Action.FINISH),
        CloseEvent.END_OF_FILE: (_CLOSED, Action.DROP),
        CloseEvent.TIMEOUT: (_CLOSED, Action.DROP),
    },
    _RECEIVED: {
        CloseEvent.LOCAL_CLOSE: (_RECEIVED, None),
        CloseEvent.PEER_CLOSE: (_RECEIVED, None),
        CloseEvent.PROTOCOL_FAILURE: (_RECEIVED, None),
        CloseEvent.END_OF_FILE: (_CLOSED, Action.DROP),
        CloseEvent.TIMEOUT: (_CLOSED, Action.DROP),
    },
    _CLOSED: dict.fromkeys(CloseEvent, (_CLOSED, None)),
}


class Closing:
    """The state of one connection's closing handshake.

    Threads: the caller holds a lock around ``on``; any thread may read the attributes.
    """

    __slots__ = ("clean", "close_frame", "code", "may_send", "reason", "state")

    state: CloseState
    code: int | None
    """The code of the first cause: ``None`` while the connection is open; 1005 and 1006 are
    reported here and never sent."""
    reason: str
    """The reason of the first cause."""
    clean: bool
    """True once a Close has passed in both directions (RFC 6455 section 7.1.4)."""
    close_frame: bytes
    """The Close frame that ``Action.FINISH`` sends; empty before."""
    may_send: bool
    """True until our Close: messages, pings and pongs may be sent.

    Read for each message, and therefore an attribute: a property or a comparison with an
    enumeration's member is a contended write on free-threaded CPython."""

    def __init__(self) -> None:
        self.state = CloseState.OPEN
        self.code = None
        self.reason = ""
        self.clean = False
        self.close_frame = b""
        self.may_send = True

    def on(self, event: CloseEvent, code: int | None = None, reason: str = "") -> Action | None:
        """Take an event, and return the action to carry out, if any.

        :param code: the code of the local close, of the peer's Close or of the failure;
            ignored for END_OF_FILE and TIMEOUT, which are 1006.
        :param reason: the reason that goes with ``code``.
        :raises WrongValue: for a local close with a code that must not be sent; the state is
            unchanged.
        """
        state, action = TABLE[self.state][event]
        if self.state is CloseState.OPEN:
            if action is Action.FINISH:
                self.close_frame = self._close_frame(event, code, reason)
                self.code = NO_STATUS if code is None else int(code)  # not a CloseCode
            else:
                self.code = ABNORMAL
            self.reason = reason
        if event is CloseEvent.PEER_CLOSE and action is Action.FINISH:
            self.clean = True
        self.state = state
        self.may_send = state is CloseState.OPEN
        return action

    def take_back(self) -> None:
        """Report 1006 instead of a local close: our Close has never been sent."""
        if not self.clean:
            self.code, self.reason = ABNORMAL, ""

    @staticmethod
    def _close_frame(event: CloseEvent, code: int | None, reason: str) -> bytes:
        # RFC 6455 section 5.5.1: the answer typically echoes the code received, and a Close
        # without a code is answered by a Close without a code.
        if event is CloseEvent.PEER_CLOSE and code is not None and not is_sendable_code(code):
            return encode_close(_PROTOCOL_ERROR)
        return encode_close(code, reason)
