"""Rooms hear who comes and goes: each join and leave once, in order, with and without a clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hubthread import (
    HotlineClosed,
    HotlineFrameOption,
    HotlineFull,
    HotlineOption,
    HubSetting,
    SettingError,
    UsageError,
)
from hubthread.testing import VirtualHub
from tests.support import TIMEOUT, fence, serving, together
from tests.support.examples import examples

AnyHub = VirtualHub[Any, Any]
KINDS = pytest.mark.parametrize("clock", [False, True], ids=["plain", "clock"])


@pytest.fixture
def hub() -> Iterator[AnyHub]:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub
    assert hub.errors == []


def room_of(hub: Any, clock: bool, notes: list[Any], **fields: Any) -> Any:
    """Return a room whose hooks note what they hear, and push it where ``pushes`` is True."""
    pushes = fields.pop("pushes", False)

    def hear(what: str) -> Callable[..., None]:
        def hook(room: Any, *more: Any) -> None:
            notes.append((what, *(each.connection_id for each in more[clock:])))
            if pushes:
                room.push(f"{what} {len(notes)}")

        return hook

    hooks: dict[str, Any] = {
        name: hear(name.removeprefix("on_")) for name in ("on_join", "on_leave", "on_empty")
    }
    most = fields.pop("max_members", None)
    if not clock:
        return hub.hotline(HotlineOption("room", max_members=most, **hooks, **fields))
    option = HotlineFrameOption[Any](list, **hooks, **fields)
    return option.run(hub.hotline(HotlineOption("room", max_members=most)))


@KINDS
def test_room_hears_each_way_of_coming_and_going(hub: AnyHub, clock: bool) -> None:
    notes: list[Any] = []
    room = room_of(hub, clock, notes)
    ada, bob, eve = (hub.connect() for _ in range(3))
    for client in (ada, bob, eve, ada):
        room.answer(client.ctx)
    room.hangup(bob.ctx)
    room.hangup(bob.ctx)
    ada.drop()
    eve.ctx.close()
    hub.settle()
    assert notes == [
        *[("join", 1), ("join", 2), ("join", 3)],
        *[("leave", 2), ("leave", 1), ("leave", 3), ("empty",)],
    ]


@KINDS
@pytest.mark.parametrize("end", ["room", "hub"])
def test_room_hears_the_leaves_at_its_end(clock: bool, end: str) -> None:
    """Pushes of the hooks reach no one then, and are not refused."""
    notes: list[Any] = []
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        fields = {"on_close": lambda frame, _: notes.append("close")} if clock else {}
        room = room_of(hub, clock, notes, pushes=True, **fields)
        clients = [hub.connect() for _ in range(3)]
        for client in clients:
            room.answer(client.ctx)
        hub.settle()
        joins = ["join 1", "join 2", "join 3"]
        assert [client.messages() for client in clients] == [joins] * 3
        if end == "room":
            room.close()
    assert notes == [
        *[("join", number) for number in (1, 2, 3)],
        *(["close"] if clock else []),
        *[("leave", number) for number in (1, 2, 3)],
        ("empty",),
    ]
    assert hub.errors == []
    if end == "room":
        assert [client.messages() for client in clients] == [[], [], []]
    with pytest.raises(HotlineClosed):
        room.push("too late")


@KINDS
def test_hooks_keep_their_place_among_the_closures(hub: AnyHub, clock: bool) -> None:
    """Closures that a handler submits while its client is in find what on_join has made."""
    notes: list[Any] = []
    room = room_of(hub, clock, notes)
    run = room.exec_async if clock else hub.exec_async
    client = hub.connect()

    def closure(what: str) -> None:
        run(lambda *_: notes.append(what))

    def work(*_: Any) -> None:
        closure("before")
        room.answer(client.ctx)
        closure("inside")
        room.hangup(client.ctx)
        closure("after")

    run(work)
    hub.settle()
    assert notes == ["before", ("join", 1), "inside", ("leave", 1), ("empty",), "after"]


def test_hooks_of_a_clock_are_not_refused_by_control_size(hub: AnyHub) -> None:
    notes: list[Any] = []
    room = room_of(hub, True, notes, control_size=2)
    client = hub.connect()

    def work(frame: Any, _: Any) -> None:
        for _ in range(2):
            frame.exec_async(lambda *_: notes.append("input"))
        frame.answer(client.ctx)
        frame.hangup(client.ctx)

    room.exec_async(work)
    hub.settle()
    assert notes == ["input", "input", ("join", 1), ("leave", 1), ("empty",)]


def test_clock_hears_the_clients_that_were_in_before(hub: AnyHub) -> None:
    notes: list[Any] = []
    client, hotline = hub.connect(), hub.hotline()
    hotline.answer(client.ctx)
    option = HotlineFrameOption[Any](
        list,
        on_start=lambda frame, _: notes.append("start"),
        on_join=lambda frame, _, ctx: notes.append(("join", ctx.connection_id)),
    )
    room = option.run(hotline)
    hub.settle()
    assert notes == ["start", ("join", 1)]
    assert client.ctx.hotlines == (room,)


@KINDS
def test_hook_that_raises_is_logged_and_the_next_one_runs(
    clock: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("tripped")

    notes: list[Any] = []
    with VirtualHub(HubSetting[Any, Any](dict)) as hub, caplog.at_level(logging.ERROR):
        heard: dict[str, Any] = {"on_join": fail, "on_leave": fail}
        heard["on_empty"] = lambda *_: notes.append("empty")
        if clock:
            room: Any = HotlineFrameOption[Any](list, **heard).run(hub.hotline())
        else:
            room = hub.hotline(HotlineOption("room", **heard))
        client = hub.connect()
        room.answer(client.ctx)
        room.hangup(client.ctx)
        hub.settle()
    assert notes == ["empty"]
    assert [type(error) for error in hub.errors] == [LookupError, LookupError]
    assert "on_join raised" in caplog.text


def test_hotline_with_hooks_gets_no_clock(hub: AnyHub) -> None:
    option = HotlineFrameOption[Any](list)
    for field in ("on_join", "on_leave", "on_empty"):
        hotline = hub.hotline(HotlineOption(**{field: lambda *_: None}))  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="give them to HotlineFrameOption"):
            option.run(hotline)
    with pytest.raises(UsageError, match="close_when_empty"):
        option.run(hub.hotline(HotlineOption(close_when_empty=1)))


def test_hotlines_of_a_client_are_there_in_its_close_callback() -> None:
    found: list[Any] = []

    def on_close(ctx: Any, meta: Any) -> None:
        found.append(ctx.hotlines)

    with VirtualHub(HubSetting[Any, Any](dict, on_connection_close=on_close)) as hub:
        one, two, three = (hub.hotline() for _ in range(3))
        game = HotlineFrameOption[Any](list).run(two)
        client = hub.connect()
        ctx: Any = client.ctx
        assert ctx.hotlines == ()
        for room in (one, two, three):
            room.answer(ctx)
        assert ctx.hotlines == (one, game, three)
        one.hangup(ctx)
        three.close()
        assert ctx.hotlines == (game,)
        client.close()
        assert found == [(game,)]
        assert ctx not in game
        assert ctx.hotlines == (game,)


# Empty rooms.


@KINDS
def test_close_when_empty_closes_after_the_time_without_a_member(hub: AnyHub, clock: bool) -> None:
    notes: list[Any] = []
    room = room_of(hub, clock, notes, close_when_empty=10)
    client = hub.connect()
    for _ in range(3):
        hub.advance(9)
        room.answer(client.ctx)
        hub.advance(20)
        room.hangup(client.ctx)
    hub.advance(9)
    assert not room.is_closed
    hub.advance(1)
    assert room.is_closed
    assert room.context.cancelled
    assert notes[-1] == ("empty",)


@KINDS
def test_close_when_empty_closes_a_room_that_no_one_came_to(hub: AnyHub, clock: bool) -> None:
    notes: list[Any] = []
    room = room_of(hub, clock, notes, close_when_empty=10)
    hub.advance(9.9)
    assert not room.is_closed
    hub.advance(0.1)
    assert room.is_closed
    assert notes == []


@pytest.mark.parametrize("after", [0, 2])
def test_pause_when_empty_stops_ticks_and_countdowns_until_the_next_member(
    hub: AnyHub, after: float
) -> None:
    ticks: list[int] = []
    option = HotlineFrameOption[Any](
        list, lambda frame, _: ticks.append(frame.tick.index), hz=1, pause_when_empty=after
    )
    room = option.run(hub.hotline())
    countdown = room.operation_timeout(10, lambda frame, _: None)
    client = hub.connect()
    hub.advance(100)
    assert (len(ticks), room.paused, countdown.remaining) == (after, True, 10 - after)
    room.answer(client.ctx)
    hub.advance(3)
    assert (len(ticks), room.paused) == (after + 3, False)
    client.drop()
    hub.advance(100)
    assert (len(ticks), room.paused) == (2 * after + 3, True)
    assert room.exec_sync(lambda frame, _: "closures run") == "closures run"


def test_pause_when_empty_is_independent_of_pause(hub: AnyHub) -> None:
    room = room_of(hub, True, [], logic=lambda *_: None, hz=1, pause_when_empty=0)
    client = hub.connect()
    room.pause()
    room.answer(client.ctx)
    hub.settle()
    assert room.paused
    room.hangup(client.ctx)
    hub.settle()
    room.resume()
    assert room.paused
    room.answer(client.ctx)
    hub.settle()
    assert not room.paused
    assert repr(room) == "<FrameControl 1 'room' open, 1 Hz, 1 members>"


def test_close_when_empty_closes_a_paused_room(hub: AnyHub) -> None:
    room = room_of(hub, True, [], close_when_empty=10, pause_when_empty=0)
    hub.advance(10)
    assert room.is_closed
    assert room.join(0)


@pytest.mark.parametrize("wrong", [-1, True, "5"])
@pytest.mark.parametrize("field", ["close_when_empty", "pause_when_empty"])
def test_time_of_an_empty_room_is_checked(field: str, wrong: Any) -> None:
    with pytest.raises(SettingError, match=field):
        HotlineFrameOption(list, **{field: wrong})
    with pytest.raises(SettingError, match="max_members"):
        HotlineOption(max_members=0)


# The order of everything, against a model.


CLIENTS = range(1, 5)
WHO = st.sampled_from(CLIENTS)
ACTION = st.one_of(
    st.tuples(st.just("answer"), WHO, st.booleans()),
    st.tuples(st.just("hangup"), WHO, st.none()),
    st.tuples(st.just("push"), st.none(), st.none() | WHO | st.sets(WHO)),
    st.tuples(st.just("write"), WHO, st.none()),
)


class Order(RuleBasedStateMachine):
    """The messages of each client and the calls of the hooks, in the order of the calls."""

    clock = False
    seats = 3

    def __init__(self) -> None:
        super().__init__()
        self.hub: AnyHub = VirtualHub(HubSetting[Any, Any](dict))
        self.hub.start()
        self.clients = {number: self.hub.connect() for number in CLIENTS}
        self.notes: list[Any] = []
        self.room = room_of(self.hub, self.clock, self.notes, pushes=True, max_members=self.seats)
        self.hub.settle()
        self.texts = 0
        # The model.
        self.inside: list[int] = []
        self.gone: set[int] = set()
        self.closed = False
        self.seen: dict[int, list[str]] = {number: [] for number in CLIENTS}
        self.heard: list[Any] = []
        self.to_hear: list[tuple[str, int]] = []
        self.present: set[int] = set()  # as the hooks have heard

    def ctx(self, number: int) -> Any:
        return self.clients[number].ctx

    def text(self, kind: str) -> str:
        self.texts += 1
        return f"{kind} {self.texts}"

    def push(self, text: str, without: set[int]) -> None:
        for number in self.inside:
            if number not in without:
                self.seen[number].append(text)

    def leave(self, number: int) -> None:
        if number in self.inside:
            self.inside.remove(number)
            self.to_hear.append(("leave", number))

    def hear(self) -> None:
        """Let the hooks hear what has happened, and push."""
        for what, number in self.to_hear:
            self.hook(what, number)
            if what == "join":
                self.present.add(number)
            else:
                self.present.remove(number)
                if not self.present:
                    self.hook("empty")
        self.to_hear.clear()

    def hook(self, what: str, *number: int) -> None:
        self.heard.append((what, *number))
        self.push(f"{what} {len(self.heard)}", set())

    def do(self, what: str, who: int, more: Any) -> None:
        """Do one thing, and do it in the model."""
        if what == "write":
            text = self.text("write")
            self.ctx(who).write(text)
            if self.clock and who not in self.gone:
                self.seen[who].append(text)
        elif what == "hangup":
            self.room.hangup(self.ctx(who))
            self.leave(who)
        elif what == "answer":
            text = self.text("first")
            self.answer(who, text if more else None)
        else:
            text, without = self.text("push"), set() if more is None else more
            if isinstance(more, int):
                without, exclude = {more}, self.ctx(more)
            else:
                exclude = None if more is None else [self.ctx(each) for each in sorted(more)]
            if self.closed:
                with pytest.raises(HotlineClosed):
                    self.room.push(text, exclude=exclude)
            else:
                self.room.push(text, exclude=exclude)
                self.push(text, without)

    def answer(self, who: int, first: str | None) -> None:
        error: type[Exception] | None = None
        if who not in self.gone:
            if self.closed:
                error = HotlineClosed
            elif who not in self.inside:
                if len(self.inside) == self.seats:
                    error = HotlineFull
                else:
                    self.inside.append(who)
                    self.to_hear.append(("join", who))
                    if first is not None:
                        self.seen[who].append(first)
        if error is None:
            self.room.answer(self.ctx(who), first=first)
        else:
            with pytest.raises(error):
                self.room.answer(self.ctx(who), first=first)

    @rule(actions=st.lists(ACTION, min_size=1, max_size=8))
    def in_one_callback(self, actions: list[Any]) -> None:
        def work(*_: Any) -> None:
            for action in actions:
                self.do(*action)

        if self.clock and not self.closed:
            self.room.exec_sync(work)
        else:
            self.hub.exec_sync(work)
        self.check()

    @rule(who=WHO)
    def drop(self, who: int) -> None:
        if who not in self.gone:
            self.clients[who].messages()
            self.clients[who].drop()
            self.gone.add(who)
            self.leave(who)
            self.check()

    @precondition(lambda self: not self.closed)
    @rule(only_if_empty=st.booleans())
    def close(self, only_if_empty: bool) -> None:
        if only_if_empty:
            assert self.room.close_if_empty() == (not self.inside)
            if self.inside:
                return
        else:
            self.room.close()
        self.closed = True
        for number in self.inside.copy():
            self.leave(number)
        self.check()

    def check(self) -> None:
        self.hub.settle()
        self.hear()
        assert self.notes == self.heard
        for number, client in self.clients.items():
            got = [str(each) for each in client.messages()]
            if not self.clock:  # no order is promised between pushes and writes
                got = [each for each in got if not each.startswith("write")]
            if number not in self.gone:
                assert got == self.seen[number]
            self.seen[number].clear()
        assert [each.connection_id for each in self.room.members] == self.inside
        for number in set(CLIENTS) - self.gone:
            assert self.ctx(number).hotlines == ((self.room,) if number in self.inside else ())

    def teardown(self) -> None:
        self.hub.close()
        for number in self.inside.copy():
            self.leave(number)
        self.hear()
        # The connections end in no promised order.
        assert sorted(map(str, self.notes)) == sorted(map(str, self.heard))
        assert self.hub.errors == []


class OrderWithClock(Order):
    clock = True


@KINDS
def test_room_keeps_the_order_of_everything(clock: bool) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OrderWithClock if clock else Order, settings=settings(max_examples=examples(40))
    )


# Real threads.


@KINDS
@pytest.mark.usefixtures("hasty_threads")
def test_joins_and_leaves_of_many_threads_are_each_heard_once(clock: bool) -> None:
    notes: list[Any] = []
    with serving() as s:
        room = room_of(s.hub, clock, notes)
        pairs = s.pairs(4)

        def act(who: int) -> None:
            ctx = pairs[who][1]
            for number in range(20):
                room.answer(ctx)
                room.push(f"{who} {number}")
                room.hangup(ctx)

        together(4, act)
        if clock:
            room.exec_sync(lambda *_: None, TIMEOUT)
        fence(s.hub)
        heard = list(notes)
    for _, ctx in pairs:
        mine = [what for what, *who in heard if who == [ctx.connection_id]]
        assert mine == ["join", "leave"] * 20
    inside, expected = 0, []
    for note in heard:
        if note != ("empty",):
            inside += 1 if note[0] == "join" else -1
            expected += [note] if inside else [note, ("empty",)]
    assert heard == expected


@KINDS
@pytest.mark.usefixtures("hasty_threads")
def test_seats_are_taken_in_one_step(clock: bool) -> None:
    with serving() as s:
        room = room_of(s.hub, clock, [], max_members=2)
        pairs = s.pairs(4)
        for _ in range(20):
            refused: list[int] = []

            def act(who: int, refused: list[int] = refused) -> None:
                try:
                    room.answer(pairs[who][1])
                except HotlineFull:
                    refused.append(who)

            together(4, act)
            assert (len(refused), room.members_num) == (2, 2)
            for member in room.members:
                room.hangup(member)
