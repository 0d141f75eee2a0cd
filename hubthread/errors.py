"""Every exception that hubthread raises, in one tree.

Layer: base.  Threads: exceptions are values; any thread may raise and read them.

There is one branch for each party that can mend the error::

    HubThreadError
    ├── UsageError              the calling program: read the message, change the code
    │   ├── WrongValue              an argument out of range (also ValueError)
    │   │   ├── WrongType               an argument of the wrong type (also TypeError)
    │   │   │   ├── HandlerError            a handler that cannot be registered
    │   │   │   │   ├── HandleNotFunc           not a function
    │   │   │   │   ├── HandleKindError         its parameters or annotations do not fit
    │   │   │   │   └── DuplicateHandler        the header is taken
    │   │   │   ├── ContextNotClient        not a client, where a client was expected
    │   │   │   └── HandleAnyNotPtr         a type that no payload can be converted to
    │   │   ├── SettingError            a setting out of range; names the field
    │   │   │   └── SettingTypeError        a setting of the wrong type (also WrongType)
    │   │   └── LongPollingTimeoutZero  a poll without a timeout
    │   ├── WrongThread             an object used on a thread that does not own it
    │   └── DeadlockError           a wait that would close a cycle of waits
    ├── Closed                  the object has ended; the call did nothing
    │   ├── HubClosed
    │   ├── ClientClosed
    │   ├── HotlineClosed
    │   └── Lost                    of hubthread.client: no answer will come
    ├── QueueFull               a bounded queue is full; the call did nothing, try later
    ├── BackplaneError          the backplane of shared rooms
    │   ├── BackplaneDown           it cannot be reached; the call did nothing
    │   ├── PublishUnknown          a push was sent, and no answer has come
    │   ├── NodeGone                there is no such hub
    │   ├── NotOwner                another hub owns the room; the call did nothing
    │   ├── CallFailed              the function of another hub has raised
    │   └── CallTimeout             another hub has not answered; also a ``TimeoutError``
    ├── ExecTimeout             the timeout passed first (also TimeoutError)
    │   └── TimedOut                of hubthread.client
    ├── TooManyRooms            a client is in as many rooms as the limit allows
    ├── HotlineFull             a room has as many members as it may have
    ├── PeerError               the other end of the connection
    │   ├── HandshakeRejected       carries the HTTP status and reason of the answer
    │   ├── Refused                 of hubthread.client: the server has failed, or refused
    │   └── MatcherError            a message that cannot be given to a handler
    │       ├── HandleNotFind           unknown header
    │       └── PayloadError            malformed header or payload (also ValueError)
    └── InternalError           a bug in hubthread: please report it

A wrong value is a ``ValueError`` and a wrong type is a ``TypeError``, whatever else it is.
The names ``HandleAnyNotPtr`` to ``HandleKindError`` come from the specification's
``ErrHandleAnyNotPtr`` … ``ErrHandleKindError``.
"""

from __future__ import annotations

__all__ = [
    "BackplaneDown",
    "BackplaneError",
    "CallFailed",
    "CallTimeout",
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
    "HotlineFull",
    "HubClosed",
    "HubThreadError",
    "InternalError",
    "LongPollingTimeoutZero",
    "Lost",
    "MatcherError",
    "NodeGone",
    "NotOwner",
    "PayloadError",
    "PeerError",
    "PublishUnknown",
    "QueueFull",
    "Refused",
    "SettingError",
    "SettingTypeError",
    "TimedOut",
    "TooManyRooms",
    "UsageError",
    "WrongThread",
    "WrongType",
    "WrongValue",
]


class HubThreadError(Exception):
    """The root of every exception that hubthread raises on purpose."""


class UsageError(HubThreadError):
    """The calling program is wrong; the message says what to change."""


class WrongValue(UsageError, ValueError):
    """An argument is out of range; the message says what is allowed."""


class WrongType(WrongValue, TypeError):
    """An argument has the wrong type; the message says which type is expected."""


class SettingError(WrongValue):
    """A setting is out of range; the message says what is allowed."""

    field: str
    """The name of the setting."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class SettingTypeError(SettingError, WrongType):
    """A setting has the wrong type; the message says which type is expected."""


class WrongThread(UsageError):
    """An object was used on a thread that does not own it."""


class DeadlockError(UsageError):
    """The wait would never end: the chain of waits leads back to the waiting thread."""


class HandlerError(WrongType):
    """A handler cannot be registered."""

    header: object
    """The header that the handler was registered for."""

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message)
        self.header = header


class HandleNotFunc(HandlerError):
    """The handler is not callable (specification: ``ErrHandleNotFunc``)."""


class HandleKindError(HandlerError):
    """The handler's parameters do not fit (specification: ``ErrHandleKindError``)."""


class DuplicateHandler(HandlerError):
    """The header already has a handler."""


class ContextNotClient(WrongType):
    """A hotline was given an object that is not a client (``ErrContextNotClient``)."""


class HandleAnyNotPtr(WrongType):
    """No payload can be converted to the type (``ErrHandleAnyNotPtr``)."""

    target: object
    """The type."""

    def __init__(self, message: str, target: object = None) -> None:
        super().__init__(message)
        self.target = target


class LongPollingTimeoutZero(WrongValue):
    """A poll needs a timeout (``ErrLongPollingTimeOutZeroError``)."""


class Closed(HubThreadError):
    """The object has ended; the call did nothing."""


class HubClosed(Closed):
    """The hub is closed, or closing, and accepts nothing more."""


class ClientClosed(Closed):
    """The client's connection has ended, or its close callback is already queued."""


class HotlineClosed(Closed):
    """The hotline (room) is closed."""


class Lost(Closed):
    """The link of a client has ended, or its connection ended before the answer came.

    The server may have received the request, or not.
    """


class QueueFull(HubThreadError):
    """A bounded queue is full.  The call did nothing; the message names the bound.

    In ``on_connection_start`` and ``on_connection_close`` the hub and rooms do not raise it.
    """


class BackplaneError(HubThreadError):
    """The backplane, which orders the pushes of shared rooms, cannot carry out the call."""


class BackplaneDown(BackplaneError):
    """The backplane cannot be reached.  The call did nothing; try later."""


class PublishUnknown(BackplaneError):
    """A push was sent, and no answer has come in time.  The push may have its place, or not."""


class NodeGone(BackplaneError):
    """There is no such hub on the backplane.  The call did nothing."""


class NotOwner(BackplaneError):
    """Another hub, or no hub, owns the room.  The call did nothing."""


class CallFailed(BackplaneError):
    """The function in the other hub has raised, or does not exist; the text says why."""


class CallTimeout(BackplaneError, TimeoutError):
    """Another hub has not answered in time.  Its function may have run, or may still run."""


class ExecTimeout(HubThreadError, TimeoutError):
    """The timeout passed before the result was there.  The work may still run later."""

    stack: str
    """The stack of the busy thread when the timeout passed, as text; ``""`` if unknown."""

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(f"{message}\n{stack}" if stack else message)
        self.stack = stack


class TimedOut(ExecTimeout):
    """The server of a client gave no answer in time, or cannot be reached."""


class TooManyRooms(HubThreadError):
    """The client is in ``Limits.rooms_per_client`` rooms already and did not join another."""


class HotlineFull(HubThreadError):
    """The hotline (room) has ``HotlineOption.max_members`` members and lets no other in."""


class PeerError(HubThreadError):
    """The other end of the connection did something wrong."""


class HandshakeRejected(PeerError):
    """A request does not become a connection.  Raise it in the handshake hook to refuse a client.

    :param status: the HTTP status of the answer, 400 to 599.
    :param reason: one sentence, sent as the body.
    :param headers: further header fields of the answer, as pairs of name and value.
    :raises SettingError: for another status.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]

    def __init__(
        self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(f"{status}: {reason}")
        wanted = f"expected an HTTP status from 400 to 599, got {status!r}"
        given: object = status
        if not isinstance(given, int):
            raise SettingTypeError("status", wanted)
        if not 400 <= status <= 599:
            raise SettingError("status", wanted)
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)


class Refused(PeerError):
    """The server of a client answered that it failed, or refused; the text says why."""


class MatcherError(PeerError):
    """A message reaches no handler."""

    header: object
    """The header of the message, or ``None`` where it is unknown."""

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message)
        self.header = header


class HandleNotFind(MatcherError):
    """No handler is registered for the header (specification: ``ErrHandleNotFind``)."""


class PayloadError(MatcherError, ValueError):
    """The header cannot be parsed, or the payload does not fit the handler's type."""


class InternalError(HubThreadError):
    """A bug in hubthread itself: please report it with the traceback."""
