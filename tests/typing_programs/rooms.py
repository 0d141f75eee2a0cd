"""A hub with a meta of its own: what comes out of the hub, its clients and its rooms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_type

from hubthread import (
    Client,
    ClientID,
    Context,
    DHub,
    Hotline,
    HotlineID,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    Iteration,
    RateLimiter,
)


@dataclass
class Player:
    name: str = ""
    points: int = 0


def on_start(ctx: IOContext, player: Player) -> None:
    assert_type(ctx.connection_id, ClientID)
    assert_type(ctx.payload, str | bytes)
    assert_type(ctx.write("welcome"), int)
    assert_type(ctx.context, Context)
    assert_type(ctx.exec_sync(lambda: player.points, timeout=1.0), int)
    assert_type(ctx.request("confirm", {"text": "Sure?"}), Any)
    assert_type(ctx.request("confirm", {"text": "Sure?"}, 5.0, into=Player), Player)


def on_start_of_others(ctx: IOContext, number: int) -> None:
    """For a hub with another meta."""


setting = HubSetting[Player, str](
    meta_gen=Player,
    on_connection_start=on_start,
    on_receive_message=RateLimiter(10, 20),
    context=Context(),
)
HubSetting[Player, str](meta_gen=dict)  # type: ignore[arg-type]
HubSetting[Player, str](Player, on_connection_start=on_start_of_others)  # type: ignore[arg-type]
HubSetting[Player, str](Player, on_receive_message=lambda ctx, player: "yes")  # type: ignore[arg-type, return-value]

hub = Hub(setting)
assert_type(hub, Hub[Player, str])
assert_type(Hub.started(setting), Hub[Player, str])


def count(dhub: DHub[Player, str]) -> dict[ClientID, Player]:
    assert_type(dhub.clients(), list[Client[Player, str]])
    assert_type(dhub.client(ClientID(1)), Client[Player, str] | None)
    assert_type(dhub.hotline(HotlineID(1)), Hotline[Player, str] | None)
    return {client.connection_id: client.meta for client in dhub.clients()}


assert_type(hub.exec_sync(count), dict[ClientID, Player])
assert_type(hub.exec_sync(lambda dhub: dhub.clients_num(), timeout=1.0), int)
hub.exec_sync(lambda dhub: dhub.nothing())  # type: ignore[attr-defined]

room = hub.hotline(HotlineOption(name="table"))
assert_type(room, Hotline[Player, str])
assert_type(room.members, list[Client[Player, str]])
assert_type([member.meta.points for member in room.members], list[int])
assert_type(room.push("text"), int)
room.push({"no": "text"})  # type: ignore[arg-type]
silent: Hotline[Player, str] = hub.silent_hotline()
wrong: Hotline[int, str] = hub.silent_hotline()  # type: ignore[assignment]


def name_of(client_id: ClientID, ctx: IOContext, player: Player) -> str:
    return player.name


def wrong_task(client_id: ClientID, ctx: IOContext, number: int) -> None:
    """For clients with another meta."""


names = hub.each_client(name_of, wait_hub=True, wait_clients=True, timeout=1.0)
assert_type(names, Iteration[str])
assert_type(names.results, dict[ClientID, str])
assert_type(names.errors, dict[ClientID, BaseException])
assert_type(room.each_client(lambda client_id, ctx, player: player.points), Iteration[int])
assert_type(room.context_iter_a_sync_exec(name_of).wait(1.0), Iteration[str])
hub.each_client(wrong_task)  # type: ignore[arg-type]

hub.broadcast_with_filter("hello", lambda hub, ctx, player: player.points > 3)
hub.broadcast_with_filter("hello", lambda hub, ctx, player: player.nothing)  # type: ignore[attr-defined]
