"""G11, recovery: models of losses and of full outboxes, and real clients that are cut."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from hubthread import (
    Backplane,
    History,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    MemoryBackplane,
    Overflow,
    Position,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from hubthread.testing.clock import FakeClock
from tests.support import TIMEOUT

SHARED = HotlineOption("room", shared=True, history=History(size=8, ttl=60.0))
PERIOD = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("hubthread.1",)))


@contextmanager
def virtual(backplane: Backplane, clock: FakeClock) -> Iterator[VirtualHub[dict[str, str], str]]:
    with VirtualHub(HubSetting[dict[str, str], str](dict, backplane=backplane), clock) as hub:
        yield hub


class Fan:
    """A player of the model: it comes back with its position, and knows what it has seen."""

    def __init__(self) -> None:
        self.client: VirtualClient | None = None
        self.position: Position | None = None
        self.due: list[str] = []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(0, 1)),
        st.tuples(st.just("come"), st.integers(0, 3)),
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from([1, 59, 61])),
        st.tuples(st.just("remake"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_member_that_comes_back_gets_exactly_what_it_missed_or_is_told(
    steps: list[tuple[str, int]],
) -> None:
    """Two hubs, four fans, a history of 8 pushes and 60 seconds, and a plain list as the model."""
    clock, backplane = FakeClock(), MemoryBackplane()
    with virtual(backplane, clock=clock) as one, virtual(backplane, clock=clock) as two:
        hubs = [one, two]
        rooms = [hub.hotline(SHARED) for hub in hubs]
        fans = [Fan() for _ in range(4)]
        pushed: list[str] = []
        last_push, forgotten = 0.0, 0
        for step, which in steps:
            if step == "push":
                if clock.now() - last_push > 60:
                    forgotten = len(pushed)
                pushed.append(f"push {len(pushed) + 1}")
                last_push = clock.now()
                rooms[which].push(pushed[-1])
                for fan in fans:
                    if fan.client is not None:
                        fan.due.append(pushed[-1])
            elif step == "come" and fans[which].client is None:
                fan, hub, room = fans[which], hubs[which % 2], rooms[which % 2]
                fan.client, fan.due = hub.connect(), []
                found = room.answer(fan.client.ctx, since=fan.position)
                assert found.position.offset == len(pushed)
                if fan.position is not None:
                    missed = pushed[fan.position.offset :]
                    kept = fan.position.offset >= forgotten and len(missed) <= 8
                    kept = kept and (clock.now() - last_push <= 60 or not missed)
                    assert found.recovered == kept
                    fan.due = missed if kept else []
                    assert found.count == len(fan.due)
                fan.position = found.position
            elif step in ("drop", "leave") and fans[which].client is not None:
                fan = fans[which]
                assert fan.client is not None
                if step == "drop":
                    hubs[which % 2].settle()
                    assert fan.client.messages() == fan.due
                    fan.client.drop()
                else:
                    rooms[which % 2].hangup(fan.client.ctx)
                    assert fan.client.messages() == fan.due
                assert fan.position is not None
                fan.position = Position(fan.position.epoch, len(pushed))
                fan.client = None
            elif step == "wait":
                one.advance(float(which))
            elif step == "remake" and not any(
                fan.client for number, fan in enumerate(fans) if number % 2 == which
            ):
                rooms[which].close()
                hubs[which].settle()
                rooms[which] = hubs[which].hotline(SHARED)
        for fan in fans:
            if fan.client is not None:
                assert fan.client.messages() == fan.due


class Follower:
    """A real client that is cut again and again, and comes back with its position."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        self.url = url
        self.cuts = cuts
        """After how many messages each connection is cut; the last one stays."""
        self.seen: list[tuple[int, str]] = []
        self.lost = 0

    def follow(self, total: int) -> None:
        since: list[object] = []
        at = -1  # its position
        for cut in [*self.cuts, total]:
            with connect(
                self.url, subprotocols=[Subprotocol("hubthread.1")], open_timeout=TIMEOUT
            ) as peer:
                peer.send(json.dumps(since))
                answer = None
                pushes = 0
                while answer is None or pushes < cut:
                    if answer and at == total:
                        return
                    message = json.loads(peer.recv())
                    if "recovered" in message:
                        answer = message
                        self.lost += bool(since) and not answer["recovered"]
                        if not (since and answer["recovered"]) and not pushes:
                            at = answer["offset"]
                    else:
                        pushes += 1
                        at = message["n"]
                        self.seen.append((at, message["data"]))
                since = [answer["epoch"], at]
                peer.socket.shutdown(socket.SHUT_RDWR)


def test_real_clients_that_are_cut_in_a_burst_miss_nothing() -> None:
    total, clients = 400, 12

    def on_message(ctx: IOContext, meta: object) -> bool:
        since = json.loads(ctx.payload)
        # The answer of the program comes first.  The room's lock is not needed for its figures:
        # they are those of the join, which the history has for later joins, too.
        with joining:
            found = room.answer(ctx, since=Position(*since) if since else None)
            place = found.position
        answers[ctx.connection_id] = found
        ctx.write_json(
            {"recovered": found.recovered, "offset": place.offset, "epoch": place.epoch}
        )
        return False

    joining = threading.Lock()
    answers: dict[int, object] = {}
    period = WebsocketPeriod[object](upgrader=Upgrader(subprotocols=("hubthread.1",)))
    setting = HubSetting[object, str](dict, on_receive_message=on_message, websocket_period=period)
    with Hub(setting) as hub, hub.serve() as server:
        # A slow machine lets a client miss nearly all before it is back.
        history = History(size=total, recovery=total)
        room = hub.hotline(HotlineOption("room", shared=True, history=history))
        chance = random.Random(7)
        followers = [
            Follower(server.url, [chance.randint(0, 30) for _ in range(6)]) for _ in range(clients)
        ]
        threads = [threading.Thread(target=each.follow, args=(total,)) for each in followers]
        for thread in threads:
            thread.start()
        for number in range(1, total + 1):
            room.push_json(f"push {number}")
            room.wait_push_consumed(number, 5.0)
        for thread in threads:
            thread.join()
    for follower in followers:
        assert follower.lost == 0
        first = follower.seen[0][0] if follower.seen else total + 1
        assert follower.seen == [(n, f"push {n}") for n in range(first, total + 1)]


class Page:
    """A client of ``hubthread.1``: it knows its position, and what it was told that it missed."""

    def __init__(self, hub: VirtualHub[Any, Any]) -> None:
        self._hub = hub
        self.position: list[Any] = []
        self.seen: set[int] = set()
        self.told = 0
        """The last push that it may have missed, as it was told."""
        self.connect()

    def connect(self) -> None:
        """Connect and join, behind the position."""
        headers = {"Sec-WebSocket-Protocol": "hubthread.1"}
        self.client = self._hub.connect(headers=headers)
        join: dict[str, Any] = {"type": "hub:join", "id": 1, "room": "room"}
        if self.position:
            join |= {"epoch": self.position[0], "at": self.position[1]}
        self.client.send(json.dumps(join))
        self.look()

    def look(self) -> None:
        """Take what has come.  Whatever is left out was told before."""
        for text in self.client.messages():
            message = json.loads(str(text))
            if message.get("type") == "hub:join":
                if not message.get("recovered"):
                    self.told = message["at"]
                    self.position = [message["epoch"], message["at"]]
            elif message.get("type") == "hub:gap":
                assert (message["why"], message["epoch"]) == ("dropped", self.position[0])
                assert message["at"] >= self.position[1]
                self.told = self.position[1] = message["at"]
            else:
                number = message["n"]
                assert number > self.position[1], "a push came twice, or behind a later one"
                assert set(range(self.told + 1, number)) <= self.seen, "a push is missing"
                assert message["data"] == f"push {number}"
                self.seen.add(number)
                self.position[1] = number


@pytest.mark.parametrize("overflow", [Overflow.CLOSE, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 7)),
            st.tuples(st.sampled_from(["stall", "resume", "cut"]), st.integers(0, 1)),
        ),
        max_size=40,
    )
)
def test_page_that_reads_slowly_misses_nothing_that_it_is_not_told(
    overflow: Overflow, steps: list[tuple[str, int]]
) -> None:
    setting = HubSetting[Any, Any](
        dict,
        overflow=overflow,
        chan_queue_size=9,
        websocket_period=PERIOD,
        may_join=lambda ctx, meta, name: True,
    )
    with VirtualHub(setting) as hub:
        room = hub.hotline(HotlineOption("room", shared=True, history=History(size=30)))
        pages = [Page(hub), Page(hub)]
        for step, number in steps:
            page = pages[number % 2]
            if step == "push":
                for _ in range(number):
                    room.push_json(f"push {room.push_count + 1}")
                    hub.settle()
            elif step == "stall":
                page.client.stall()
            elif step == "resume":
                page.client.resume()
                page.look()
            else:
                page.look()
                page.client.drop()
                page.connect()
        for page in pages:
            page.client.resume()
            page.look()
            if page.client.close_code is not None:  # 1013: it comes back
                page.connect()
            page.look()
            assert page.position[1] == room.push_count
