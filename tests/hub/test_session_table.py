"""Sessions: the hello that asks for one, claims good and bad, and the ends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubthread import (
    ClientClosed,
    HotlineFrameOption,
    HubSetting,
    InputState,
    IOContext,
    Limits,
    Overflow,
    Sessions,
    SettingError,
    SettingTypeError,
    Upgrader,
    UsageError,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub

GRACE = 30.0

Hub = VirtualHub[Any, Any]


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def make(events: list[str]) -> Iterator[Callable[..., Hub]]:
    """Make a hub that notes the callbacks of its clients; the log must stay empty."""
    with contextlib.ExitStack() as stack:

        def made(sessions: Sessions | None = None, **fields: Any) -> Hub:
            def note(what: str) -> Callable[[IOContext, Any], object]:
                return lambda ctx, meta: events.append(f"{what} {ctx.connection_id}")

            names = ("start", "lost", "resume", "close")
            hooks: dict[str, Any] = {f"on_connection_{name}": note(name) for name in names}
            sessions = Sessions(GRACE) if sessions is None else sessions
            setting = HubSetting[Any, Any](dict, sessions=sessions, **hooks, **fields)
            hub = stack.enter_context(VirtualHub(setting))
            stack.callback(lambda: hub.errors == [] or pytest.fail(repr(hub.errors)))
            return hub

        yield made


def line(hub: Hub) -> VirtualClient:
    """Connect without a hello."""
    return hub.connect(headers={"Sec-WebSocket-Protocol": "hubthread.1"})


def hello(client: VirtualClient, **fields: Any) -> Any:
    """Say hello; return the answer."""
    client.send_json({"type": "hub:hello", "v": 1, **fields})
    return json.loads(client.take())


def test_hello_gives_a_session_before_the_start_callback_writes(
    make: Callable[..., Hub],
) -> None:
    hub = make()
    client = line(hub)
    assert (hub.clients_num(), client.inbox) == (0, [])
    answer = hello(client, id="x")
    assert (answer["reply"], answer["id"], answer["resumed"]) == ("x", 1, False)
    assert (answer["at"], len(answer["session"])) == (1, 22)
    assert answer["session"] not in repr(vars(hub._core.sessions))
    assert hello(line(hub))["session"] != answer["session"]
    # A second hello is a message like others.
    assert "session" not in hello(client)


def test_session_keeps_client_meta_rooms_and_context(
    make: Callable[..., Hub], events: list[str]
) -> None:
    hub = make()
    ada = hub.connect("/first", session=True)
    ctx = ada.ctx
    ctx.meta["name"] = "ada"
    rooms = [hub.hotline(), hub.hotline()]
    for room in rooms:
        room.answer(ctx)
    context = ctx.context
    ada.drop()
    assert (ctx.is_away, repr(ctx), ctx.statistics().state) == (
        True,
        "<Client 1 away '/first'>",
        "away",
    )
    again = hub.connect("/second", resume=ada)
    assert (again.ctx, again.resumed, again.lost) == (ctx, True, 0)
    assert (ctx.is_away, ctx.meta["name"], ctx.hotlines) == (False, "ada", tuple(rooms))
    assert ctx.handshake.path == "/second"
    assert (ctx.context, context.cancelled) == (context, False)
    assert events == ["start 1", "lost 1", "resume 1"]
    again.close()
    assert context.cancelled
    assert events[3:] == ["close 1"]
    assert not hub.connect(resume=again).resumed


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"v": 2}, "v: expected 1"),
        ({"token": "t"}, "token: this server takes none"),
        ({"resume": 7}, "resume: expected a text"),
        ({"resume": ["a"]}, "resume: expected a text"),
        ({"got": -1}, "got: expected an integer from 0"),
        ({"got": True}, "got: expected an integer from 0"),
        ({"got": 1.5}, "got: expected an integer from 0"),
        ({"got": "1"}, "got: expected an integer from 0"),
        ({"got": 2}, "got: expected the number of a message that was sent"),
        ({"got": 10**30}, "got: expected the number of a message that was sent"),
    ],
    ids=str,
)
def test_wrong_hello_is_refused_and_nothing_happens(
    make: Callable[..., Hub], events: list[str], fields: dict[str, Any], error: str
) -> None:
    hub = make()
    ada = hub.connect(session=True)
    client = line(hub)
    if "got" in fields:
        fields = {"resume": ada.session, **fields}
    assert hello(client, **fields) == {"type": "hub:hello", "error": error}
    assert not ada.closed
    assert events == ["start 1"]
    assert not hello(client)["resumed"]  # it may say better


@pytest.mark.parametrize("token", ["", "x", "\ud800", "x" * 10_000])
def test_forged_token_makes_a_new_client(make: Callable[..., Hub], token: str) -> None:
    hub = make()
    hub.connect(session=True)
    answer = hello(line(hub), resume=token, got=1)
    assert (answer["resumed"], answer["id"]) == (False, 2)


def test_client_without_hello_has_no_session(make: Callable[..., Hub], events: list[str]) -> None:
    def on_message(ctx: IOContext, meta: object) -> bool:
        events.append(str(ctx.payload))
        return False

    hub = make(on_receive_message=on_message)
    client = line(hub)
    client.send("hi")
    plain = hub.connect()
    for each in (client, plain):
        each.drop()
    assert events == ["start 1", "hi", "start 2", "close 1", "close 2"] or events == [
        *("start 1", "hi", "start 2", "close 2", "close 1")
    ]


def test_silent_client_is_closed_after_the_time_of_a_handshake(make: Callable[..., Hub]) -> None:
    hub = make()
    client = line(hub)
    hub.advance(9.9)
    assert not client.closed
    hub.advance(0.1)
    assert (client.close_code, client.close_reason) == (1008, "expected hub:hello")
    assert hub.statistics().limits_struck["handshake_time"] == 1


def test_claim_comes_before_or_after_the_end_of_the_grace(
    make: Callable[..., Hub], events: list[str]
) -> None:
    hub = make()
    ada = hub.connect(session=True)
    ada.drop()
    hub.advance(GRACE - 0.001)
    ada = hub.connect(resume=ada)
    assert ada.resumed
    ada.drop()
    hub.advance(GRACE)
    assert not hub.connect(resume=ada).resumed
    wanted = ["start 1", "lost 1", "resume 1", "lost 1", "close 1", "start 2"]
    assert events == wanted


def test_later_claim_takes_over_and_the_first_connection_is_told(
    make: Callable[..., Hub], events: list[str]
) -> None:
    got: list[str] = []

    def on_message(ctx: IOContext, meta: object) -> bool:
        got.append(str(ctx.payload))
        return False

    hub = make(on_receive_message=on_message)
    first = hub.connect(session=True)
    second = hub.connect(resume=first)
    third = hub.connect(resume=first)
    for each in (first, second):
        assert (each.close_code, each.close_reason) == (4001, "connected elsewhere")
    assert (third.resumed, third.ctx.connection_id, hub.clients_num()) == (True, 1, 1)
    third.send("alive")
    assert got == ["alive"]
    assert events == ["start 1", "resume 1", "resume 1"]


def test_claim_of_an_older_connection_takes_nothing_over(
    make: Callable[..., Hub], events: list[str]
) -> None:
    """The hub reads its hello late: the client has given it up, and has come on another one."""
    hub = make()
    ada = hub.connect(session=True)
    late, later = line(hub), line(hub)
    back = hub.connect(resume=ada)
    late.send_json({"type": "hub:hello", "v": 1, "resume": ada.session, "got": 1})
    assert (late.close_code, late.close_reason) == (4001, "connected elsewhere")
    back.drop()
    later.send_json({"type": "hub:hello", "v": 1, "resume": ada.session})
    assert later.close_code == 4001
    assert hub.connect(resume=back).resumed
    assert events == ["start 1", "resume 1", "lost 1", "resume 1"]


def test_messages_of_the_old_connection_do_not_count_after_a_claim(
    make: Callable[..., Hub],
) -> None:
    got: list[str] = []

    def on_message(ctx: IOContext, meta: object) -> bool:
        got.append(str(ctx.payload))
        if ctx.payload == "come back":
            again.append(hub.connect(resume=ada))
            ada.send("of the old connection")
        return False

    again: list[VirtualClient] = []
    hub = make(on_receive_message=on_message)
    ada = hub.connect(session=True)
    ada.send("come back")
    hub.settle()
    assert got == ["come back"]
    assert ada.close_code == 4001
    again[0].send("of the new one")
    assert got == ["come back", "of the new one"]


def test_program_closes_a_client_that_is_away(make: Callable[..., Hub], events: list[str]) -> None:
    hub = make()
    ada = hub.connect(session=True)
    ctx = ada.ctx
    ada.drop()
    with pytest.raises(UsageError):
        ctx.close(1005)
    ctx.close(4000, "banned")
    ctx.close(4000, "banned")
    hub.settle()
    assert (ctx.ws_conn.ended_by, ctx.ws_conn.code) == ("server", 4000)
    assert events == ["start 1", "lost 1", "close 1"]
    assert not hub.connect(resume=ada).resumed
    with pytest.raises(ClientClosed):
        ctx.exec_async(lambda: None)


def test_close_of_the_program_wins_over_a_claim(make: Callable[..., Hub]) -> None:
    """It may come before the claim, or before the client has changed over."""
    hub = make()
    ada = hub.connect(session=True)
    ada.stall()  # it does not see the Close
    ada.ctx.close(4000, "banned")
    assert not hub.connect(resume=ada).resumed

    bob = hub.connect(session=True)
    claims: list[VirtualClient] = []

    def close_after_the_claim() -> None:
        claims.append(hub.connect(resume=bob))
        hub.exec_sync(lambda _: None)  # the claim comes, and waits for this callback
        assert bob.ctx.ws_conn.ended_by == "taken over"
        bob.ctx.close(4000, "banned")

    bob.ctx.exec_async(close_after_the_claim)
    hub.settle()
    assert (claims[0].close_code, claims[0].close_reason) == (4000, "banned")
    hub.advance(GRACE)
    assert bob.ctx not in hub.clients()


def test_waits_go_on_while_a_client_is_away(make: Callable[..., Hub]) -> None:
    hub = make()
    room = hub.hotline()
    ada = hub.connect(session=True)
    ctx = ada.ctx
    room.answer(ctx)
    ada.drop()
    write, push = ctx.write("1"), room.push("2")
    hub.settle()
    assert (ctx.is_write_consumed(write), room.is_push_consumed(push)) == (False, False)
    assert ctx.exec_sync(lambda: "run") == "run"
    again = hub.connect(resume=ada)
    assert again.messages() == ["1", "2"]
    assert (ctx.is_write_consumed(write), room.is_push_consumed(push)) == (True, True)
    assert ctx.write_count == 2
    again.drop()
    write, push = ctx.write("3"), room.push("4")
    hub.advance(GRACE)  # given up: nothing waits any more
    assert (ctx.is_write_consumed(write), room.is_push_consumed(push)) == (True, True)


def test_client_that_does_not_count_gets_what_has_waited(make: Callable[..., Hub]) -> None:
    hub = make()
    ada = hub.connect(session=True)
    ada.vanish()
    ada.ctx.write("sent into the void")
    hub.advance(75)  # the keepalive has noticed
    assert hub.statistics().limits_struck["silence"] == 1
    ada.ctx.write("while away")
    claimed = line(hub)
    assert hello(claimed, resume=ada.session)["resumed"]
    assert claimed.messages() == ["while away"]


def test_lost_greeting_tells_its_losses_again(make: Callable[..., Hub]) -> None:
    hub = make(chan_queue_size=2)
    ada = hub.connect(session=True)
    ada.drop()
    for number in range(5):
        ada.ctx.write(str(number))
    lost = line(hub)
    lost.stall()  # the greeting does not arrive
    lost.send_json({"type": "hub:hello", "v": 1, "resume": ada.session, "got": 1})
    again = hub.connect(resume=ada)
    assert (again.resumed, again.lost, again.messages()) == (True, 3, ["3", "4"])
    assert hub.connect(resume=again).lost == 0


def test_messages_beyond_sent_bytes_are_told_as_lost(make: Callable[..., Hub]) -> None:
    hub = make(Sessions(GRACE, sent_bytes=1000))
    ada = hub.connect(session=True)
    ada.vanish()
    for number in range(10):
        ada.ctx.write(f"{number}" + "." * 200)
    again = hub.connect(resume=ada)
    texts = [str(each).rstrip(".") for each in again.messages()]
    assert texts == [str(number) for number in range(again.lost, 10)]
    assert 0 < again.lost < 10


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
def test_messages_dropped_before_the_loss_is_noticed_are_told_as_lost(
    make: Callable[..., Hub], overflow: Overflow
) -> None:
    hub = make(overflow=overflow, chan_queue_size=3)
    ada = hub.connect(session=True)
    ada.stall()
    for number in range(10):
        ada.ctx.write(str(number))
    ada.vanish()
    again = hub.connect(resume=ada)
    assert again.lost == 10 - len(again.messages()) > 0
    assert hub.connect(resume=again).lost == 0


def test_latest_of_each_key_waits_for_a_client_that_is_away(make: Callable[..., Hub]) -> None:
    hub = make(overflow=Overflow.LATEST)
    ada = hub.connect(session=True)
    ada.drop()
    for x in range(100):
        ada.ctx.write(f"a{x}", key="a")
        ada.ctx.write(f"b{x}", key="b")
    again = hub.connect(resume=ada)
    assert (again.messages(), again.lost) == (["a99", "b99"], 0)


def test_limits_of_clients_that_are_away(make: Callable[..., Hub], events: list[str]) -> None:
    hub = make(
        Sessions(GRACE, limit=2),
        limits=Limits(connections_per_address=1, shared_addresses=()),
    )
    clients = [hub.connect(session=True) for _ in range(3)]
    for client in clients:
        client.drop()
    # Each virtual client has an address of its own.
    assert events[3:] == ["lost 1", "lost 2", "close 3"]
    assert hub.statistics().limits_struck["sessions"] == 1
    again = hub.connect(resume=clients[0])
    hub.connect(session=True).drop()
    assert (again.resumed, events[-1]) == (True, "lost 4")


def test_hub_close_ends_clients_in_every_state(
    make: Callable[..., Hub], events: list[str]
) -> None:
    hub = make()
    here, away = (hub.connect(session=True) for _ in range(2))
    silent = line(hub)
    away.drop()
    hub.close()
    assert [here.close_code, silent.close_code] == [1001, 1001]
    assert sorted(events[2:]) == ["close 1", "close 2", "lost 2"]


def test_token_is_checked_when_a_client_comes_back(
    make: Callable[..., Hub], events: list[str]
) -> None:
    hub = make(check_token=lambda ctx, meta, token: token == "good" or "no")
    first = line(hub)
    answer = hello(first, token="good")
    assert events == ["start 1"]
    bad = line(hub)
    bad.send_json(
        {"type": "hub:hello", "v": 1, "resume": answer["session"], "got": 1, "token": "bad"}
    )
    assert (bad.close_code, bad.close_reason) == (4401, "no")
    assert (events, hub.clients()[0].is_away) == (["start 1", "lost 1"], True)
    good = line(hub)
    back = hello(good, resume=answer["session"], got=1, token="good")
    assert (back["resumed"], back["id"]) == (True, 1)
    new = line(hub)
    new.send_json({"type": "hub:hello", "v": 1, "token": "bad"})
    assert (new.close_code, hub.clients_num()) == (4401, 1)
    hub.advance(GRACE)
    assert events == ["start 1", "lost 1", "resume 1"]


def test_compression_of_another_kind_makes_a_new_client(make: Callable[..., Hub]) -> None:
    """The messages that wait are encoded already."""
    upgrader = Upgrader(compression=True)
    hub = make(websocket_period=WebsocketPeriod(upgrader=upgrader))
    ada = hub.connect(session=True, headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
    ada.drop()
    assert not hub.connect(resume=ada).resumed


def test_input_of_a_member_that_is_away_says_so(make: Callable[..., Hub]) -> None:
    hub = make()
    room = HotlineFrameOption[list[Any]](list).run(hub.hotline())
    players = [hub.connect(session=True) for _ in range(3)]
    contexts = [player.ctx for player in players]
    for ctx in contexts:
        room.answer(ctx)
    players[0].drop()
    players[1].drop()
    gate = room.await_inputs(room.members, 5.0, "none")
    back = hub.connect(resume=players[1])
    assert gate.answer(back.ctx, "paper")
    hub.advance(5)
    states = [gate.inputs[ctx].state for ctx in contexts]
    assert states == [InputState.AWAY, InputState.ANSWERED, InputState.DEFAULTED]
    assert room.members_num == 3


def test_hooks_that_raise_do_not_end_the_session() -> None:
    def fail(ctx: IOContext, meta: object) -> None:
        raise RuntimeError("the hook")

    setting = HubSetting[Any, Any](
        dict, sessions=Sessions(), on_connection_lost=fail, on_connection_resume=fail
    )
    with VirtualHub(setting) as hub:
        ada = hub.connect(session=True)
        ada.drop()
        assert hub.connect(resume=ada).resumed
    assert [str(error) for error in hub.errors] == ["the hook", "the hook"]


def test_callbacks_of_a_session_run_inside_around_callback(make: Callable[..., Hub]) -> None:
    depth: list[int] = []

    @contextlib.contextmanager
    def around(ctx: IOContext, meta: object) -> Iterator[None]:
        depth.append(len(depth))
        yield

    hub = make(around_callback=around)
    ada = hub.connect(session=True)
    ada.drop()
    hub.connect(resume=ada)
    assert len(depth) == 3  # start, lost, resume


def test_sessions_need_the_subprotocol_and_numbers_above_zero() -> None:
    wrong: list[dict[str, Any]] = [{"grace": 0}, {"limit": 0}, {"sent_bytes": 0}]
    for fields in wrong:
        with pytest.raises(SettingError):
            Sessions(**fields)
    with pytest.raises(SettingTypeError):
        HubSetting(dict, sessions=30)  # type: ignore[arg-type]
    period = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("chat",)))
    with pytest.raises(SettingError, match="its clients come back"):
        HubSetting(dict, sessions=Sessions(), websocket_period=period)
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect(session=True)
        assert client.session is None
        with pytest.raises(UsageError, match="has no session"):
            hub.connect(resume=client)
