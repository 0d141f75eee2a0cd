"""The calls of a program to a link, against a hub in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hubthread import (
    ClientID,
    CloseCode,
    DeadlockError,
    History,
    HotlineOption,
    HubSetting,
    JsonHeader,
    MatcherMap,
    PayloadError,
    Sessions,
    SettingError,
    Upgrader,
    UsageError,
    WebsocketPeriod,
    WrongValue,
)
from hubthread.client import Link, LinkOption, Lost, Refused, TimedOut
from hubthread.testing import VirtualHub
from tests.client.world import World
from tests.support import client_context

AnyHub = VirtualHub[Any, Any]


@dataclass
class Price:
    cents: int


@dataclass
class Say:
    text: str


def setting(**fields: Any) -> HubSetting[Any, Any]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id", error_field="error"))
    matcher.add("price", lambda ctx, meta, req: {"cents": 250})
    matcher.add("say", lambda ctx, meta, req: ctx.write_json({"type": "said", **req}))
    matcher.add("silent", lambda ctx, meta: ctx.close(CloseCode.INTERNAL_ERROR))

    def fail(ctx: Any, meta: Any) -> None:
        raise PayloadError("no gold")

    matcher.add("gold", fail)
    fields.setdefault("may_join", lambda ctx, meta, name: name != "secret")
    return HubSetting(dict, receive_matcher=matcher, **fields)


@pytest.fixture
def hub() -> Iterator[AnyHub]:
    with VirtualHub(setting()) as made:
        yield made


@pytest.fixture
def link(hub: AnyHub) -> Iterator[Link]:
    with hub.link() as made:
        made.connect()
        made.wait_open()
        yield made


def member(hub: AnyHub, link: Link) -> Any:
    assert isinstance(link.id, int)
    return hub.client(ClientID(link.id))


def test_request_returns_the_answer(link: Link) -> None:
    assert link.request("price", {"of": "tea"})["cents"] == 250
    assert link.request("price", into=Price) == Price(250)
    with pytest.raises(PayloadError):
        link.request("price", into=Say)


def test_request_that_the_server_refuses_raises(link: Link) -> None:
    with pytest.raises(Refused, match="no gold"):
        link.request("gold")
    with pytest.raises(Refused, match="no handler for 'tin'"):
        link.request("tin")


def test_request_whose_connection_ends_is_lost(link: Link) -> None:
    with pytest.raises(Lost, match="the connection ended before the answer"):
        link.request("silent")


def test_request_without_an_answer_is_timed_out() -> None:
    with World().opened() as world:
        with pytest.raises(TimedOut, match="request 'q': no answer within 5 s"):
            world.link.request("q", timeout=5)
        assert not world.link._machine.requests


def test_request_that_waits_is_sent_once_after_the_reconnect(hub: AnyHub, link: Link) -> None:
    member(hub, link).close(CloseCode.TRY_LATER)
    hub.settle()
    assert link.state == "waiting"
    with pytest.raises(TimedOut):  # virtual time does not pass while a thread waits
        link.request("price", timeout=1)
    with pytest.raises(Lost, match="the queue is full"):
        link.request("price", {"of": "x" * 300_000})
    hub.advance(5)
    assert link.request("price")["cents"] == 250


def test_send_takes_what_handlers_take(link: Link) -> None:
    assert link.send("say", Say("hi")) == "sent"
    assert link.send("say", {"text": "ho", "id": 4}) == "sent"
    assert link.receive(1) == {"type": "said", "text": "hi"}
    with pytest.raises(WrongValue, match="'type'"):
        link.send("say", {"type": "x"})


@pytest.mark.parametrize("name", ["request", "receive", "wait_open", "iterate", "room"])
def test_callback_that_waits_for_its_own_link_is_refused(link: Link, name: str) -> None:
    errors: list[BaseException] = []

    def said(message: object) -> None:
        calls: dict[str, Callable[[], object]] = {
            "request": lambda: link.request("price"),
            "receive": link.receive,
            "wait_open": link.wait_open,
            "iterate": lambda: next(iter(link)),
            "room": link.room("r").receive,
        }
        with pytest.raises(DeadlockError) as caught:
            calls[name]()
        errors.append(caught.value)

    link.on("said", said)
    link.send("say", {"text": "hi"})
    link.request("price")
    assert len(errors) == 1


def test_close_in_a_callback_ends_the_link(hub: AnyHub, link: Link) -> None:
    states: list[str] = []
    link.on("said", lambda message: link.close())
    link.on("state", lambda state, reason: states.append(state))
    link.send("say", {"text": "hi"})
    link.send("say", {"text": "ho"})
    hub.settle()
    assert link.closed
    hub.advance(1)
    assert hub.statistics().clients == 0


def test_closed_link_refuses_calls(link: Link) -> None:
    link.close()
    link.close()
    assert link.send("say") == "dropped"
    for call in (link.connect, link.disconnect, link.receive, link.wait_open):
        with pytest.raises(Lost):
            call()
    for ask in (link.request, link.room):
        with pytest.raises(Lost, match="the link is closed"):
            ask("a")
    assert list(link) == []


def test_wait_open_says_what_is_wrong(hub: AnyHub) -> None:
    link = hub.link("/")
    with pytest.raises(Lost, match="the link is not connected"):
        link.wait_open()
    with World() as world:
        world.refusal = OSError("no route")
        world.link.connect()
        with pytest.raises(TimedOut, match=r"not connected within 1 s: .*no route"):
            world.link.wait_open(1)


def test_server_without_the_subprotocol_is_refused() -> None:
    period = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=()))
    with (
        VirtualHub(HubSetting[Any, Any](dict, websocket_period=period)) as hub,
        hub.link() as link,
    ):
        link.connect()
        with pytest.raises(Refused, match=r"does not speak hubthread.1: connect with plain=True"):
            link.wait_open()
        assert list(link) == []


def test_handlers_of_the_matcher_get_typed_messages(hub: AnyHub) -> None:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id", error_field="error"))
    heard: list[object] = []

    @matcher.handle("said")
    def said(link: Link, room: object, say: Say) -> None:
        heard.append((link.id, room, say))

    @matcher.handle("where")
    def where(link: Link, room: object) -> dict[str, int]:
        return {"x": 3}

    with hub.link(matcher=matcher) as link:
        room = link.room("lobby")
        lobby = hub.room("lobby", HotlineOption(shared=True, history=History()))
        link.connect()
        link.wait_open()
        link.send("say", {"text": "hi"})
        hub.settle()
        lobby.push_json({"type": "said", "text": "all"})
        lobby.push_json({"type": "said", "wrong": 1})
        lobby.push_json({"type": "other"})
        hub.settle()
        assert heard == [(link.id, None, Say("hi")), (link.id, room, Say("all"))]
        assert room.receive(1) == {"type": "other"}
        answers: list[object] = []
        ctx = member(hub, link)
        ctx.request("where", {}, 5, then=lambda ctx, meta, answer: answers.append(answer))
        ctx.request("gone", {}, 5, then=lambda ctx, meta, answer: answers.append(answer))
        hub.advance(5)
        assert answers[0] == {"x": 3}


def test_answer_answers_requests_of_the_server(hub: AnyHub, link: Link) -> None:
    link.answer("where", lambda message: {"x": message["of"]})
    off = link.answer("fail", lambda message: 1 / 0)
    answers: list[Any] = []

    def ask(header: str) -> None:
        ctx = member(hub, link)
        ctx.request(header, {"of": 7}, 5, then=lambda ctx, meta, answer: answers.append(answer))
        hub.settle()

    ask("where")
    ask("fail")
    assert answers[0] == {"x": 7}
    assert answers[1]["error"] == "internal error"
    off()
    ask("fail")
    assert len(answers) == 2
    assert link.receive(1)["type"] == "fail"


def test_listener_that_raises_harms_no_other() -> None:
    with World().opened() as world:
        heard: list[object] = []
        world.link.on("said", lambda message: 1 / 0)
        off = world.link.on("said", heard.append)
        world.server.receive({"type": "said", "n": 1})
        world.clock.settle()
        off()
        world.server.receive({"type": "said", "n": 2})
        world.clock.settle()
        assert heard == [{"type": "said", "n": 1}]
        assert "a callback of" in world.logs.records.now()[-1].getMessage()
        assert world.link.state == "open"


def test_listener_that_disconnects_stops_what_is_behind_it() -> None:
    with World().opened() as world:
        heard: list[object] = []

        def stop(message: object) -> None:
            heard.append(message)
            world.link.disconnect()

        world.link.on("said", stop)
        world.server.receive({"type": "said"})
        world.server.receive({"type": "said"})
        world.clock.settle()
        assert len(heard) == 1
        assert world.link.state == "idle"


def test_room_misses_nothing_while_the_connection_is_away(hub: AnyHub, link: Link) -> None:
    lobby = hub.room("lobby", HotlineOption(shared=True, history=History()))
    room = link.room("lobby")
    hub.settle()
    for number in range(100):
        if number % 10 == 3 and link.state == "open":
            member(hub, link).close(CloseCode.COME_BACK)
        lobby.push_json(number)
        hub.advance(0.5)
    hub.advance(60)  # longer than the longest wait between two attempts
    assert [room.receive(1) for _ in range(100)] == list(range(100))
    assert room.position is not None
    assert room.position.offset == 100


def test_room_that_has_forgotten_tells_of_the_gap(hub: AnyHub, link: Link) -> None:
    lobby = hub.room("lobby", HotlineOption(shared=True, history=History(size=2)))
    room = link.room("lobby")
    gaps: list[str] = []
    room.on("gap", gaps.append)
    hub.settle()
    lobby.push_json(1)
    hub.settle()
    member(hub, link).close(CloseCode.COME_BACK)
    hub.settle()
    for number in range(10):
        lobby.push_json(number)
    hub.advance(3)
    assert len(gaps) == 1
    assert room.live


def test_room_that_may_not_be_joined_says_so(hub: AnyHub, link: Link) -> None:
    errors: list[Exception] = []
    link.room("secret").on("refused", errors.append)
    link.room("nowhere").on("refused", errors.append)
    hub.settle()
    assert [str(error) for error in errors] == ["not allowed", "there is no such room"]


def test_room_with_statement_leaves(hub: AnyHub, link: Link) -> None:
    left: list[object] = []
    hub.room("lobby", HotlineOption(shared=True, on_leave=lambda room, ctx: left.append(room)))
    with link.room("lobby") as room:
        hub.settle()
        assert repr(room) == "<Room 'lobby' live>"
    hub.settle()
    assert len(left) == 1


def test_inbox_that_nobody_reads_keeps_the_latest() -> None:
    with World(inbox=3).opened() as world:
        for number in range(5):
            world.server.receive({"type": "said", "n": number})
        world.clock.settle()
        assert [world.link.receive(1)["n"] for _ in range(3)] == [2, 3, 4]
        with pytest.raises(TimedOut):
            world.link.receive(1)


def test_full_inbox_that_is_read_stops_the_reading_and_loses_nothing() -> None:
    with World(inbox=3).opened() as world:
        messages = iter(world.link)
        for number in range(10):
            world.server.receive({"type": "said", "n": number})
            if number == 0:
                assert next(messages)["n"] == 0
            world.clock.settle()
        assert len(world.server._events) == 6
        assert [next(messages)["n"] for _ in range(9)] == list(range(1, 10))
        world.server.receive({"type": "said", "n": 11})
        messages.close()  # type: ignore[attr-defined]


def test_full_inbox_does_not_keep_an_answer_away() -> None:
    with World(inbox=1).opened() as world:
        messages = iter(world.link)
        for number in range(3):
            world.server.receive({"type": "said", "n": number})
            if number == 0:
                next(messages)
            world.clock.settle()
        number = world.link._machine.requests.new_number() + 1
        world.server.receive({"reply": number, "cents": 1})
        assert world.link.request("price")["cents"] == 1


def test_plain_link_speaks_the_format_of_the_server(hub: AnyHub) -> None:
    with hub.link(plain=True) as link:
        link.connect()
        link.wait_open()
        assert link.raw.send('{"type":"say","text":"hi"}') == "sent"
        assert link.receive(1) == '{"type":"said","text":"hi"}'
        for call in (link.request, link.room):
            with pytest.raises(UsageError, match="not plain=True"):
                call("a")


def test_token_of_the_hello_comes_from_the_function() -> None:
    asked: list[bool] = []

    def token(again: bool) -> str | None:
        asked.append(again)
        return "t" if len(asked) < 3 else None

    with World(token=token).opened() as world:
        assert world.server.messages()[0]["token"] == "t"
        world.server.end(4401, "expired")
        world.clock.advance(2)
        assert asked == [False, True]
        world.server.end(1012)
        world.clock.advance(60)
        assert (world.link.state, world.link.reason) == ("ended", "not logged in")


def test_token_function_that_raises_is_called_again() -> None:
    errors = [ValueError("no network")]

    def token(again: bool) -> str:
        if errors:
            raise errors.pop()
        return "t"

    with World(token=token) as world:
        world.link.connect()
        world.clock.settle()
        assert (world.link.state, world.link.reason) == ("waiting", "the token function failed")
        world.clock.advance(1)
        assert world.link.state == "connecting"


@pytest.mark.parametrize(
    ("url", "fields", "error", "text"),
    [
        ("ftp://x/", {}, WrongValue, "expected an address of ws"),
        ("ws://", {}, WrongValue, "expected an address of ws"),
        ("ws://x:port/", {}, WrongValue, "expected an address of ws"),
        (7, {}, TypeError, "expected an address of ws"),
        ("ws://me:secret@x/", {}, WrongValue, "the address has a user"),
        ("ws://x/", {"token": 7}, SettingError, "token"),
        ("ws://x/", {"timeout": 0}, SettingError, "timeout"),
        ("ws://x/", {"inbox": 0}, SettingError, "inbox"),
        ("ws://x/", {"proxy": "socks5://x:1"}, SettingError, "proxy"),
        ("ws://x/", {"headers": {"Host": "y"}}, SettingError, "Host"),
        ("ws://x/", {"headers": {"X": "a\nb"}}, SettingError, "X"),
        ("ws://x/", {"cookies": {"X": "a\nb"}}, SettingError, "Cookie"),
        ("wss://x/", {"ssl": True}, SettingError, "ssl"),
        ("ws://x/", {"ssl": client_context()}, SettingError, "ssl: .* write wss"),
        ("ws://x/", {"matcher": 1}, SettingError, "matcher"),
        ("ws://x/", {"unknown": 1}, TypeError, "unknown"),
    ],
)
def test_wrong_option_is_refused(
    url: Any, fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Link(url, **fields)


def test_repr_shows_no_secret() -> None:
    option = LinkOption(token="secret", headers={"A": "secret"}, cookies={"a": "secret"})
    assert "secret" not in repr(option)
    assert repr(Link("ws://x/ws?secret", option)) == "<Link x:80 idle>"


def test_listener_of_other_parameters_is_refused() -> None:
    link = Link("ws://x/")
    with pytest.raises(TypeError):
        link.on("state", lambda state: None)
    with pytest.raises(TypeError):
        link.on("said", "no function")  # type: ignore[arg-type]


def test_token_function_that_fails_to_renew_is_called_again_and_none_ends() -> None:
    answers: list[object] = ["t", ValueError("no network"), None]

    def token(again: bool) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with World(token=token) as world:
        world.link.connect()
        world.clock.settle()
        world.server.open()
        world.server.receive({"type": "hub:hello", "token_ttl": 20})
        world.clock.advance(16)
        assert (len(answers), world.link.state) == (1, "open")
        world.clock.advance(5)
        assert (world.link.state, world.link.reason) == ("ended", "not logged in")


def test_session_goes_on_where_the_connection_broke() -> None:
    with VirtualHub(setting(sessions=Sessions())) as hub, hub.link() as link:
        link.connect()
        link.wait_open()
        number = link.id
        lobby = hub.room("lobby", HotlineOption(shared=True))
        room = link.room("lobby")
        hub.settle()
        driver: Any = link._driver
        driver._endpoint._client.drop()
        hub.settle()
        assert link.state == "waiting"
        lobby.push_json({"type": "said", "text": "meanwhile"})
        member(hub, link).write_json({"type": "said", "text": "to you"})
        hub.advance(2)
        assert (link.state, link.id) == ("open", number)
        assert room.receive(1)["text"] == "meanwhile"
        assert link.receive(1)["text"] == "to you"
        assert room.live


def test_wait_open_wakes_a_link_that_rests(hub: AnyHub, link: Link) -> None:
    member(hub, link).close(CloseCode.NORMAL)
    hub.settle()
    assert link.state == "resting"
    link.wait_open()
    assert link.request("price")["cents"] == 250
