"""The Python name of each exported name of the Go package, and the table made of them.

This module needs no Sphinx, so that the tests can read it: ``tables.py`` has the directives.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["PORT", "Port", "port_table"]


class Port(NamedTuple):
    """One row of the table."""

    go: str
    """The Go name; a dot stands between a type and its method or field."""
    python: str
    """The Python name, as ``import hubthread`` offers it, or a name of the standard library."""
    note: str
    """The differences; may be empty."""


# One name each, in the order of the Go package's documentation: "Go = Python: note".
_TEXT = """\
TextMessage = MessageType.TEXT: also the type of ``ctx.write("…")``
BinaryMessage = MessageType.BINARY: also the type of ``ctx.write(b"…")``
CloseMessage = MessageType.CLOSE
PingMessage = MessageType.PING
PongMessage = MessageType.PONG
ErrHandleAnyNotPtr = HandleAnyNotPtr: raised for a type that no payload can be decoded into;
    Python has no pointers
ErrHandleNotFunc = HandleNotFunc
ErrContextNotClient = ContextNotClient
ErrHandleNotFind = HandleNotFind
ErrHandleKindError = HandleKindError: each is an exception class, raised at registration, never
    at the first message
ErrLongPollingTimeOutZeroError = LongPollingTimeoutZero
DefaultNewline = DEFAULT_NEWLINE
DefaultSpace = DEFAULT_SPACE
BytesI8 = bytes_i8: raises for any other length; takes an ``IntEnum`` as its second argument
BytesI16 = bytes_i16
BytesI32 = bytes_i32
BytesI64 = bytes_i64
DefaultPingHandler = default_ping_handler: does nothing: the library answers each ping before
    it calls a handler
DefaultUpgrader = default_upgrader: accepts browsers from the same host only;
    ``check_origin="any"`` accepts all
I8Bytes = i8_bytes: raises for a number out of range
I16Bytes = i16_bytes
I32Bytes = i32_bytes
I64Bytes = i64_bytes
ReadBufferPreprocessingBinary = read_buffer_preprocessing_binary
ReadBufferPreprocessingText = read_buffer_preprocessing_text: strips newlines and spaces around
    the message
Client = Client: the server's end of one connection; a TCP or UDP peer is a ``SocketClient``
Client.ID = Client.connection_id
Client.ReceiveBuffer = Client.payload: the whole message, in ``on_receive_message``
Client.PayloadBuffer = Client.payload: the message without its header, in a handler
Client.Close = Client.close: takes a close code and a reason
Client.ConnectionID = Client.connection_id
Client.Context = Client.context
Client.ExecAsync = Client.exec_async: runs in the order of the client's callbacks, one at a
    time
Client.ExecSync = Client.exec_sync: returns the result; raises instead of returning an error
Client.GetContext = Client.context
Client.Hub = Client.hub
Client.HubBroadcast = Client.hub_broadcast
Client.IsWriteConsumed = Client.is_write_consumed: ``wait_write_consumed`` waits for it
Client.Logger = Client.logger
Client.Meta = Client.meta
Client.Payload = Client.payload: ``str`` for a text message, ``bytes`` for a binary one
Client.Sub = Client.meta: typed, where the client is a ``Client[Meta, Header]``
Client.Write = Client.write: sends ``str`` as text, ``bytes`` as binary
Client.WriteCount = Client.write_count
Client.WriteJson = Client.write_json: raises instead of returning an error, as do the following
Client.WriteMessageType = Client.write_message_type
Client.WriteSerialization = Client.write_serialization
Client.WriteSplicing = Client.write_splicing
Client.WriteString = Client.write_string
Client.WsConn = Client.ws_conn: the library's own connection
ClientID = ClientID: an ``int`` counted by the hub, never used twice
ConnectionProtocols = ConnectionProtocols
TCP = ConnectionProtocols.TCP
UDP = ConnectionProtocols.UDP
ConnectionType = ConnectionType
Websocket = ConnectionType.WEBSOCKET
Socket = ConnectionType.SOCKET
DHub = DHub: the argument of a closure on the hub thread; refuses every other thread
DataSize = DataSize: an ``int`` of bytes: ``4 * DataSize.MB``
Empty = Empty
HandleFunc = HandleFunc
HandleFunc.Check = HandleFunc: nothing to check: ``None`` stands for no function
HandlePack = HandlePack
HotlineFrameOption = HotlineFrameOption
HotlineFrameOption.ControlSze = HotlineFrameOption.control_size
HotlineFrameOption.Hz = HotlineFrameOption.hz: a float; give either ``hz`` or ``hz_basic``
HotlineFrameOption.HzBasic = HotlineFrameOption.hz_basic: seconds between ticks
HotlineFrameOption.NewObj = HotlineFrameOption.new_obj
HotlineFrameOption.OnStart = HotlineFrameOption.on_start
HotlineFrameOption.Logic = HotlineFrameOption.logic
HotlineFrameOption.OnClose = HotlineFrameOption.on_close
HotlineFrameOption.HotlineFrameRun = HotlineFrameOption.run: raises instead of returning an
    error
HotlineFrameOption.MakeFrameRun = HotlineFrameOption.run
HotlineID = HotlineID
HotlineOption = HotlineOption
Hub = Hub
NewHub = Hub: ``Hub(setting)``; the setting is checked when it is made
NewHubRun = Hub.started: ``with Hub(setting) as hub:`` starts the hub, too, and closes it
Hub.Befunc = MatcherMap.handle: a handler is any function registered with it
Hub.BroadcastWithFilter = Hub.broadcast_with_filter
Hub.ByteSplicing = Hub.byte_splicing
Hub.Close = Hub.close: takes a time-out; when it returns, no thread or socket is left
Hub.Context = Hub.context
Hub.ContextIterAAsyncExec = Hub.context_iter_a_async_exec: or ``each_client`` with
    ``wait_hub=False``
Hub.ContextIterASyncExec = Hub.context_iter_a_sync_exec: the hub never waits for a client; the
    caller may wait on the result
Hub.ContextIterSAsyncExec = Hub.context_iter_s_async_exec: or ``each_client`` with
    ``wait_clients=False``
Hub.ExecAsync = Hub.exec_async: raises when the hub is closed or its queue is full
Hub.ExecSync = Hub.exec_sync: returns the result; a circle of waits raises ``DeadlockError``
Hub.HubBroadcast = Hub.broadcast
Hub.Logger = Hub.logger
Hub.LongPolling = Hub.long_polling: returns at once; the result can be waited for or cancelled
Hub.Marshal = Hub.marshal
Hub.NewHotline = Hub.hotline
Hub.NewHotlineDirect = Hub.hotline: every hotline has the three client iterations
Hub.NewHotlineDirectWithOption = Hub.hotline: ``hub.hotline(option)``
Hub.NewHotlineSilence = Hub.silent_hotline
Hub.NewHotlineSilenceDirect = Hub.silent_hotline
Hub.NewHotlineWithOption = Hub.hotline: ``hub.hotline(option)``
Hub.Run = Hub.run: runs on the calling thread until closed; ``hub.start()`` uses a new thread
Hub.SocketHandles = Hub.socket_handles: returns the listening server at once
Hub.Unmarshal = Hub.unmarshal: returns an object of the given type
Hub.WaitAdd = Hub.wait_add
Hub.WaitDone = Hub.wait_done
Hub.WebSocketHandler = Hub.websocket_handler: inside a WSGI server, without holding a worker;
    otherwise ``hub.serve``
Hub.WebSocketHandlerWithMeta = Hub.websocket_handler: with ``meta=``
HubSetting = HubSetting: frozen, and checked when it is made
HubSetting.HubName = HubSetting.hub_name
HubSetting.ContextOption = HubSetting.context: cancelling it, or its deadline, closes the hub
HubSetting.CancelFunc = Context.cancel: of that context, or of ``hub.context``
HubSetting.Logger = HubSetting.logger
HubSetting.MetaGen = HubSetting.meta_gen: required; ``on_handshake`` may make the meta instead
HubSetting.ReceiveMatcher = HubSetting.receive_matcher
HubSetting.ReceiveMatcherError = HubSetting.receive_matcher_error
HubSetting.OnReceiveMessage = HubSetting.on_receive_message: ``RateLimiter`` is a ready-made
    one
HubSetting.OnConnectionStart = HubSetting.on_connection_start
HubSetting.OnConnectionClose = HubSetting.on_connection_close
HubSetting.ChanQueueSize = HubSetting.chan_queue_size: 16,384 by default, not 8; a full queue
    raises ``QueueFull`` and never blocks
HubSetting.WebsocketPeriod = HubSetting.websocket_period
HubSetting.SocketPeriod = HubSetting.socket_period
HubSetting.DelayedExecution = HubSetting.delayed_execution
IHotline = Hotline
IHotline.GetHotline = Hotline.hotline_id
IHotline.Answer = Hotline.answer: a client that disconnects hangs up by itself
IHotline.Hangup = Hotline.hangup
IHotline.Push = Hotline.push: ``bytes`` and ``str`` never change after the call
IHotline.PushCount = Hotline.push_count
IHotline.PushSplicing = Hotline.push_splicing
IHotline.IsPushConsumed = Hotline.is_push_consumed: ``wait_push_consumed`` waits for it
IHotline.MembersNum = Hotline.members_num
IHotline.Members = Hotline.members
IHotline.Logger = Hotline.logger
IHotline.Close = Hotline.close
IHotline.CloseIfEmpty = Hotline.close_if_empty
IHotline.IsClosed = Hotline.is_closed
IHotline.Context = Hotline.context
IHotlineFrameControl = FrameControl: also a ``Hotline``
IHotlineFrameControl.Pause = FrameControl.pause
IHotlineFrameControl.Resume = FrameControl.resume
IHotlineFrameControl.ExecAsync = FrameControl.exec_async: runs on the room's own thread, the
    only one that touches ``obj``
IHotlineFrameControl.ExecSync = FrameControl.exec_sync
IHotlineFrameControl.Close = FrameControl.close
IHotlineFrameControl.LatencyTime = FrameControl.latency_time
IHotlineFrameControl.OperationTimeout = FrameControl.operation_timeout
IHotlineFrameControl.OperationTicker = FrameControl.operation_ticker
IHub = Hub: handlers see it as the protocol ``IHub``
ILogger = default_logger: any object with the methods of ``logging.Logger``
ILogger.Debug = logging.Logger.debug
ILogger.Info = logging.Logger.info
ILogger.Warn = logging.Logger.warning
ILogger.Error = logging.Logger.error
ILogger.Panic = logging.Logger.critical: the library never ends the process
ILogger.Fatal = logging.Logger.critical
DefaultLogger = default_logger: the logger named ``hubthread``
IOContext = IOContext: the client as handlers see it
IOContext.Payload = IOContext.payload
IOContext.Logger = IOContext.logger
IOContext.GetContext = IOContext.context
IOContext.Write = IOContext.write
IOContext.WriteJson = IOContext.write_json
IOContext.WriteString = IOContext.write_string
IOContext.WriteSerialization = IOContext.write_serialization
IOContext.WriteCount = IOContext.write_count
IOContext.WriteSplicing = IOContext.write_splicing
IOContext.WriteMessageType = IOContext.write_message_type
IOContext.IsWriteConsumed = IOContext.is_write_consumed
IOContext.Close = IOContext.close
IOContext.HubBroadcast = IOContext.hub_broadcast
IOContext.Context = IOContext.context
IOContext.ConnectionID = IOContext.connection_id
IOContext.Hub = IOContext.hub
IOContext.WsConn = IOContext.ws_conn
IOContext.Meta = IOContext.meta
IOContext.ExecAsync = IOContext.exec_async
IOContext.ExecSync = IOContext.exec_sync
IOperationCountdown = OperationCountdown: ends exactly once: done, time-out or the room's end
IOperationCountdown.Operation = OperationCountdown.operation
IOperationCountdown.Done = OperationCountdown.done
IOperationCountdownTicker = OperationCountdownTicker
IOperationCountdownTicker.Operation = OperationCountdownTicker.operation
IOperationCountdownTicker.Done = OperationCountdownTicker.done
IncrementByte = IncrementByte
IncrementByte.Count = IncrementByte.count
LongPollingOption = LongPollingOption
LongPollingOption.Retry = LongPollingOption.retry
LongPollingOption.Timeout = LongPollingOption.timeout
LongPollingOption.Frequency = LongPollingOption.frequency
LongPollingOption.Do = LongPollingOption.do
LongPollingOption.TimeoutCallback = LongPollingOption.timeout_callback
LongPollingResult = LongPollingResult: ``wait``, ``cancel``, ``outcome``
MatcherMap = MatcherMap
MatcherMap.HeaderParsingFunc = MatcherMap.header_parsing: given as
    ``MatcherMap(header_parsing)``: a function, ``JsonHeader`` or the like
MatcherMap.HandleSetting = MatcherMap.handle: a decorator; or ``MatcherMap(handlers={…})``
MatcherMap.MarshalFunc = MatcherMap.marshal: given as ``MatcherMap(marshal=…)``; JSON by
    default
MatcherMap.UnmarshalFunc = MatcherMap.unmarshal: given as ``MatcherMap(unmarshal=…)``
MatcherMap.GenSub = MatcherMap.gen_sub: ``ctx.matcher = matcher.gen_sub()`` sets it for one
    client
MatcherMap.HeaderParsing = MatcherMap.header_parsing
MatcherMap.Init = MatcherMap.init
MatcherMap.Marshal = MatcherMap.marshal
MatcherMap.Unmarshal = MatcherMap.unmarshal
OperationCountdown = OperationCountdown
OperationCountdown.Done = OperationCountdown.done
OperationCountdown.Operation = OperationCountdown.operation
OperationCountdownTicker = OperationCountdownTicker
OperationCountdownTicker.Done = OperationCountdownTicker.done
OperationCountdownTicker.Operation = OperationCountdownTicker.operation
PingPongPlan = PingPongPlan
PingPongPlan.PingHandler = PingPongPlan.ping_handler: called after the library has sent the
    pong
PingPongPlan.PingTimeout = PingPongPlan.ping_timeout: any byte is a sign of life; the server
    pings after ``ping_period``, since browsers cannot
PingPongPlan.PongHandler = PingPongPlan.pong_handler
ReadBufferPreprocessing = ReadBufferPreprocessing
SocketPeriod = SocketPeriod: for raw peers only
SocketPeriod.PingPeriod = SocketPeriod.ping_period
SocketPeriod.PongWait = SocketPeriod.pong_wait
SocketPeriod.WriteWait = SocketPeriod.write_wait
SocketPeriod.WsPongHandler = PingPongPlan.pong_handler: raw peers send no pongs
SocketPeriod.WsWriteTimeOutHandle = HubSetting.on_connection_close: a peer that takes no byte
    for ``write_wait`` seconds is cut
SocketPeriod.WriteMessageType = SocketPeriod.write_message_type
SocketPeriod.MessageBufferSize = SocketPeriod.message_buffer_size
SubMatcher = SubMatcher
WebsocketPeriod = WebsocketPeriod
WebsocketPeriod.Upgrader = WebsocketPeriod.upgrader
WebsocketPeriod.PingPongPlan = WebsocketPeriod.ping_pong_plan
WebsocketPeriod.WriteMessageType = WebsocketPeriod.write_message_type: ``None``, the default,
    follows the type of the data
WebsocketPeriod.ExpectedWsError = WebsocketPeriod.expected_ws_error
WebsocketPeriod.WriteNewline = WebsocketPeriod.write_newline
WebsocketPeriod.ReadBufferPreprocessing = WebsocketPeriod.read_buffer_preprocessing
DefaultWebsocketPeriod = default_websocket_period: trims each message; for text protocols only
"""


def _rows() -> list[Port]:
    joined = re.sub(r"\n    ", " ", _TEXT)
    rows = []
    for line in joined.splitlines():
        names, _, note = line.partition(": ")
        go, python = names.split(" = ")
        rows.append(Port(go, python, note))
    return rows


PORT = _rows()
"""Every row, in the order of the table."""


def port_table() -> list[str]:
    """Return the table as reStructuredText; a member stands as ``.Close`` below its type."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 30 32 38", ""]
    cells = [("Go", "Python", "Difference")]
    for go, python, note in PORT:
        owner, dot, member = go.partition(".")
        link = "" if python.startswith("logging.") else "hubthread."
        text = f":py:obj:`{python} <{link}{python}>`"
        cells.append((f"``{dot + member if dot else owner}``", text, note))
    for first, *others in cells:
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in others)]
    return lines
