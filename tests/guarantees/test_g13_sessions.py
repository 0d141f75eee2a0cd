"""G13: one client, one connection; of two claims one wins; the close callback runs exactly once,
at the end of the grace; nothing written between loss and return is lost or doubled while it fits
the bounds, and what did not fit is told."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections import defaultdict
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hubthread import (
    HubSetting,
    Overflow,
    PingPongPlan,
    Readers,
    Sessions,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from tests.support import (
    CLOSE,
    TEXT,
    TIMEOUT,
    RawPeer,
    Serving,
    connect,
    in_thread,
    serving,
    together,
)
from tests.support.examples import examples

GRACE = 30.0
CLOSES = {"page": b"\x88\x82\0\0\0\0\x03\xe9", "plain": b"\x88\x80\0\0\0\0"}
"""The Close of a page that is reloaded (1001), and one without a code."""
SILENCE = 12.0
TAKEN_OVER = (4001).to_bytes(2, "big")

PERIOD = WebsocketPeriod[Any](
    upgrader=Upgrader(subprotocols=("hubthread.1",)),
    ping_pong_plan=PingPongPlan(ping_period=5.0, ping_timeout=SILENCE),
)


class Player:
    """One client, as its page sees it, over all of its connections."""

    def __init__(self, line: VirtualClient) -> None:
        self.ctx = line.ctx
        self.line = line
        self.earlier: list[VirtualClient] = []
        self.got: list[str] = []
        self.told = 0
        self.due: list[str] = []
        self.gone_at: float | None = None  # the time at which the hub gives the client up
        self.over = False

    @property
    def connected(self) -> bool:
        line = self.line
        return not (line._transport.vanished or line._said_close or line.closed)


class Sessioned(RuleBasedStateMachine):
    """A hub with sessions against what each client wrote down."""

    policy = Overflow.CLOSE
    waiting = 8
    sent_bytes = 2000

    def __init__(self) -> None:
        super().__init__()
        self.events: defaultdict[int, list[str]] = defaultdict(list)

        def note(what: str) -> Any:
            return lambda ctx, meta: self.events[ctx.connection_id].append(what)

        self.hub = VirtualHub(
            HubSetting[Any, Any](
                dict,
                websocket_period=PERIOD,
                sessions=Sessions(GRACE, sent_bytes=self.sent_bytes),
                on_connection_start=note("start"),
                on_connection_lost=note("lost"),
                on_connection_resume=note("resume"),
                on_connection_close=note("close"),
                chan_queue_size=self.waiting,
                overflow=self.policy,
            )
        )
        self.hub.start()
        self.room = self.hub.hotline()
        self.players: list[Player] = []
        self.numbers = itertools.count(1)
        self.now = self.hub.clock.now

    def teardown(self) -> None:
        self.hub.close()
        assert self.hub.errors == []
        for player in self.players:
            assert self.events[player.ctx.connection_id][-1] == "close"
            self._check_events(player)

    def _read(self, player: Player) -> None:
        player.got += map(str, player.line.messages())

    def _come_back(self, player: Player) -> None:
        self._read(player)
        line = self.hub.connect(resume=player.line)
        player.earlier.append(player.line)
        player.line = line
        if player.over:
            assert not line.resumed
            assert line.ctx is not player.ctx
            line.close()
            return
        assert line.resumed
        assert line.ctx is player.ctx
        player.told += line.lost
        player.gone_at = None

    # Rules.

    @precondition(lambda self: len(self.players) < 3)
    @rule(speed=st.sampled_from([None, None, 300]))
    def arrive(self, speed: int | None) -> None:
        player = Player(self.hub.connect(session=True, bytes_per_second=speed))
        while player.line.session is None:  # its hello is still on the way
            self.hub.advance(0.5)
            assert player.line.inbox == []
        self.room.answer(player.ctx)
        self.players.append(player)

    @precondition(lambda self: self.players)
    @rule(data=st.data(), count=st.integers(1, 4), size=st.sampled_from([0, 0, 150]))
    def write(self, data: st.DataObject, count: int, size: int) -> None:
        player = data.draw(st.sampled_from(self.players))
        for _ in range(count):
            text = f"w{next(self.numbers)}" + "." * size
            player.ctx.write(text)
            if not player.over:
                player.due.append(text)

    @rule(count=st.integers(1, 4))
    def push(self, count: int) -> None:
        for _ in range(count):
            text = f"p{next(self.numbers)}"
            self.room.push(text)
            for player in self.players:
                if not player.over:
                    player.due.append(text)
        self.hub.settle()

    @precondition(lambda self: any(each.connected for each in self.players))
    @rule(data=st.data(), how=st.sampled_from(["drop", "vanish", "page", "plain"]))
    def lose(self, data: st.DataObject, how: str) -> None:
        player = data.draw(st.sampled_from([each for each in self.players if each.connected]))
        if how == "vanish":
            player.line.vanish()
            return
        if how == "drop":
            player.line.drop()
        else:
            player.line.send_wire(CLOSES[how])
        if not player.over:
            assert player.ctx.is_away
            player.gone_at = self.now() + GRACE

    @precondition(lambda self: self.players)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """Also while the hub still takes the old connection for alive."""
        self._come_back(data.draw(st.sampled_from(self.players)))

    @precondition(lambda self: any(each.connected for each in self.players))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        player = data.draw(st.sampled_from([each for each in self.players if each.connected]))
        self._read(player)
        if player.ctx.ws_conn.ended_by is not None:
            return  # the hub has said first that it reads too slowly
        player.line.close(1000)
        player.over = True
        assert not player.ctx.is_away

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 13.0, GRACE]))
    def wait(self, seconds: float) -> None:
        self.hub.advance(seconds)

    @precondition(lambda self: self.players)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        self._read(data.draw(st.sampled_from(self.players)))

    @precondition(lambda self: any(not each.over for each in self.players))
    @rule(data=st.data())
    def calm(self, data: st.DataObject) -> None:
        """Come back, read everything, and compare."""
        player = data.draw(st.sampled_from([each for each in self.players if not each.over]))
        if not player.connected:
            self._come_back(player)
        for _ in range(40):
            if player.line.closed:  # it could not read fast enough
                self._come_back(player)
            self.hub.advance(1.0)
            self._read(player)
            if player.ctx.ws_conn.outbox.wait_consumed(None, 0):
                break
        if player.connected:  # the hub tells what it has dropped when the client comes back
            player.line.drop()
        self._come_back(player)
        while not player.ctx.ws_conn.outbox.wait_consumed(None, 0):
            self.hub.advance(1.0)
        self._read(player)
        assert len(player.due) - len(player.got) == player.told

    # Always.

    @invariant()
    def clients_end_once_and_at_the_end_of_the_grace(self) -> None:
        self.hub.settle()
        for player in self.players:
            events = self.events[player.ctx.connection_id]
            if events[-1] == "close":
                player.over = True
            if player.gone_at is not None:
                assert player.over == (self.now() >= player.gone_at)
            self._check_events(player)
            assert (player.ctx in self.room.members) == (not player.over)
            assert (player.ctx in self.hub.clients()) == (not player.over)
        assert len(self.hub._core.sessions._sessions) == sum(not p.over for p in self.players)

    def _check_events(self, player: Player) -> None:
        events = self.events[player.ctx.connection_id]
        assert events[0] == "start"
        assert events.count("close") == (events[-1] == "close") or events.count("close") == 1
        for this, then in itertools.pairwise(events):
            assert this != "close"
            if this == "lost":
                assert then in ("resume", "close")

    @invariant()
    def each_message_comes_once_and_in_order(self) -> None:
        for player in self.players:
            assert len(set(player.got)) == len(player.got)
            for source in "wp":
                got = [each for each in player.got if each[0] == source]
                numbers = [int(each[1:].rstrip(".")) for each in got]
                assert numbers == sorted(numbers)


class DroppingOldest(Sessioned):
    policy = Overflow.DROP_OLDEST


class DroppingNewest(Sessioned):
    policy = Overflow.DROP_NEWEST


class Latest(Sessioned):
    policy = Overflow.LATEST


class Roomy(Sessioned):
    """Bounds that everything fits into: nothing is ever lost."""

    waiting = 100_000
    sent_bytes = 10_000_000


@pytest.mark.parametrize("machine", [Sessioned, DroppingOldest, DroppingNewest, Latest, Roomy])
def test_session_is_one_client_that_misses_nothing_untold(
    machine: type[RuleBasedStateMachine],
) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(max_examples=examples(30), stateful_step_count=40, deadline=None),
    )


class Page:
    """A client on real sockets, which is cut at random moments and comes back."""

    def __init__(self, served: Serving, seed: int) -> None:
        self.served = served
        self.chance = random.Random(seed)
        self.session: str | None = None
        self.count = 0
        self.id = 0
        self.cuts = 0
        self.got: list[str] = []
        self.peer = self.connect()

    def say_hello(self) -> RawPeer:
        peer = RawPeer(connect(self.served.server), "/", "Sec-WebSocket-Protocol: hubthread.1")
        hello: dict[str, Any] = {"type": "hub:hello", "v": 1}
        if self.session is not None:
            hello |= {"resume": self.session, "got": self.count}
        peer.send(json.dumps(hello))
        return peer

    def connect(self) -> RawPeer:
        while self.session is not None and self.chance.random() < 0.3:
            self.say_hello().reset()  # perhaps before the client has changed over
        peer = self.say_hello()
        while (text := self.read(peer)) is None:
            peer = self.say_hello()
        answer = json.loads(text)
        assert "lost" not in answer
        assert answer["resumed"] == (self.session is not None)
        if self.session is None:
            self.session, self.id = answer["session"], answer["id"]
        assert (answer["session"], answer["id"]) == (self.session, self.id)
        self.count = answer["at"]
        return peer

    def close(self) -> None:
        self.peer.close()

    def read(self, peer: RawPeer) -> str | None:
        """Return the next message; None if the hub has read a hello of before only now."""
        opcode, payload = peer.frame()
        if opcode == CLOSE:
            assert payload[:2] == TAKEN_OVER
            peer.close()
            return None
        return payload.decode()

    def follow(self, last: str) -> None:
        """Read until message ``last``; lose the connection now and then."""
        while not self.got or self.got[-1] != last:
            for _ in range(self.chance.randint(0, 40)):
                message = self.read(self.peer)
                if message is None:
                    self.peer = self.connect()
                    continue
                self.count += 1
                self.got.append(message)
                if message == last:
                    return
            before, how = self.peer, self.chance.choice(["silent", "reset", "close"])
            self.cuts += 1
            if how == "silent":  # the hub does not notice the loss
                self.peer = self.connect()
                before.close()
            else:
                before.reset() if how == "reset" else before.close()
                self.peer = self.connect()


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize(
    ("readers", "total", "clients"),
    [
        (Readers.OWN, 150, 24),
        (Readers.SHARED, 150, 24),
        pytest.param(Readers.SHARED, 30, 1000, marks=pytest.mark.load),
    ],
)
def test_real_clients_that_are_cut_at_random_moments_get_each_message_once(
    readers: Readers, total: int, clients: int
) -> None:
    ended: list[int] = []
    told: defaultdict[int, list[str]] = defaultdict(list)
    setting: dict[str, Any] = {
        "readers": readers,
        # The pages answer no pings.
        "period": WebsocketPeriod[Any](ping_pong_plan=PingPongPlan(None, None)),
        "sessions": Sessions(TIMEOUT, sent_bytes=10_000_000),
        "on_connection_lost": lambda ctx, meta: told[ctx.connection_id].append("lost"),
        "on_connection_resume": lambda ctx, meta: told[ctx.connection_id].append("resume"),
        "on_connection_close": lambda ctx, meta: ended.append(ctx.connection_id),
    }
    with serving(**setting) as served, contextlib.ExitStack() as peers:
        room = served.hub.hotline()
        pages = [Page(served, seed) for seed in range(clients)]
        for page in pages:
            peers.callback(page.close)
        contexts = [served.came() for _ in pages]
        for ctx in contexts:
            room.answer(ctx)
        following = [in_thread(partial(page.follow, "end")) for page in pages]
        for number in range(total):
            room.push(f"push {number}")
            for ctx in contexts:
                ctx.write(f"write {number}")
            # In step with the readers, or each would find everything there at once.
            contexts[number % clients].wait_write_consumed(
                contexts[number % clients].write_count, TIMEOUT
            )
        room.wait_push_consumed(room.push_count, TIMEOUT)
        for ctx in contexts:
            ctx.write("end")
        for each in following:
            each()
        assert served.hub.clients_num() == clients
        assert not ended
    wanted = [[f"{kind} {number}" for number in range(total)] for kind in ("push", "write")]
    assert sum(page.cuts for page in pages) > clients / 2
    for page in pages:
        for kind, texts in zip(("push", "write"), wanted, strict=True):
            assert [text for text in page.got if text.startswith(kind)] == texts
    assert sorted(ended) == sorted(page.id for page in pages)
    for events in told.values():
        assert ("lost", "lost") not in itertools.pairwise(events)


@pytest.mark.parametrize("readers", list(Readers))
def test_claims_at_the_same_time_leave_one_connection(readers: Readers) -> None:
    ended: list[int] = []
    setting: dict[str, Any] = {
        "readers": readers,
        "sessions": Sessions(TIMEOUT),
        "on_connection_close": lambda ctx, meta: ended.append(ctx.connection_id),
    }
    with serving(**setting) as served, contextlib.ExitStack() as peers:
        page = Page(served, 0)
        peers.callback(page.peer.close)
        ctx = served.came()
        for number in range(5):
            claims: list[RawPeer] = []
            answered: list[RawPeer] = []

            def claim(_: int, claims: Any = claims, answered: Any = answered) -> None:
                peer = RawPeer(connect(served.server), "/", "Sec-WebSocket-Protocol: hubthread.1")
                claims.append(peer)
                peer.send(json.dumps({"type": "hub:hello", "v": 1, "resume": page.session}))
                opcode, payload = peer.frame()
                if opcode == TEXT:
                    assert json.loads(payload)["resumed"]
                    answered.append(peer)
                else:
                    assert (opcode, payload[:2]) == (CLOSE, TAKEN_OVER)

            together(4, claim)
            for peer in claims:
                peers.callback(peer.close)
            ctx.write(f"to the last {number}")
            ends = [peer.frame() for peer in answered]
            assert ends.count((TEXT, f"to the last {number}".encode())) == 1
            assert sum(payload[:2] == TAKEN_OVER for _, payload in ends) == len(ends) - 1
        assert page.peer.closed()[0] == 4001
        assert served.hub.clients() == [ctx]
    assert ended == [ctx.connection_id]
