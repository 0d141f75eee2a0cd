"""G9: no user code ever runs under a lock of the library."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from hubthread import (
    ClientClosed,
    ConnectionProtocols,
    HandshakeRejected,
    JsonHeader,
    MatcherMap,
    PingPongPlan,
    PrefixHeader,
    RateLimiter,
    Response,
    Upgrader,
    WebsocketPeriod,
)
from tests.support import (
    PING,
    PONG,
    TIMEOUT,
    AnyClient,
    AnyHub,
    Items,
    Logs,
    ask,
    in_thread,
    listen,
    masked_frame,
    raw_handshake,
    serving,
    tcp_peer,
    udp_peer,
)


class Probe:
    """Uses the whole API on another thread while a callback waits, so no lock may be held.

    If the caller of the callback held a lock, that thread would wait for ever.  The probe leaves
    out methods that wait for the callback by design (``exec_sync``, ``close``).
    """

    def __init__(self) -> None:
        self.passed: Items[str] = Items()
        self.hub: AnyHub | None = None

    def __call__(self, where: str, client: Any = None) -> None:
        in_thread(lambda: self._use(client))()
        self.passed.add(where)

    def _use(self, client: AnyClient | None) -> None:
        hub = self.hub
        assert hub is not None
        hub.exec_async(lambda _: None)
        hub.broadcast("probe")
        hub.wait_add()
        hub.wait_done()
        hotline = hub.hotline()
        for each in hub.clients() if client is None else [client]:
            hotline.answer(each)
            hotline.push("probe")
            each.write("probe")
            with contextlib.suppress(ClientClosed):  # in its last callback
                each.exec_async(lambda: None)
            each.statistics()
            each.context.add_callback(lambda reason: None)
            each.is_write_consumed(1)
            hotline.hangup(each)
        hotline.statistics()
        hotline.close()
        hub.context.add_callback(lambda reason: None)
        for server in hub.servers():
            server.statistics()
        hub.statistics()


@pytest.mark.parametrize("protocol", list(ConnectionProtocols))
def test_callbacks_of_raw_peers_run_without_a_lock(protocol: ConnectionProtocols) -> None:
    probe = Probe()

    def shake(request: Any) -> dict[str, Any]:
        probe(request.method)
        return {}

    def receive(ctx: Any, meta: Any) -> bool:
        probe("message", ctx)
        ctx.context.add_callback(lambda reason: probe("context", ctx))
        return False

    with serving(
        on_handshake=shake,
        on_connection_start=lambda ctx, meta: probe("start", ctx),
        on_receive_message=receive,
        on_connection_close=lambda ctx, meta: probe("close", ctx),
    ) as s:
        probe.hub = s.hub
        server = listen(s, protocol)
        tcp = protocol is ConnectionProtocols.TCP
        with tcp_peer(server) if tcp else udp_peer(server) as peer:
            peer.send(b"message\n")
            ctx = s.came()
            probe.passed.wait(3)
            ctx.close()
            # A TCP peer's end is awaited.
            peer.close()
            found = probe.passed.wait(5)
            assert found == [protocol.name, "start", "message", "context", "close"]
        assert not s.logs.warnings()


def test_callbacks_of_every_kind_run_without_a_lock() -> None:
    """Each callback calls the probe, which uses the whole API."""
    probe = Probe()

    def shake(request: Any) -> dict[str, Any]:
        probe("on_handshake")
        if request.path == "/refused":
            raise HandshakeRejected(401, "Say who you are.")
        return {}

    def origin(request: Any) -> bool:
        probe("check_origin")
        return True

    def start(ctx: Any, meta: Any) -> None:
        probe("on_connection_start", ctx)

    def receive(ctx: Any, meta: Any) -> bool:
        probe("on_receive_message", ctx)
        return True

    def preprocess(data: Any) -> Any:
        probe("read_buffer_preprocessing")
        return data

    def page(request: Any) -> Response:
        probe("page")
        return Response.text(200, "here")

    class Codec:
        """The functions of a matcher."""

        @staticmethod
        def marshal(obj: object) -> str:
            probe("marshal")
            return str(obj)

        @staticmethod
        def unmarshal(data: Any, into: Any) -> Any:
            probe("unmarshal")
            return data

    matcher = MatcherMap[Any, str](
        PrefixHeader(), marshal=Codec.marshal, unmarshal=Codec.unmarshal
    )

    @matcher.handle("say")
    def say(ctx: Any, meta: Any, req: Codec) -> object:
        probe("handler", ctx)
        return {"said": req}

    @matcher.handle("trip")
    def trip(ctx: Any, meta: Any) -> None:
        raise LookupError

    class ProbingLogs(Logs):
        def handle(self, record: Any) -> None:
            if "raised" in record.getMessage():
                probe("logger")
            super().handle(record)

    with serving(
        upgrader=None,
        period=WebsocketPeriod(
            upgrader=Upgrader(check_origin=origin, error=lambda *_: probe("Upgrader.error")),
            ping_pong_plan=PingPongPlan(
                ping_handler=lambda ctx, meta, data: probe("ping_handler", ctx),
                pong_handler=lambda ctx, meta, data: probe("pong_handler", ctx),
            ),
            read_buffer_preprocessing=preprocess,
        ),
        logger=ProbingLogs(),
        on_handshake=shake,
        on_connection_start=start,
        on_receive_message=receive,
        on_connection_close=lambda ctx, meta: probe("on_connection_close", ctx),
        receive_matcher=matcher,
        receive_matcher_error=lambda ctx, meta, error: probe("receive_matcher_error", ctx),
        serve={"path": "/ws", "pages": {"/": page}},
    ) as s:
        probe.hub = s.hub
        ask(s.server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        ask(s.server, raw_handshake("/refused")[:-2] + b"Cookie: a=b\r\n\r\n")
        peer, client = s.pair(path="/ws")
        client.context.add_callback(lambda reason: probe("context callback"))
        peer.send("say hello", "unknown", "trip")
        peer.sock.sendall(masked_frame("", PING) + masked_frame("", PONG))

        def predicate(hub: Any, ctx: Any, meta: Any) -> bool:
            probe("predicate", ctx)
            return True

        def raises(_: Any) -> None:
            raise LookupError

        s.hub.broadcast_with_filter("x", predicate)
        s.hub.exec_async(raises)
        s.hub.exec_sync(lambda _: probe("hub closure", client))
        s.hub.hotline().context.add_callback(lambda reason: probe("hotline's context"))
        client.exec_sync(lambda: probe("client closure", client))
        s.hub.each_client(lambda client_id, ctx, meta: probe("task for each client", ctx))
        peer.close()
        probe.passed.until(lambda passed: "on_connection_close" in passed)
        probe.hub = s.hub
        hub_context_seen: Items[str] = Items()
        s.hub.context.add_callback(hub_context_seen.add)
        passed = set(probe.passed.now())
    assert hub_context_seen.now() == ["the hub was closed"]
    assert passed >= {
        "check_origin",
        "client closure",
        "context callback",
        "handler",
        "hub closure",
        "logger",
        "marshal",
        "on_connection_close",
        "on_connection_start",
        "on_handshake",
        "on_receive_message",
        "page",
        "ping_handler",
        "pong_handler",
        "predicate",
        "read_buffer_preprocessing",
        "receive_matcher_error",
        "task for each client",
        "unmarshal",
    }


def test_log_handler_that_blocks_holds_up_no_other_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No thread is left for a close's deadline; during the log's call a second client ends."""
    ended: list[bool] = []
    with serving() as s:
        (first, _), (second, other) = s.pairs(2)
        start = s.hub._core.threads.start

        def no_alarms(target: Any, what: str) -> None:
            if what == "timers":
                raise RuntimeError("can't start new thread")
            start(target, what)

        def log(record: logging.LogRecord) -> None:
            if "no thread for deadlines" in record.getMessage() and not ended:
                second.reset()
                ended.append(other.context.wait(TIMEOUT))

        monkeypatch.setattr(s.hub._core.threads, "start", no_alarms)
        monkeypatch.setattr(s.logs, "handle", log)
        first.send_close()
        assert first.closed()[0] == 1000
    assert ended == [True]


def test_callbacks_before_the_first_client_run_without_a_lock() -> None:
    """``delayed_execution`` and ``meta_gen``."""
    probe = Probe()

    def delayed(hub: AnyHub) -> None:
        probe.hub = hub
        probe("delayed_execution")

    def meta() -> dict[str, Any]:
        probe("meta_gen")
        return {}

    with serving(meta_gen=meta, delayed_execution=delayed) as s:
        with websocket(s.server.url):
            s.came()
        assert set(probe.passed.wait(2)) == {"delayed_execution", "meta_gen"}


def test_callbacks_of_requests_and_rate_limits_run_without_a_lock() -> None:
    """The type of an answer, the matcher's functions, the clock of a rate limiter."""
    probe = Probe()

    def marshal(obj: object) -> str:
        probe("marshal")
        return json.dumps(obj)

    def unmarshal(payload: Any, into: Any) -> Any:
        probe("unmarshal")
        return into(payload)

    def clock() -> float:
        if probe.hub is not None:
            probe("clock")
        return 0.0

    matcher = MatcherMap[Any, str](JsonHeader(id_field="id"), marshal=marshal, unmarshal=unmarshal)
    with (
        serving(receive_matcher=matcher, on_receive_message=RateLimiter(1, 9, clock)) as s,
        websocket(s.server.url) as peer,
    ):
        client = s.came()
        probe.hub = s.hub
        asking = in_thread(lambda: client.request("q", {}, TIMEOUT, into=dict))
        peer.send(json.dumps({"reply": json.loads(_question(peer))["id"], "n": 1}))
        assert asking() == {"n": 1}
    assert set(probe.passed.now()) == {"marshal", "clock", "unmarshal"}


def _question(peer: Any) -> str:
    """Return the next message that the probe did not send."""
    while (text := peer.recv(TIMEOUT)) == "probe":
        continue
    return str(text)
