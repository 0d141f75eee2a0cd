"""A real-time hub for synchronous Python: rooms and typed messages, in plain threads.

The packages and modules, lowest first.  A module imports only from its own row and the rows
above it:

    errors.py, statistics.py  exceptions; snapshots of figures
    version.py                the version of the package
    checks.py, types.py       argument checks; ids and enums
    limits.py, history.py     limits for clients; the history of a room
    presence.py, sessions.py  who is in a room; clients that come back
    nodes.py                  names of hubs and clients, for other hubs
    matcher/                  typed messages: formats, handlers, converters
    state/                    the state of a room as its members see it: patches
    protocol/                 the wire: HTTP, handshake, frames, closing
    concurrency/              threads, waits and order
    net/                      sockets: transports, connections, outboxes, listeners
    client/                   the Python client: a connection that comes back
    backplane/                the order and the history of shared rooms
    interfaces.py             the protocols that handlers see
    room_option.py            the options of a room
    publisher.py              pushes from programs that have no hub
    settings.py, defaults.py  the settings; the specification's default objects
    core/                     the parts that a hub's clients, rooms and servers share
    clients/                  one connection, as programs hold it
    rooms/, rooms/ticking/    hotlines; hotlines with a clock
    serving/                  from a socket or a WSGI request to a client
    hub/                      the hub
    integrations/, testing/   Flask and Django; a hub in virtual time, for tests
    static/                   the browser's client and the monitor page, in JavaScript
    cli.py, terminal.py       the command line; the client in a terminal
    loading.py                parts of a program, named on the command line
    bots.py                   many programs as players, for a server under load
    top.py                    the figures of a hub in a terminal
    typescript.py             TypeScript types of the messages of a matcher
    demo/, examples/          programs

Where the main things happen:

    a WebSocket is accepted       serving/accept.py        Arrival.accept
    a message is read             net/connection.py        Connection.receive
    a message finds its handler   matcher/matcher.py       MatcherMap.route
    a room fans out               core/push_log.py         PushLog.flush
    a tick runs                   rooms/ticking/loop.py    TickLoop.step
    a slow client is dealt with   net/backlog.py           Backlog.admit

The public names are those in this module, in ``hubthread.client``, ``hubthread.publisher`` and
``hubthread.testing``, and in the modules of ``hubthread.integrations``.  Everything else may move.

Layer: top.  Threads: importing starts none.
"""

from hubthread.backplane.interfaces import Backplane as Backplane
from hubthread.backplane.interfaces import BackplaneState as BackplaneState
from hubthread.backplane.memory import MemoryBackplane as MemoryBackplane
from hubthread.backplane.redis.backplane import RedisBackplane as RedisBackplane
from hubthread.clients.client import Client as Client
from hubthread.clients.each import Iteration as Iteration
from hubthread.clients.ratelimit import RateLimiter as RateLimiter
from hubthread.clients.raw import SocketClient as SocketClient
from hubthread.concurrency.context import Context as Context
from hubthread.defaults import DEFAULT_NEWLINE as DEFAULT_NEWLINE
from hubthread.defaults import DEFAULT_SPACE as DEFAULT_SPACE
from hubthread.defaults import default_ping_handler as default_ping_handler
from hubthread.defaults import default_upgrader as default_upgrader
from hubthread.defaults import default_websocket_period as default_websocket_period
from hubthread.defaults import read_buffer_preprocessing_binary as read_buffer_preprocessing_binary
from hubthread.defaults import read_buffer_preprocessing_text as read_buffer_preprocessing_text
from hubthread.errors import BackplaneDown as BackplaneDown
from hubthread.errors import BackplaneError as BackplaneError
from hubthread.errors import CallFailed as CallFailed
from hubthread.errors import CallTimeout as CallTimeout
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
from hubthread.errors import HotlineFull as HotlineFull
from hubthread.errors import HubClosed as HubClosed
from hubthread.errors import HubThreadError as HubThreadError
from hubthread.errors import InternalError as InternalError
from hubthread.errors import LongPollingTimeoutZero as LongPollingTimeoutZero
from hubthread.errors import MatcherError as MatcherError
from hubthread.errors import NodeGone as NodeGone
from hubthread.errors import NotOwner as NotOwner
from hubthread.errors import PayloadError as PayloadError
from hubthread.errors import PeerError as PeerError
from hubthread.errors import PublishUnknown as PublishUnknown
from hubthread.errors import QueueFull as QueueFull
from hubthread.errors import SettingError as SettingError
from hubthread.errors import SettingTypeError as SettingTypeError
from hubthread.errors import TooManyRooms as TooManyRooms
from hubthread.errors import UsageError as UsageError
from hubthread.errors import WrongThread as WrongThread
from hubthread.errors import WrongType as WrongType
from hubthread.errors import WrongValue as WrongValue
from hubthread.history import History as History
from hubthread.history import Position as Position
from hubthread.history import Recovery as Recovery
from hubthread.hub.dhub import DHub as DHub
from hubthread.hub.hub import Hub as Hub
from hubthread.hub.monitor import Monitor as Monitor
from hubthread.hub.polling import LongPollingOption as LongPollingOption
from hubthread.hub.polling import LongPollingResult as LongPollingResult
from hubthread.hub.users import User as User
from hubthread.interfaces import IHotline as IHotline
from hubthread.interfaces import IHub as IHub
from hubthread.interfaces import IOContext as IOContext
from hubthread.limits import Limits as Limits
from hubthread.matcher.codecs import IncrementByte as IncrementByte
from hubthread.matcher.codecs import bytes_i8 as bytes_i8
from hubthread.matcher.codecs import bytes_i16 as bytes_i16
from hubthread.matcher.codecs import bytes_i32 as bytes_i32
from hubthread.matcher.codecs import bytes_i64 as bytes_i64
from hubthread.matcher.codecs import i8_bytes as i8_bytes
from hubthread.matcher.codecs import i16_bytes as i16_bytes
from hubthread.matcher.codecs import i32_bytes as i32_bytes
from hubthread.matcher.codecs import i64_bytes as i64_bytes
from hubthread.matcher.formats import IntHeader as IntHeader
from hubthread.matcher.formats import JsonHeader as JsonHeader
from hubthread.matcher.formats import PrefixHeader as PrefixHeader
from hubthread.matcher.jsontypes import register_json_type as register_json_type
from hubthread.matcher.matcher import Empty as Empty
from hubthread.matcher.matcher import HandleFunc as HandleFunc
from hubthread.matcher.matcher import HandlePack as HandlePack
from hubthread.matcher.matcher import MatcherMap as MatcherMap
from hubthread.matcher.matcher import SubMatcher as SubMatcher
from hubthread.net.activation import systemd_sockets as systemd_sockets
from hubthread.nodes import Address as Address
from hubthread.nodes import Node as Node
from hubthread.presence import Presence as Presence
from hubthread.presence import PresenceChange as PresenceChange
from hubthread.presence import PresenceState as PresenceState
from hubthread.protocol.close_codes import CloseCode as CloseCode
from hubthread.protocol.frames import MessageType as MessageType
from hubthread.protocol.http import Request as Request
from hubthread.protocol.http import Response as Response
from hubthread.rooms.hotline import Hotline as Hotline
from hubthread.rooms.shared_state import SharedState as SharedState
from hubthread.rooms.silent import SilentHotline as SilentHotline
from hubthread.rooms.state_sync import StateSync as StateSync
from hubthread.rooms.ticking.control import FrameControl as FrameControl
from hubthread.rooms.ticking.control import HotlineFrameOption as HotlineFrameOption
from hubthread.rooms.ticking.control import InputGate as InputGate
from hubthread.rooms.ticking.control import OperationCountdown as OperationCountdown
from hubthread.rooms.ticking.control import OperationCountdownTicker as OperationCountdownTicker
from hubthread.rooms.ticking.inputs import Input as Input
from hubthread.rooms.ticking.inputs import InputState as InputState
from hubthread.rooms.ticking.moves import Inputs as Inputs
from hubthread.rooms.ticking.owned import OwnedOption as OwnedOption
from hubthread.rooms.ticking.owned import OwnedRoom as OwnedRoom
from hubthread.rooms.ticking.schedule import Overrun as Overrun
from hubthread.rooms.ticking.schedule import Tick as Tick
from hubthread.serving.client_page import client_page as client_page
from hubthread.serving.raw_server import SocketServer as SocketServer
from hubthread.serving.server import Server as Server
from hubthread.sessions import Moved as Moved
from hubthread.sessions import Sessions as Sessions
from hubthread.settings import HotlineOption as HotlineOption
from hubthread.settings import HubSetting as HubSetting
from hubthread.settings import Overflow as Overflow
from hubthread.settings import PingPongPlan as PingPongPlan
from hubthread.settings import ReadBufferPreprocessing as ReadBufferPreprocessing
from hubthread.settings import Readers as Readers
from hubthread.settings import SocketPeriod as SocketPeriod
from hubthread.settings import Upgrader as Upgrader
from hubthread.settings import WebsocketPeriod as WebsocketPeriod
from hubthread.settings import default_logger as default_logger
from hubthread.state.grid import Grid as Grid
from hubthread.state.marks import Private as Private
from hubthread.state.marks import Round as Round
from hubthread.state.marks import Unsynced as Unsynced
from hubthread.types import ClientID as ClientID
from hubthread.types import ConnectionProtocols as ConnectionProtocols
from hubthread.types import ConnectionType as ConnectionType
from hubthread.types import DataSize as DataSize
from hubthread.types import Framing as Framing
from hubthread.types import HotlineID as HotlineID
from hubthread.version import VERSION as __version__  # noqa: N811 - its usual name

__all__ = [  # noqa: RUF022 - grouped by topic
    # The hub.
    "Hub",
    "DHub",
    "HubSetting",
    "Limits",
    "Monitor",
    "LongPollingOption",
    "LongPollingResult",
    "Iteration",
    "User",
    # Clients.
    "Client",
    "SocketClient",
    "ClientID",
    "CloseCode",
    "ConnectionType",
    "ConnectionProtocols",
    "RateLimiter",
    # Rooms.
    "Hotline",
    "SilentHotline",
    "HotlineOption",
    "HotlineID",
    # Shared rooms, with a history.
    "History",
    "Position",
    "Presence",
    "PresenceChange",
    "PresenceState",
    "Recovery",
    "Backplane",
    "BackplaneState",
    "MemoryBackplane",
    "RedisBackplane",
    # Other hubs.
    "Address",
    "Node",
    # Clients that come back.
    "Sessions",
    "Moved",
    # Rooms with a clock.
    "FrameControl",
    "HotlineFrameOption",
    "Tick",
    "Overrun",
    "OwnedOption",
    "OwnedRoom",
    "OperationCountdown",
    "OperationCountdownTicker",
    "Inputs",
    "InputGate",
    "Input",
    "InputState",
    # Their state, sent as patches.
    "StateSync",
    "SharedState",
    "Grid",
    "Round",
    "Private",
    "Unsynced",
    # Interfaces, as handlers see them.
    "IHub",
    "IHotline",
    "IOContext",
    # Messages.
    "MatcherMap",
    "register_json_type",
    "SubMatcher",
    "HandleFunc",
    "HandlePack",
    "Empty",
    "JsonHeader",
    "PrefixHeader",
    "IntHeader",
    # Bytes and integers.
    "IncrementByte",
    "i8_bytes",
    "i16_bytes",
    "i32_bytes",
    "i64_bytes",
    "bytes_i8",
    "bytes_i16",
    "bytes_i32",
    "bytes_i64",
    # Connections.
    "WebsocketPeriod",
    "Upgrader",
    "PingPongPlan",
    "SocketPeriod",
    "Framing",
    "MessageType",
    "Overflow",
    "Readers",
    "DataSize",
    "ReadBufferPreprocessing",
    "read_buffer_preprocessing_binary",
    "read_buffer_preprocessing_text",
    "DEFAULT_NEWLINE",
    "DEFAULT_SPACE",
    "default_ping_handler",
    "default_upgrader",
    "default_websocket_period",
    # Servers and HTTP.
    "Server",
    "SocketServer",
    "systemd_sockets",
    "client_page",
    "Request",
    "Response",
    # Cancellation and logging.
    "Context",
    "default_logger",
    # Errors; ``hubthread.errors`` draws their tree.
    "HubThreadError",
    "UsageError",
    "WrongValue",
    "WrongType",
    "SettingError",
    "SettingTypeError",
    "WrongThread",
    "DeadlockError",
    "HandlerError",
    "HandleNotFunc",
    "HandleKindError",
    "HandleAnyNotPtr",
    "DuplicateHandler",
    "ContextNotClient",
    "LongPollingTimeoutZero",
    "PeerError",
    "HandshakeRejected",
    "MatcherError",
    "HandleNotFind",
    "PayloadError",
    "Closed",
    "HubClosed",
    "HotlineClosed",
    "ClientClosed",
    "QueueFull",
    "TooManyRooms",
    "HotlineFull",
    "BackplaneError",
    "BackplaneDown",
    "PublishUnknown",
    "NodeGone",
    "NotOwner",
    "CallFailed",
    "CallTimeout",
    "ExecTimeout",
    "InternalError",
    # The version.
    "__version__",
]
