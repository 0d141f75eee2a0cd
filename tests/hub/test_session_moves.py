"""Clients that come back in another hub of the backplane, over memory and in virtual time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubthread import (
    Address,
    BackplaneState,
    History,
    HotlineOption,
    HubSetting,
    IOContext,
    MemoryBackplane,
    Moved,
    Sessions,
    SettingError,
)
from hubthread.hub import session_moves
from hubthread.testing import FakeClock, VirtualClient, VirtualCluster, VirtualHub
from tests.hub.test_session_table import line

GRACE = 30.0

Hub = VirtualHub[Any, Any]


def save(ctx: IOContext, meta: Any) -> Any:
    return {**meta, "seen": meta.get("seen", 0)}


class World:
    """Hubs on one backplane, and what their programs are told."""

    def __init__(self) -> None:
        self.clock, self.backplane = FakeClock(), MemoryBackplane()
        self.events: list[str] = []
        self.moved: list[Moved] = []
        self._open = contextlib.ExitStack()

    def hub(self, name: str, **fields: Any) -> Hub:
        def note(what: str) -> Callable[[IOContext, Any], object]:
            return lambda ctx, meta: self.events.append(f"{name} {what}")

        def load(ctx: IOContext, moved: Moved) -> Any:
            self.moved.append(moved)
            return moved.saved

        names = ("start", "lost", "resume", "close")
        hooks: dict[str, Any] = {f"on_connection_{each}": note(each) for each in names}
        sessions = Sessions(GRACE, save=save, load=load)
        setting = HubSetting[Any, Any](
            dict,
            hub_name=name,
            backplane=self.backplane,
            **{"sessions": sessions, **hooks, **fields},
        )
        return self._open.enter_context(VirtualHub(setting, self.clock))

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with contextlib.closing(made):
        yield made


def kill(hub: Hub) -> None:
    """Let a hub vanish from its backplane without a word, as if its process were killed."""
    link = hub._core.sharing.link()
    link.close(0)
    for name in ("keep", "drop", "take"):
        setattr(link, name, lambda *arguments: None)


def table(hub: Hub, **fields: Any) -> Any:
    return hub.hotline(HotlineOption("table 7", shared=True, **fields))


def test_client_that_is_away_comes_back_in_another_hub_as_the_same_client(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada = one.connect("/ada", session=True)
    before = ada.ctx
    before.meta["name"] = "ada"
    ada.drop()
    again = two.connect("/ada", resume=ada)
    assert again.ctx is not before
    assert (again.ctx.connection_id, again.ctx.meta) == (
        before.connection_id,
        {"name": "ada", "seen": 0},
    )
    assert (again.resumed, again.session) == (False, ada.session)
    assert world.events == ["one start", "one lost", "one close", "two resume"]
    assert world.moved == [Moved({"name": "ada", "seen": 0}, (), before.address)]
    assert (one.clients(), two.clients()) == ([], [again.ctx])
    one.advance(GRACE)
    assert world.events[4:] == []
    # In its new hub the session goes on as any other.
    again.drop()
    assert two.connect(resume=again).resumed


def test_client_that_is_connected_still_loses_that_connection_with_4001(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada = one.connect(session=True)
    two.connect(resume=ada)
    assert (ada.closed, ada.close_code) == (True, 4001)
    assert world.events == ["one start", "one close", "two resume"]


def test_of_two_claims_the_later_one_wins(world: World) -> None:
    one, two, three = (world.hub(name) for name in ("one", "two", "three"))
    ada = one.connect(session=True)
    ada.drop()
    first = two.connect(resume=ada)
    second = three.connect(resume=ada)
    assert (first.close_code, second.ctx.connection_id) == (4001, first.ctx.connection_id)
    third = one.connect(resume=ada)
    assert second.close_code == 4001
    assert [hub.clients_num() for hub in (one, two, three)] == [1, 0, 0]
    assert third.ctx.connection_id == first.ctx.connection_id


def test_client_of_a_hub_that_has_died_comes_back_with_its_record(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    rooms = [table(hub, history=History()) for hub in (one, two)]
    ada = one.connect(session=True)
    ada.ctx.meta["name"] = "ada"
    rooms[0].answer(ada.ctx)  # so the record is kept anew
    one.settle()
    number = ada.ctx.connection_id
    kill(one)
    rooms[1].push("missed")
    again = two.connect(resume=ada)
    assert (again.ctx.connection_id, again.ctx.meta["name"]) == (number, "ada")
    assert again.ctx in rooms[1].members
    assert world.moved[0].rooms == ("table 7",)
    rooms[1].push("live")
    gap, live = (json.loads(str(text)) for text in again.messages())
    assert (gap["type"], gap["room"], gap["at"], gap["why"]) == ("hub:gap", "table 7", 1, "moved")
    assert (live["n"], live["text"]) == (2, "live")


@pytest.mark.parametrize("dies", [False, True])
def test_room_with_a_history_is_recovered_by_the_position_of_the_client(
    world: World, dies: bool
) -> None:
    one, two = (world.hub(name, may_join=lambda ctx, meta, name: True) for name in ("one", "two"))
    rooms = [table(hub, history=History()) for hub in (one, two)]

    def join(client: VirtualClient, **fields: Any) -> Any:
        client.send_json({"type": "hub:join", "id": 1, "room": "table 7", **fields})
        return [json.loads(str(text)) for text in client.messages()]

    ada = one.connect(session=True)
    (joined,) = join(ada)
    rooms[0].push("1")
    assert len(ada.messages()) == 1
    if dies:
        kill(one)
    else:
        ada.drop()
    rooms[1].push("2")
    again = two.connect(resume=ada)
    assert len(again.messages()) == 1  # the gap, for clients that do not join again
    answer, missed = join(again, epoch=joined["epoch"], at=1)
    assert (answer["recovered"], answer["count"], missed["data"]) == (True, 1, 2)
    rooms[1].push("3")
    assert [json.loads(str(text))["n"] for text in again.messages()] == [3]
    assert rooms[0].members == ([ada.ctx] if dies else [])


@pytest.mark.parametrize("away", [False, True])
def test_clients_of_a_hub_that_drains_or_closes_go_on_elsewhere(world: World, away: bool) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada, bob = one.connect(session=True), one.connect(session=True)
    ada.ctx.meta["name"] = "ada"
    number = ada.ctx.connection_id
    if away:
        ada.drop()
    else:
        one.drain()
        assert ada.close_code == 1012
    one.close()
    again = two.connect(resume=ada)
    assert (again.ctx.connection_id, again.ctx.meta["name"]) == (number, "ada")
    two.connect(resume=bob)
    assert world.events.count("one close") == 2
    assert world.events[-2:] == ["two resume", "two resume"]


@pytest.mark.parametrize("end", ["leaves", "is closed", "is away too long"])
def test_session_that_has_ended_is_no_other_hubs(world: World, end: str) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada = one.connect(session=True)
    if end == "leaves":
        ada.close()
    elif end == "is closed":
        ada.ctx.close(4000)
    else:
        ada.drop()
        one.advance(GRACE)
    again = two.connect(resume=ada)
    assert (again.resumed, again.session != ada.session) == (False, True)
    assert world.events[-1] == "two start"
    assert world.moved == []


def test_record_outlives_the_grace_of_a_hub_that_has_died_and_then_ends(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada, bob = one.connect(session=True), one.connect(session=True)
    one.advance(1000.0)  # it is kept anew while the hub lives
    kill(one)
    two.advance(GRACE)
    two.connect(resume=ada)
    assert world.events[-1] == "two resume"
    two.advance(200.0)
    two.connect(resume=bob)
    assert world.events[-1] == "two start"


def test_numbers_of_clients_are_those_of_no_other_hub(world: World) -> None:
    numbers = [
        world.hub(name).connect(session=True).ctx.connection_id for name in ("one", "two", "three")
    ]
    assert len({number >> 20 for number in numbers}) == 3
    assert max(numbers) < 1 << 53


def test_client_whose_save_fails_is_a_new_one_elsewhere(world: World) -> None:
    def fail(ctx: IOContext, meta: Any) -> Any:
        if meta:
            raise LookupError("no meta")
        return {}

    sessions = Sessions(GRACE, save=fail, load=lambda ctx, moved: {})
    one, two = world.hub("one", sessions=sessions), world.hub("two")
    ada = one.connect(session=True)
    ada.ctx.meta["name"] = "ada"
    two.connect(resume=ada)
    assert world.events == ["one start", "two start"]
    assert not ada.closed
    assert "no meta" in str(one.errors)
    one.errors.clear()


def test_client_whose_load_fails_is_closed(world: World) -> None:
    def fail(ctx: IOContext, moved: Moved) -> Any:
        raise LookupError("no meta")

    one = world.hub("one")
    two = world.hub("two", sessions=Sessions(GRACE, save=save, load=fail))
    ada = one.connect(session=True)
    ada.drop()
    again = two.connect(resume=ada)
    assert again.close_code == 1011
    assert "no meta" in str(two.errors)
    two.errors.clear()


def test_rooms_that_are_not_shared_or_not_open_stay_behind(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    ada = one.connect(session=True)
    one.hotline().answer(ada.ctx)
    table(one).answer(ada.ctx)
    again = two.connect(resume=ada)
    assert again.ctx.hotlines == ()
    assert world.moved[0].rooms == ("table 7",)
    assert again.messages() == []


def test_load_may_open_the_rooms(world: World) -> None:
    def load(ctx: Any, moved: Moved) -> Any:
        for name in moved.rooms:
            ctx.hub.room(name, HotlineOption(name, shared=True))
        return {}

    one = world.hub("one")
    two = world.hub("two", sessions=Sessions(GRACE, save=save, load=load))
    ada = one.connect(session=True)
    table(one).answer(ada.ctx)
    again = two.connect(resume=ada)
    (room,) = again.ctx.hotlines
    assert room.name == "table 7"


def test_full_room_does_not_stop_the_client(world: World) -> None:
    one, two = world.hub("one"), world.hub("two")
    rooms = [table(one), table(two, max_members=1)]
    ada = one.connect(session=True)
    rooms[0].answer(ada.ctx)
    rooms[1].answer(two.connect().ctx)
    again = two.connect(resume=ada)
    assert (again.closed, again.ctx.hotlines) == (False, ())


def test_hub_that_was_cut_off_does_not_take_its_sessions_back() -> None:
    events: list[str] = []
    setting = HubSetting[Any, Any](
        dict,
        sessions=Sessions(GRACE, save=save, load=lambda ctx, moved: moved.saved),
        on_connection_resume=lambda ctx, meta: events.append(f"{ctx.hub.name} resume"),
        on_connection_close=lambda ctx, meta: events.append(f"{ctx.hub.name} close"),
    )
    with VirtualCluster(setting, 2) as cluster:
        one, two = cluster.hubs
        ada = one.connect(session=True)
        cluster.settle()
        cluster.cut(one)
        again = two.connect(resume=ada)  # its hub cannot be asked
        assert again.ctx.connection_id == ada.ctx.connection_id
        cluster.heal(one)
        cluster.advance(130.0)  # the hub keeps its records anew
        again.drop()
        assert two.connect(resume=again).resumed
        two.close()
        assert events == ["hub-2 resume", "hub-2 resume", "hub-2 close"]
        assert cluster.errors == []


def test_client_that_asks_a_third_hub_meanwhile_is_in_that_hub_only(world: World) -> None:
    one, two, three = (world.hub(name) for name in ("one", "two", "three"))
    ada = one.connect(session=True)
    ada.ctx.meta["name"] = "ada"
    ada.drop()
    letters: Any = two._core.letters
    call, found = letters.call, []

    def slow(*arguments: Any) -> Any:
        """Let the client give up and ask the third hub, before the first one answers."""
        letters.call = call
        found.append(three.connect(resume=ada))
        return call(*arguments)

    letters.call = slow
    first = two.connect(resume=ada)
    (again,) = found
    assert again.messages() == []
    assert (first.closed, first.close_code) == (True, 4001)
    assert again.ctx.connection_id == ada.ctx.connection_id
    assert [hub.clients_num() for hub in (one, two, three)] == [0, 0, 1]
    assert world.events[:2] == ["one start", "one lost"]
    assert sorted(world.events[2:]) == ["one close", "three resume"]
    # The hub that gave the client away gets it back as any other.
    assert two.connect(resume=again).ctx.connection_id == again.ctx.connection_id
    assert again.close_code == 4001


def test_token_that_is_refused_leaves_the_client_in_its_hub(world: World) -> None:
    def check(ctx: IOContext, meta: Any, token: str) -> bool | str:
        return token == "good" or "expired"

    def ask(hub: Hub, token: str) -> Any:
        peer = line(hub)
        peer.send_json({**hello, "token": token})
        return peer

    one, two = (world.hub(name, check_token=check) for name in ("one", "two"))
    hello: dict[str, Any] = {"type": "hub:hello", "v": 1}
    ada = ask(one, "good")
    hello |= {"resume": json.loads(ada.take())["session"], "got": 1}
    number = ada.ctx.connection_id
    ada.ctx.meta["name"] = "ada"
    ada.drop()
    assert ask(two, "bad").close_code == 4401
    assert ([client.is_away for client in one.clients()], two.clients()) == ([True], [])
    again = ask(two, "good")
    answer = json.loads(again.take())
    assert (answer["moved"], answer["id"], again.ctx.connection_id) == (True, number, number)
    assert again.ctx.meta["name"] == "ada"
    assert two.client(number) is again.ctx
    assert world.events == ["one start", "one lost", "one close", "two resume"]


def test_client_is_saved_only_after_it_has_started(world: World) -> None:
    def note_save(ctx: IOContext, meta: Any) -> Any:
        world.events.append(f"{ctx.hub.name} save")
        return save(ctx, meta)

    def start(ctx: IOContext, meta: Any) -> None:
        world.events.append("start")
        meta["name"] = "ada"

    sessions = Sessions(GRACE, save=note_save, load=lambda ctx, moved: moved.saved)
    one, two, three = (
        world.hub(name, sessions=sessions, on_connection_start=start)
        for name in ("one", "two", "three")
    )
    ada = one.connect(session=True)
    assert world.events == ["start", "one save"]
    again = two.connect(resume=ada)
    assert world.events[2:] == ["one save", "one close", "two resume", "two save"]
    kill(two)
    third = three.connect(resume=again)
    assert third.ctx.meta == {"name": "ada", "seen": 0}
    assert third.ctx.connection_id == ada.ctx.connection_id


def test_client_that_the_program_closes_comes_back_in_no_hub(world: World) -> None:
    one, two, three = (world.hub(name) for name in ("one", "two", "three"))
    ada = one.connect(session=True)
    ada.vanish()  # so it does not answer the Close
    ada.ctx.close(4000)
    for hub in (two, three):
        again = hub.connect(resume=ada)
        assert (again.resumed, again.session != ada.session) == (False, True)
    assert world.moved == []
    assert world.events == ["one start", "two start", "three start"]


@pytest.mark.parametrize("is_away", [False, True])
def test_client_that_ends_just_after_another_hub_took_its_record_is_no_other_hubs(
    world: World, is_away: bool
) -> None:
    one, two, three = (world.hub(name) for name in ("one", "two", "three"))
    ada = one.connect(session=True)
    if is_away:
        ada.drop()
    link: Any = two._core.sharing.link()
    take = link.take

    def take_first(key: str, timeout: float) -> Any:
        found = take(key, timeout)
        ada.ctx.close(4000)
        return found

    link.take = take_first
    for hub in (two, three):
        assert hub.connect(resume=ada).session != ada.session
    assert world.moved == []


def test_client_that_its_save_closes_leaves_no_record(world: World) -> None:
    def ban(ctx: IOContext, meta: Any) -> Any:
        if ctx.is_away:
            ctx.close(4000)
        return {}

    one = world.hub("one", sessions=Sessions(GRACE, save=ban, load=lambda ctx, moved: {}))
    two = world.hub("two")
    ada = one.connect(session=True)
    ada.drop()
    kill(one)
    assert two.connect(resume=ada).session != ada.session


def test_client_that_ends_while_its_hub_is_cut_off_comes_back_in_no_hub() -> None:
    setting = HubSetting[Any, Any](
        dict, sessions=Sessions(GRACE, save=save, load=lambda ctx, moved: moved.saved)
    )
    with VirtualCluster(setting, 2) as cluster:
        one, two = cluster.hubs
        ada, bob = one.connect(session=True), one.connect(session=True)
        cluster.settle()
        cluster.cut(one)
        ada.ctx.close(4000)
        cluster.settle()
        cluster.heal(one)
        cluster.cut(one)  # so that it cannot be asked
        assert two.connect(resume=ada).session != ada.session
        assert two.connect(resume=bob).session == bob.session


def test_old_connection_that_ends_late_leaves_the_session_alone_that_is_back(world: World) -> None:
    one, two, three = (world.hub(name) for name in ("one", "two", "three"))
    ada = one.connect(session=True)
    ada.vanish()  # so it does not answer the Close
    again = one.connect(resume=two.connect(resume=ada))
    one.advance(60.0)
    again.drop()
    assert one.connect(resume=again).resumed
    kill(one)
    third = three.connect(resume=again)
    assert third.ctx.connection_id == again.ctx.connection_id


def test_records_are_kept_anew_a_few_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_moves, "SLICE", 2)
    one = world.hub("one")
    clients = [one.connect(session=True) for _ in range(6)]
    one.settle()
    link: Any = one._core.sharing.link()
    kept: list[str] = []
    link.keep = lambda key, record, seconds: kept.append(key)
    one.advance(60.0)  # the first round began without a session
    kept.clear()
    for number in (2, 4, 6):
        one.advance(20.0)
        assert len(set(kept)) == len(kept) == number
    kept.clear()
    one._core.sharing.tell_state(BackplaneState.UP, "")
    assert kept == []  # nothing on the thread that tells the state
    for number in (2, 4, 6):
        one.settle()
        assert len(set(kept)) == len(kept) == number
        one.advance(session_moves.RESTORE / 3)
    assert len(clients) == one.clients_num()


def test_client_that_the_program_closes_is_a_new_one_in_its_hub_at_once(world: World) -> None:
    one = world.hub("one")
    ada = one.connect(session=True)
    ada.vanish()  # so it does not answer the Close
    ada.ctx.close(4000)
    again = one.connect(resume=ada)
    assert (again.closed, again.session != ada.session) == (False, True)


def test_without_save_sessions_stay_in_their_hub(world: World) -> None:
    one, two = (world.hub(name, sessions=Sessions(GRACE)) for name in ("one", "two"))
    ada = one.connect(session=True)
    ada.drop()
    two.connect(resume=ada)
    assert world.events == ["one start", "one lost", "two start"]
    assert one.connect(resume=ada).resumed
    assert isinstance(ada.ctx.address, Address)


def test_save_and_load_belong_together() -> None:
    with pytest.raises(SettingError, match="expected save and load"):
        Sessions(save=save)
    with pytest.raises(SettingError, match="expected save and load"):
        Sessions(load=lambda ctx, moved: {})
    with pytest.raises(SettingError, match="save"):
        Sessions(save=lambda: None, load=lambda ctx, moved: {})  # type: ignore[arg-type,misc]
