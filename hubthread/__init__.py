"""A real-time hub for synchronous Python: rooms and typed messages, in plain threads.

The layers, lowest first; a module imports only from those above its own line:

    errors, types, settings, interfaces, logger     what every layer speaks of
    protocol/       bytes in, events out: no threads, sockets or clocks
    concurrency/    threads, waits and order: no sockets
    net/            sockets: transports, listener, connection
    hub/            hub, client, hotline
    cli, demo/      the command line

Everything that users need is in this namespace; the rest may move.
"""

from hubthread.concurrency.context import Context as Context
from hubthread.errors import ClientClosed as ClientClosed
from hubthread.errors import Closed as Closed
from hubthread.errors import ContextNotClient as ContextNotClient
from hubthread.errors import DeadlockError as DeadlockError
from hubthread.errors import DuplicateHandler as DuplicateHandler
from hubthread.errors import ExecTimeout as ExecTimeout
from hubthread.errors import HandleAnyNotPtr as HandleAnyNotPtr
from hubthread.errors import HandleKindError as HandleKindError
from hubthread.errors import HandleNotFind as HandleNotFind
from hubthread.errors import HandleNotFunc as HandleNotFunc
from hubthread.errors import HandlerError as HandlerError
from hubthread.errors import HandshakeRejected as HandshakeRejected
from hubthread.errors import HotlineClosed as HotlineClosed
from hubthread.errors import HubClosed as HubClosed
from hubthread.errors import HubThreadError as HubThreadError
from hubthread.errors import InternalError as InternalError
from hubthread.errors import MatcherError as MatcherError
from hubthread.errors import PayloadError as PayloadError
from hubthread.errors import PeerError as PeerError
from hubthread.errors import QueueFull as QueueFull
from hubthread.errors import SettingError as SettingError
from hubthread.errors import UsageError as UsageError
from hubthread.errors import WrongThread as WrongThread
from hubthread.hub.client import Client as Client
from hubthread.hub.dhub import DHub as DHub
from hubthread.hub.hotline import Hotline as Hotline
from hubthread.hub.hub import Hub as Hub
from hubthread.hub.serving import Server as Server
from hubthread.interfaces import IOContext as IOContext
from hubthread.logger import default_logger as default_logger
from hubthread.protocol.frames import MessageType as MessageType
from hubthread.protocol.headers import IntHeader as IntHeader
from hubthread.protocol.headers import JsonHeader as JsonHeader
from hubthread.protocol.headers import PrefixHeader as PrefixHeader
from hubthread.protocol.http import Request as Request
from hubthread.protocol.http import Response as Response
from hubthread.protocol.matcher import Empty as Empty
from hubthread.protocol.matcher import MatcherMap as MatcherMap
from hubthread.protocol.matcher import SubMatcher as SubMatcher
from hubthread.settings import HotlineOption as HotlineOption
from hubthread.settings import HubSetting as HubSetting
from hubthread.settings import Overflow as Overflow
from hubthread.settings import PingPongPlan as PingPongPlan
from hubthread.settings import Upgrader as Upgrader
from hubthread.settings import WebsocketPeriod as WebsocketPeriod
from hubthread.types import ClientID as ClientID
from hubthread.types import ConnectionType as ConnectionType
from hubthread.types import HotlineID as HotlineID

__version__ = "0.1.0"

__all__ = [
    "Client",
    "ClientClosed",
    "ClientID",
    "Closed",
    "ConnectionType",
    "Context",
    "ContextNotClient",
    "DHub",
    "DeadlockError",
    "DuplicateHandler",
    "Empty",
    "ExecTimeout",
    "HandleAnyNotPtr",
    "HandleKindError",
    "HandleNotFind",
    "HandleNotFunc",
    "HandlerError",
    "HandshakeRejected",
    "Hotline",
    "HotlineClosed",
    "HotlineID",
    "HotlineOption",
    "Hub",
    "HubClosed",
    "HubSetting",
    "HubThreadError",
    "IOContext",
    "IntHeader",
    "InternalError",
    "JsonHeader",
    "MatcherError",
    "MatcherMap",
    "MessageType",
    "Overflow",
    "PayloadError",
    "PeerError",
    "PingPongPlan",
    "PrefixHeader",
    "QueueFull",
    "Request",
    "Response",
    "Server",
    "SettingError",
    "SubMatcher",
    "Upgrader",
    "UsageError",
    "WebsocketPeriod",
    "WrongThread",
    "__version__",
    "default_logger",
]
