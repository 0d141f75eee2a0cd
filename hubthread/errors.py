"""Every exception that hubthread raises, in one tree.  Layer: base.

The branches say who can mend it::

    HubThreadError
    ├── UsageError              the caller's program: read the message, change the code
    │   ├── SettingError            a setting out of range; names the field (also ValueError)
    │   ├── WrongThread             used on a thread that does not own it
    │   ├── DeadlockError           this wait would close a cycle of waits
    │   ├── HandlerError            a handler that cannot be registered
    │   │   ├── HandleNotFunc           not a function
    │   │   ├── HandleKindError         its parameters or annotations do not fit
    │   │   └── DuplicateHandler        the header is taken
    │   ├── ContextNotClient        something else where a client was expected
    │   ├── HandleAnyNotPtr         nothing can be unmarshalled into that
    │   └── LongPollingTimeoutZero  a poll without a time-out
    ├── Closed                  the thing has ended; nothing was done
    │   ├── HubClosed
    │   ├── ClientClosed
    │   └── HotlineClosed
    ├── QueueFull               a bounded queue is full; nothing was done, try later
    ├── ExecTimeout             the time-out passed first (also TimeoutError)
    ├── TooManyRooms            a client is in as many rooms as it may; it was not let in
    ├── PeerError               the other end of the connection
    │   ├── HandshakeRejected       carries the HTTP status and reason to answer with
    │   └── MatcherError            a message that no handler can be given
    │       ├── HandleNotFind           unknown header
    │       └── PayloadError            malformed header or payload
    └── InternalError           a bug in hubthread: please report it

The names ``HandleAnyNotPtr`` to ``HandleKindError`` come from the specification's
``ErrHandleAnyNotPtr`` … ``ErrHandleKindError``.
"""

from __future__ import annotations

__all__ = [
    "ClientClosed",
    "Closed",
    "ContextNotClient",
    "DeadlockError",
    "DuplicateHandler",
    "ExecTimeout",
    "HandleAnyNotPtr",
    "HandleKindError",
    "HandleNotFind",
    "HandleNotFunc",
    "HandlerError",
    "HandshakeRejected",
    "HotlineClosed",
    "HubClosed",
    "HubThreadError",
    "InternalError",
    "LongPollingTimeoutZero",
    "MatcherError",
    "PayloadError",
    "PeerError",
    "QueueFull",
    "SettingError",
    "TooManyRooms",
    "UsageError",
    "WrongThread",
]


class HubThreadError(Exception):
    """Root of everything that hubthread raises on purpose."""


class UsageError(HubThreadError):
    """The calling program is wrong; the message says what to change."""


class SettingError(UsageError, ValueError):
    """A setting is out of range.

    ``field`` is the setting's name; the message says what is allowed.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class WrongThread(UsageError):
    """An object was used on a thread that does not own it."""


class DeadlockError(UsageError):
    """Waiting here would wait for ever: the chain of waits leads back to this thread."""


class HandlerError(UsageError, TypeError):
    """A handler cannot be registered; ``header`` says for which header."""

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message)
        self.header = header


class HandleNotFunc(HandlerError):
    """The handler is not callable (specification: ``ErrHandleNotFunc``)."""


class HandleKindError(HandlerError):
    """The handler's parameters do not fit (specification: ``ErrHandleKindError``)."""


class DuplicateHandler(HandlerError):
    """Another handler is registered for the header already."""


class ContextNotClient(UsageError, TypeError):
    """A hotline was given something that is no client (``ErrContextNotClient``)."""


class HandleAnyNotPtr(UsageError, TypeError):
    """Nothing can be unmarshalled into ``target`` (``ErrHandleAnyNotPtr``)."""

    def __init__(self, message: str, target: object = None) -> None:
        super().__init__(message)
        self.target = target


class LongPollingTimeoutZero(UsageError, ValueError):
    """A poll needs a time-out (``ErrLongPollingTimeOutZeroError``)."""


class Closed(HubThreadError):
    """The thing that was asked has ended; the call did nothing."""


class HubClosed(Closed):
    """The hub is closed, or closing, and accepts nothing more."""


class ClientClosed(Closed):
    """The client's connection has ended, or its close callback is already queued."""


class HotlineClosed(Closed):
    """The hotline (room) is closed."""


class QueueFull(HubThreadError):
    """A bounded queue is full.  The call did nothing; the message names the bound."""


class ExecTimeout(HubThreadError, TimeoutError):
    """The time-out passed before the result was there.

    The work may still run later.  ``stack`` is what the busy thread was doing when
    the time-out struck (the text of a stack trace, or ``""`` where unknown).
    """

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(f"{message}\n{stack}" if stack else message)
        self.stack = stack


class TooManyRooms(HubThreadError):
    """A client is in ``Limits.rooms_per_client`` rooms, and was not let into one more."""


class PeerError(HubThreadError):
    """The other end of the connection did something wrong."""


class HandshakeRejected(PeerError):
    """A request that does not become a connection.

    Raise it in the handshake hook to refuse a client: ``status`` (an HTTP status,
    400 to 599) and ``reason`` (one sentence, sent as the body) are answered, with
    ``headers`` (pairs of name and value) added.
    """

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status}: {reason}")
        if not 400 <= status <= 599:
            raise SettingError("status", f"an HTTP status from 400 to 599, not {status!r}")
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)


class MatcherError(PeerError):
    """A message that reaches no handler; ``header`` is its header where known."""

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message)
        self.header = header


class HandleNotFind(MatcherError):
    """No handler for this header (specification: ``ErrHandleNotFind``)."""


class PayloadError(MatcherError):
    """The header cannot be parsed, or the payload does not fit the handler's type."""


class InternalError(HubThreadError):
    """A bug in hubthread itself: please report it with the traceback."""
