"""A flood of incidents is no flood of lines: whatever a peer or a loop can bring about."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
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
from tests.support import TIMEOUT, Items, Logs, ask, listen, serving, tcp_peer, udp_peer

Act = Callable[[VirtualHub[Any, Any], str], object]
MORE = "(and %d more like this since the last such line)"
FLOOD = 50


def trip(which: object) -> Any:
    """Two bugs of a user's; one type and one function are not what tells them apart."""
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


def go(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.connect(f"/{which}").drop()


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
    """One room after another."""
    room = HotlineFrameOption[Any](list, lambda *_: trip(which), hz=60).run(hub.hotline())
    hub.tick(room)
    room.close()


def ask_again(hub: VirtualHub[Any, Any], which: str) -> None:
    hub.long_polling(LongPollingOption(lambda *_: trip(which), timeout=1, retry=1))


def period(**fields: Any) -> dict[str, Any]:
    return {"websocket_period": WebsocketPeriod(**fields)}


@pytest.mark.parametrize(
    ("fields", "act"),
    [
        ({"on_receive_message": lambda ctx, _: trip(ctx.payload)}, send),
        ({"on_connection_start": lambda ctx, _: trip(named(ctx))}, come),
        ({"on_connection_close": lambda ctx, _: trip(named(ctx))}, go),
        ({"on_handshake": lambda request: trip(request.path.strip("/"))}, come),
        (
            {"on_handshake": refusing}
            | period(upgrader=Upgrader(error=lambda request, status, reason: trip(reason))),
            come,
        ),
        (period(upgrader=Upgrader(check_origin=lambda r: trip(r.path.strip("/")))), come),
        (
            {
                "receive_matcher": MatcherMap(JsonHeader("type")),
                "receive_matcher_error": lambda ctx, meta, error: trip(ctx.payload),
            },
            send,
        ),
        (
            period(ping_pong_plan=PingPongPlan(ping_handler=lambda ctx, *_: trip(named(ctx)))),
            ping,
        ),
        ({}, visit),
        ({}, choose),
        ({}, post),
        ({}, play),
        ({}, ask_again),
        ({}, lambda hub, which: hub.exec_async(lambda _: trip(which))),
    ],
    ids=[
        "handler", "start", "close", "handshake", "refused", "origin", "error hook", "ping",
        "each client", "filter", "closure of a client", "logic", "poll", "closure of the hub",
    ],
)  # fmt: skip
def test_what_a_user_s_function_raises(fields: dict[str, Any], act: Act) -> None:
    """One line with its traceback, then how many more; another bug has its own."""
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](**{"meta_gen": dict} | fields, logger=logs)) as hub:

        def told() -> list[str]:
            hub.settle()
            return [each for each in logs.at_least(logging.ERROR) if "LookupError: bug" in each]

        for _ in range(FLOOD):
            act(hub, "one")
        act(hub, "two")
        first, second = told()
        assert first.endswith("LookupError: bug one")
        assert "Traceback" in first
        assert second.endswith("LookupError: bug two")
        assert "more like this" not in first + second
        hub.advance(QUIET)
        act(hub, "one")
        *_, last = told()
        assert len(told()) == 3
        assert "bug one" in last
        assert MORE % (FLOOD - 1) in last.splitlines()[0]
        assert len([each for each in hub.errors if "bug" in str(each)]) == FLOOD + 2


def test_two_lines_that_call_the_same_wrongly() -> None:
    """What they call raises in one line of the standard library's, both times."""
    logs = Logs()

    def receive(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "one":
            json.loads("[")
        json.loads("[")
        return True

    setting = HubSetting[Any, Any](dict, on_receive_message=receive, logger=logs)
    with VirtualHub(setting) as hub:
        client = hub.connect()
        for message in ("one", "two") * 10:
            client.send(message)
    assert len(logs.warnings()) == 2


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


def test_messages_that_reach_no_handler() -> None:
    """A line for each way to be wrong, and how many there were; none has a value in it."""
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
def test_what_others_say_of_a_message_is_not_told(how: str) -> None:
    """It may quote all of it: only where they said so is in the line."""

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


def test_peers_that_close_with_odd_codes() -> None:
    """One line, whatever the codes; a close of the program's own is another matter."""
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        for code in range(4000, 4000 + FLOOD):
            hub.connect("/storm").close(code)
        client = hub.connect()
        client.ctx.close(4999, "out")
        hub.advance(QUIET)
        hub.connect("/storm").close(4000)
    first, own, last = logs.warnings()
    assert "'/storm'> closed: 4000 ''" in first
    assert "closed: 4999 'out'" in own
    assert MORE % (FLOOD - 1) in last


def test_neither_query_nor_a_long_path_is_told() -> None:
    """Tokens travel in queries."""
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
        client.close(4000)
    told = logs.at_least(logging.DEBUG)
    assert len(told_of(logs, "bug one", "bug two", "closed: 4000")) == 3
    assert not any("secret" in each for each in told)
    assert max(len(each.splitlines()[0]) for each in told) < 300


def test_pages_that_raise() -> None:
    """Of a real server, since a virtual one has none."""

    def page(request: Any) -> Response:
        return Response.text(200, trip(request.path.strip("/")))

    with serving(serve={"pages": {"/one": page, "/two": page}}) as s:
        for which in ["one"] * 20 + ["two"]:
            answer = ask(
                s.server, f"GET /{which}?token=secret HTTP/1.1\r\nHost: x\r\n\r\n".encode()
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


def test_handlers_of_udp_peers_that_raise() -> None:
    """Also from many addresses."""
    got: Items[Any] = Items()
    with counted(got) as s:
        server = listen(s, ConnectionProtocols.UDP)
        for number in range(1, 11):
            with udp_peer(server) as peer:
                peer.send(b"one", b"one", b"two")
                got.wait(3 * number)
        s.hub.close(TIMEOUT)
        assert len(told_of(s.logs, "bug one")) == 1
        assert len(told_of(s.logs, "bug two")) == 1


def test_raw_peers_that_vanish() -> None:
    """In a storm of resets the log says so once."""
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
