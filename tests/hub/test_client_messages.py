"""The hub's own messages with clients of ``hubthread.1``."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hubthread import (
    History,
    HotlineOption,
    HubSetting,
    IOContext,
    Limits,
    Presence,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub

PERIOD = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("hubthread.1",)))
ROOM = HotlineOption("room", shared=True, history=History(size=10))


def setting(**more: Any) -> HubSetting[dict[str, str], str]:
    return HubSetting(dict, websocket_period=PERIOD, **more)


def client_of(hub: VirtualHub[Any, Any]) -> VirtualClient:
    return hub.connect(headers={"Sec-WebSocket-Protocol": "hubthread.1"})


def ask(client: VirtualClient, **message: Any) -> list[Any]:
    """Send a message; return everything that has come since the last call."""
    client.send(json.dumps(message))
    return [json.loads(text) for text in client.messages()]


def always(ctx: IOContext, meta: object, name: str) -> bool:
    return True


def test_hello_tells_the_clients_number_and_the_time() -> None:
    with VirtualHub(setting()) as hub:
        client = client_of(hub)
        [hello] = ask(client, type="hub:hello", v=1)
        assert hello.pop("now") > 1.7e12
        assert hello == {"type": "hub:hello", "v": 1, "id": client.ctx.connection_id}
        for fields, error in (
            ({"v": 2}, "v: expected 1"),
            ({"v": 1, "token": "secret"}, "token: this server takes none"),
        ):
            [refusal] = ask(client, type="hub:hello", **fields)
            assert refusal == {"type": "hub:hello", "error": error}


def test_time_is_answered() -> None:
    with VirtualHub(setting()) as hub:
        [answer] = ask(client_of(hub), type="hub:time", id=9)
        assert (answer["type"], answer["reply"]) == ("hub:time", 9)
        assert answer["now"] > 1.7e12


def test_join_answers_first_and_then_sends_the_pushes_in_envelopes() -> None:
    with VirtualHub(setting(may_join=always)) as hub:
        room, client = hub.hotline(ROOM), client_of(hub)
        room.push_json({"type": "said", "text": "1"})
        joined, first = ask(client, type="hub:join", id=1, room="room", replay=5)
        epoch = joined["epoch"]
        wanted = {"type": "hub:join", "reply": 1, "room": "room", "epoch": epoch, "at": 1}
        assert joined == wanted | {"count": 1}
        assert first == {"room": "room", "n": 1, "data": {"type": "said", "text": "1"}}
        room.push("not json")
        client.ctx.write_json("direct")
        assert ask(client, type="hub:time") == [
            "direct",
            {"room": "room", "n": 2, "text": "not json"},
        ]

        assert ask(client, type="hub:leave", id=2, room="room") == [
            {"type": "hub:leave", "reply": 2}
        ]
        room.push("3")
        again, third = ask(client, type="hub:join", id="x", room="room", epoch=epoch, at=2)
        assert again == wanted | {"reply": "x", "at": 3, "count": 1, "recovered": True}
        assert third == {"room": "room", "n": 3, "data": 3}
        [lost] = ask(client, type="hub:join", id=3, room="room", epoch="other", at=2)
        assert (lost["recovered"], lost["count"], room.members_num) == (False, 0, 1)


def test_join_of_a_room_without_a_history_has_no_position() -> None:
    with VirtualHub(setting(may_join=always)) as hub:
        room = hub.room("plain")
        client = client_of(hub)
        assert ask(client, type="hub:join", id=1, room="plain") == [
            {"type": "hub:join", "reply": 1, "room": "plain"}
        ]
        room.push("hello")
        assert client.messages() == ["hello"]
        [lost] = ask(client, type="hub:join", id=2, room="plain", epoch="e", at=1)
        assert (lost["recovered"], lost["why"], "at" in lost) == (False, "epoch", False)
        room.push("once")
        assert client.messages() == ["once"]


def test_join_of_a_member_is_answered_anew_and_nobody_leaves() -> None:
    heard: list[str] = []
    option = replace(
        ROOM,
        presence=Presence(),
        on_join=lambda room, ctx: heard.append("join"),
        on_leave=lambda room, ctx: heard.append("leave"),
    )
    with VirtualHub(setting(may_join=always)) as hub:
        room, client = hub.hotline(option), client_of(hub)
        [joined] = ask(client, type="hub:join", id=1, room="room")
        hub.advance(1.0)
        version = room.presence().version
        room.push_json("a")
        client.messages()
        place = {"epoch": joined["epoch"], "at": joined["at"]}
        answer, missed = ask(client, type="hub:join", id=2, room="room", **place)
        assert (answer["recovered"], answer["count"], answer["at"]) == (True, 1, 1)
        assert (len(answer["members"]), answer["v"]) == (1, version)
        assert missed == {"room": "room", "n": 1, "data": "a"}
        room.push_json("b")
        assert client.messages() == ['{"room":"room","n":2,"data":"b"}']
        assert (heard, room.members_num, room.presence().version) == (["join"], 1, version)


def test_join_that_is_not_recovered_says_why() -> None:
    with VirtualHub(setting(may_join=always)) as hub:
        room = hub.hotline(HotlineOption("room", shared=True, history=History(size=1)))
        client = client_of(hub)
        [joined] = ask(client, type="hub:join", id=1, room="room")
        room.push("1")
        room.push("2")
        for epoch, at, why in (
            ("other", 2, "epoch"),  # of another room, or of before a restart
            (joined["epoch"], 0, "trimmed"),
            (joined["epoch"], 3, "trimmed"),  # not reached yet
        ):
            *_, lost = ask(client, type="hub:join", id=2, room="room", epoch=epoch, at=at)
            assert (lost["recovered"], lost["why"], lost["at"]) == (False, why, 2)


def test_join_is_refused_unless_the_hook_says_true() -> None:
    asked = []

    def may_join(ctx: IOContext, meta: dict[str, str], name: str) -> Any:
        asked.append(name)
        if name == "raises":
            raise RuntimeError("the database is away")
        return {"yes": True, "one": 1, "told": "members only", "no": False}.get(name)

    with VirtualHub(setting(may_join=may_join)) as hub:
        for name in ("one", "told", "no", "none", "raises"):
            hub.room(name)
        client = client_of(hub)
        reasons = {
            name: ask(client, type="hub:join", id=1, room=name)[0]["error"]
            for name in ("one", "told", "no", "none", "raises", "yes")
        }
        assert reasons == {
            "one": "not allowed",
            "told": "members only",
            "no": "not allowed",
            "none": "not allowed",
            "raises": "the server failed to decide",
            "yes": "there is no such room",
        }
        assert asked == [*reasons]
        assert [str(error) for error in hub.errors] == ["the database is away"]
        assert all(room.members_num == 0 for room in hub.rooms())


def test_join_by_name_needs_the_hook() -> None:
    with VirtualHub(setting()) as hub:
        hub.room("room")
        [answer] = ask(client_of(hub), type="hub:join", id=1, room="room")
        assert answer["error"] == "no room can be joined by its name"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"room": 7}, "room: expected a text"),
        ({}, "room: expected a text"),
        ({"room": "room", "at": 3}, "expected epoch, a text, and at, an integer"),
        ({"room": "room", "epoch": "e", "at": True}, "expected epoch, a text, and at, an integer"),
        ({"room": "room", "replay": -1}, "replay: expected an integer from 0 to 1000"),
        ({"room": "room", "replay": "all"}, "replay: expected an integer from 0 to 1000"),
    ],
)
def test_join_bad_fields_are_refused(fields: dict[str, Any], error: str) -> None:
    with VirtualHub(setting(may_join=always)) as hub:
        room = hub.hotline(ROOM)
        [answer] = ask(client_of(hub), type="hub:join", id=1, **fields)
        assert answer == {"type": "hub:join", "reply": 1, "error": error}
        assert room.members == []


def test_closed_room_and_full_room_are_told() -> None:
    with VirtualHub(setting(may_join=always, limits=Limits(rooms_per_client=1))) as hub:
        hub.room("small", HotlineOption(max_members=1)).answer(hub.connect().ctx)
        hub.room("other")
        client = client_of(hub)
        assert "max_members" in ask(client, type="hub:join", id=1, room="small")[0]["error"]
        ask(client, type="hub:join", id=2, room="other")
        hub.room("third")
        assert "is in 1 rooms" in ask(client, type="hub:join", id=3, room="third")[0]["error"]


def test_unknown_messages_are_answered_and_others_go_to_the_program() -> None:
    seen: list[str | bytes] = []

    def on_message(ctx: IOContext, meta: object) -> bool:
        seen.append(ctx.payload)
        return False

    with VirtualHub(setting(on_receive_message=on_message)) as hub:
        client = client_of(hub)
        assert ask(client, type="hub:fly", id=1) == [
            {"type": "hub:fly", "reply": 1, "error": "unknown message 'hub:fly'"}
        ]
        assert ask(client, type="hub:fly") == []
        others = ['{"text":"hub:hello"}', '["hub:hello"]', '{"type":"hub:', "hub:hello", '"hub:"']
        for text in others:
            client.send(text)
        assert seen == others
        plain = hub.connect()  # has not agreed to the subprotocol
        plain.send('{"type":"hub:hello","v":1}')
        assert (plain.messages(), len(seen)) == ([], len(others) + 1)


def test_limit_of_messages_counts_the_hubs_own() -> None:
    with VirtualHub(setting(limits=Limits(messages_per_second=1, message_burst=2))) as hub:
        client = client_of(hub)
        for _ in range(3):
            client.send('{"type":"hub:time","id":1}')
        assert client.close_code == 1008
