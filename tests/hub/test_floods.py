"""A flood of incidents makes few lines in the log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hubthread import (
    HandshakeRejected,
    HotlineFrameOption,
    HubSetting,
    JsonHeader,
    LongPollingOption,
    MatcherMap,
    PingPongPlan,
    Response,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.concurrency.incidents import QUIET
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, Items, Logs, ask, listen, serving, tcp_peer

Act = Callable[[VirtualHub[Any, Any], str], object]


MORE = "(and %d more like this since the last such line)"


FLOOD = 50


def trip(which: object) -> Any:
    """Raise one of two bugs of the same type and function, on different lines."""
    if which == "one":
        raise LookupError("bug one")
    if which == "two":
        raise LookupError("bug two")
    return "meta"


def named(ctx: Any) -> str:
    return str(ctx.handshake.path.strip("/"))


def refusing(request: Any) -> Any:
    raise HandshakeRejected(403, request.path.strip("/"))


def send(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.connect().send(which)


def come(hub: VirtualHub[Any, Any], which: str) -> None:
    with contextlib.suppress(HandshakeRejected):
        hub.connect(f"/{which}")


def ping(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.connect(f"/{which}").send_wire(b"\x89\x80\0\0\0\0")


def visit(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.connect()
    hub.each_client(lambda *_: trip(which)).wait()
    for client in hub.clients():
        client.close()


def choose(hub: VirtualHub[Any, Any], which: str) -> None:
    client = hub.connect()
    hub.broadcast_with_filter("x", lambda *_: trip(which))
    client.drop()


def post(hub: VirtualHub[Any, Any], which: str) -> None:
    client = hub.connect()
    client.ctx.exec_async(lambda: trip(which))
    client.drop()


def play(hub: VirtualHub[Any, Any], which: str) -> None:
    room = HotlineFrameOption[Any](list, lambda *_: trip(which), hz=60).run(hub.hotline())
    hub.tick(room)
    room.close()


def ask_again(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.long_polling(LongPollingOption(lambda *_: trip(which), timeout=1, retry=1))


def close_client(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.connect(f"/{which}").drop()


def submit(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.exec_async(lambda _: trip(which))


@dataclass
class Flood:
    """A kind of function that raises, and a way to call it with the name of a bug."""

    name: str
    provoke: Act
    settings: dict[str, Any] = field(default_factory=dict)
    period: WebsocketPeriod[Any] = field(default_factory=WebsocketPeriod)


FLOODS = (
    Flood("handler", send, {"on_receive_message": lambda ctx, _: trip(ctx.payload)}),
    Flood("start", come, {"on_connection_start": lambda ctx, _: trip(named(ctx))}),
    Flood("close", close_client, {"on_connection_close": lambda ctx, _: trip(named(ctx))}),
    Flood("handshake", come, {"on_handshake": lambda request: trip(request.path.strip("/"))}),
    Flood(
        "error hook of the upgrader",
        come,
        {"on_handshake": refusing},
        WebsocketPeriod(upgrader=Upgrader(error=lambda request, status, why: trip(why))),
    ),
    Flood(
        "origin",
        come,
        period=WebsocketPeriod(upgrader=Upgrader(check_origin=lambda r: trip(r.path.strip("/")))),
    ),
    Flood(
        "error hook of the matcher",
        send,
        {
            "receive_matcher": MatcherMap(JsonHeader("type")),
            "receive_matcher_error": lambda ctx, meta, error: trip(ctx.payload),
        },
    ),
    Flood(
        "ping",
        ping,
        period=WebsocketPeriod(
            ping_pong_plan=PingPongPlan(ping_handler=lambda ctx, *_: trip(named(ctx)))
        ),
    ),
    Flood("each client", visit),
    Flood("filter", choose),
    Flood("closure of a client", post),
    Flood("logic", play),
    Flood("poll", ask_again),
    Flood("closure of the hub", submit),
)


@pytest.mark.parametrize("flood", FLOODS, ids=[flood.name for flood in FLOODS])
def test_flood_of_one_exception_is_one_line_of_each_kind(flood: Flood) -> None:
    """The first line has the traceback, the next the number of further incidents."""
    logs = Logs()
    setting = HubSetting[Any, Any](
        dict, logger=logs, websocket_period=flood.period, **flood.settings
    )
    with VirtualHub(setting) as hub:

        def told() -> list[str]:
            hub.settle()
            return [each for each in logs.at_least(logging.ERROR) if "LookupError: bug" in each]

        for _ in range(FLOOD):
            flood.provoke(hub, "one")
        flood.provoke(hub, "two")
        first, second = told()
        assert first.endswith("LookupError: bug one")
        assert "Traceback" in first
        assert second.endswith("LookupError: bug two")
        assert "more like this" not in first + second
        hub.advance(QUIET)
        flood.provoke(hub, "one")
        *_, last = told()
        assert len(told()) == 3
        assert "bug one" in last
        assert MORE % (FLOOD - 1) in last.splitlines()[0]
        assert len([each for each in hub.errors if "bug" in str(each)]) == FLOOD + 2


def told_of(logs: Logs, *which: str) -> list[str]:
    return [each for each in logs.warnings() if any(text in each for text in which)]


@dataclass
class Move:
    x: int


def matcher() -> MatcherMap[Any, str]:
    made = MatcherMap[Any, str](JsonHeader("type"))

    @made.handle("move")
    def move(ctx: Any, meta: Any, req: Move) -> None: ...

    return made


def test_flood_of_unroutable_messages_is_one_line_of_each_kind() -> None:
    """No line has a value of a message in it."""
    logs = Logs()
    setting = HubSetting[Any, str](dict, receive_matcher=matcher(), logger=logs)
    with VirtualHub(setting) as hub:
        client = hub.connect()
        wrong = [
            "secret, and no JSON",
            '{"type": "jump", "to": "secret"}',
            '{"type": "move", "x": "secret"}',
        ]
        for message in wrong * 100:
            client.send(message)
        assert len(logs.warnings()) == 3
        hub.advance(QUIET)
        for message in wrong:
            client.send(message)
    told = logs.warnings()
    assert len(told) == 6
    for before, after, what in zip(
        told[:3],
        told[3:],
        ("not JSON", "handle not find header: 'jump'", "$.x: expected int, got str"),
        strict=True,
    ):
        assert what in before
        assert what in after
        assert after.endswith(MORE % 99)
    assert not any("secret" in each or "\n" in each for each in told)


@pytest.mark.parametrize("how", ["parse", "unmarshal", "record"])
def test_flood_line_of_a_wrong_payload_does_not_quote_it(how: str) -> None:
    """An exception's text may hold the whole message; the line says where it was raised."""

    def stumble(data: Any, *_: Any) -> Any:
        raise ValueError(f"what is {data!r}?")

    @dataclass
    class Picky:
        word: str

        def __post_init__(self) -> None:
            stumble(self.word)

    made: MatcherMap[Any, Any] = MatcherMap(
        stumble if how == "parse" else JsonHeader("type"),
        unmarshal=stumble if how == "unmarshal" else None,
    )

    @made.handle("say")
    def say(ctx: Any, meta: Any, req: Picky) -> None: ...

    logs = Logs()
    setting = HubSetting[Any, Any](dict, receive_matcher=made, logger=logs)
    with VirtualHub(setting) as hub:
        client = hub.connect()
        for _ in range(3):
            client.send('{"type": "say", "word": "secret"}')
    (line,) = logs.warnings()
    assert "PayloadError: ValueError at " in line
    assert f"{__file__}:{stumble.__code__.co_firstlineno + 1}" in line
    assert "secret" not in line


def test_flood_of_odd_close_codes_is_one_line() -> None:
    """A close of the program's own has its own line."""
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        for code in range(4000, 4000 + FLOOD):
            hub.connect("/storm").close(code)
        client = hub.connect()
        client.ctx.close(4999, "out")
        hub.advance(QUIET)
        hub.connect("/storm").close(4000)
    first, own, last = logs.at_least(logging.INFO)
    assert "'/storm'> closed: 4000 ''" in first
    assert "closed: 4999 'out'" in own
    assert MORE % (FLOOD - 1) in last


def test_flood_line_has_no_query_and_no_long_path() -> None:
    """Queries may carry tokens."""
    logs = Logs()
    logs.setLevel(logging.DEBUG)
    path = f"/{'long' * 1000}?token=secret"
    setting = HubSetting[Any, Any](
        dict,
        logger=logs,
        on_handshake=lambda request: trip(request.query.get("bug")),
        on_receive_message=lambda ctx, _: trip("two"),
    )
    with VirtualHub(setting) as hub:
        with pytest.raises(HandshakeRejected):
            hub.connect(f"{path}&bug=one", headers={"Authorization": "Bearer secret"})
        client = hub.connect(path, headers={"Cookie": "sid=secret"})
        client.send("trip")
        client.close(1003)
    told = logs.at_least(logging.DEBUG)
    assert len(told_of(logs, "bug one", "bug two", "closed: 1003")) == 3
    assert not any("secret" in each for each in told)
    assert max(len(each.splitlines()[0]) for each in told) < 300


def test_flood_of_failing_pages_is_one_line_of_each() -> None:
    """The test needs a real server, because a virtual hub serves no pages."""

    def page(request: Any) -> Response:
        return Response.text(200, trip(request.path.strip("/")))

    with serving(serve={"pages": {"/one": page, "/two": page}}) as s:
        for which in ["one"] * 20 + ["two"]:
            answer = ask(
                s.server, f"GET /{which}?token=secret HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            assert answer.startswith(b"HTTP/1.1 500 ")
        first, second = s.logs.warnings()
        assert "the page '/one' raised" in first
        assert "the page '/two' raised" in second
        assert "secret" not in first + second


@contextlib.contextmanager
def counted(got: Items[Any], **fields: Any) -> Iterator[Any]:
    def receive(ctx: Any, meta: Any) -> bool:
        got.add(ctx.payload)
        trip(ctx.payload)
        return True

    with serving(on_receive_message=receive, **fields) as s:
        yield s


def test_flood_of_raw_peers_that_vanish_is_one_line() -> None:
    got: Items[Any] = Items()
    with counted(got) as s:
        server = listen(s)
        for number in range(1, 11):
            with tcp_peer(server) as peer:
                peer.send(b"hello\n")
                got.wait(number)
                peer.reset()
        for client in s.hub.clients():
            assert client.context.wait(TIMEOUT)
        s.hub.close(TIMEOUT)
        told = [each for each in s.logs.at_least(logging.INFO) if " ended: " in each]
        assert len(told) == 1
        assert s.hub.statistics().ended_by == {"lost": 10}
