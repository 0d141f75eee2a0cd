"""The states of a link, with any sequence of events."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from hubthread.client import Link, Room
from hubthread.errors import HubThreadError, Lost
from hubthread.protocol.client_handshake import WrongAnswer
from tests.client.world import World, quiet

EVENTS = int(os.environ.get("HUBTHREAD_EVENTS", "10000"))
CODES = (1000, 1001, 1002, 1005, 1006, 1008, 1011, 1012, 1013, 3000, 4001, 4401, 4500)
HELLO = {"type": "hub:hello", "session": "s", "id": 1, "now": 5}
WRONG = (
    HELLO,
    "x",
    "[]",
    {"type": 7},
    {"reply": 1},
    {"room": "a", "n": 5},
    {"type": "said", "id": 1},
)


class Chaos:
    """One link, and events at random."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.token: Callable[[], str | None] = lambda: "t"
        self.world = World(self.random.random, token=self._token, logger=quiet(), inbox=3)
        self.link = self.world.link
        self.wish = True
        self.wild = True
        self.pending = 0
        self.rooms: list[Room] = []
        self.link.on("said", self._said)
        self.link.on("state", self._state)
        self.link.connect()

    def _token(self, again: bool) -> str | None:
        return self.token()

    def _said(self, message: object) -> None:
        if self.random.random() < 0.2:
            raise ValueError("a listener")

    def _state(self, state: str, reason: str) -> None:
        if not self.wild:
            return
        if self.random.random() < 0.01:
            self.disconnect()
        elif state == "ended" and self.random.random() < 0.5:
            self.connect()

    # The events.

    def connect(self) -> None:
        self.wish = True
        self.link.connect()

    def disconnect(self) -> None:
        self.wish = False
        self.link.disconnect()

    def opens(self) -> None:
        if self.world.servers:
            self.world.server.open()

    def hello(self) -> None:
        if self.world.servers:
            self.world.server.open()
            more = self.random.choice([{}, {"at": 1, "resumed": True, "lost": 2}, {"at": 1}])
            self.world.server.receive({**HELLO, **more})

    def wrong(self) -> None:
        if self.world.servers:
            self.world.server.receive(self.random.choice(WRONG))

    def end(self) -> None:
        if self.world.servers:
            reason = self.random.choice(["", "retry=5", "why retry=0.5"])
            self.world.server.end(self.random.choice(CODES), reason)

    def refuse(self) -> None:
        errors = [None, None, OSError("away"), WrongAnswer("401", 401), WrongAnswer("503", 503, 7)]
        self.world.refusal = self.random.choice([*errors, WrongAnswer("404", 404)])

    def tokens(self) -> None:
        self.token = self.random.choice([lambda: "t", lambda: "t", lambda: None, _raise])

    def pass_time(self) -> None:
        self.world.clock.advance(self.random.choice([0, 0.01, 0.5, 3, 40]))

    def send(self) -> None:
        how: dict[str, Any] = self.random.choice(
            [{}, {"ttl": 0.05}, {"key": "k"}, {"volatile": True}]
        )
        self.link.send("a", **how)

    def buffer(self) -> None:
        if self.world.servers:
            self.world.server.buffered = self.random.choice([0, 0, 2 << 20])

    def request(self) -> None:
        machine = self.link._machine
        done: list[object] = []

        def settled(outcome: object) -> None:
            assert not done
            done.append(outcome)
            self.pending -= 1

        with self.link._lock:
            self.pending += 1
            number = machine.requests.open(settled, settled, self.world.clock.now() + 5)
            if machine.post('{"type":"q"}', request=number) == "dropped":
                machine.requests.forget(number)
                settled(None)

    def answer(self) -> None:
        if self.world.servers and self.world.server.is_open:
            asked = [each["id"] for each in self.world.server.messages() if "id" in each]
            if asked:
                number = self.random.choice(asked)
                self.world.server.receive({"reply": number, "epoch": "k", "at": 3, "now": 1})

    def room(self) -> None:
        self.rooms.append(self.link.room(self.random.choice("ab")))

    def leave(self) -> None:
        if self.rooms:
            self.rooms.pop().leave()

    def retry(self) -> None:
        self.link.retry_now()

    def step(self) -> None:
        """Let one event happen, and look at the link."""
        names = (
            "connect disconnect opens hello hello wrong end refuse tokens pass_time send buffer"
        )
        names += " request answer answer room leave retry pass_time"
        getattr(self, self.random.choice(names.split()))()
        self.world.clock.settle()
        assert len(self.world.live()) <= 1
        if not self.wish:
            assert self.link.state == "idle"
            assert not self.world.live()
            assert self.link._machine.due() == float("inf")
        assert (self.link.state == "open") <= bool(self.world.live())

    def calm(self) -> None:
        """Let everything be well: the link is open, or has said why not."""
        self.wild = False
        self.world.refusal, self.token = None, lambda: "t"
        self.world.serves = True
        if self.world.live():
            self.world.server.end()
        self.connect()
        self.world.clock.advance(2 * 3600)  # the longest advice is one hour
        if self.link.state == "resting":
            self.link.send("wake")
        self.world.clock.advance(60)
        assert self.link.state in ("open", "ended"), self.link
        assert self.pending == 0


def _raise() -> str:
    raise ValueError("a token function")


def test_any_sequence_of_events_keeps_one_connection_and_settles() -> None:
    made = 0
    for seed in range(max(1, EVENTS // 200)):
        chaos = Chaos(seed)
        with chaos.world:
            for _ in range(200):
                chaos.step()
                made += 1
            chaos.calm()
            chaos.link.close()
            assert chaos.pending == 0
    assert made >= EVENTS // 200 * 200


def test_full_buffer_of_the_socket_counts_as_not_open() -> None:
    with World().opened() as world:
        world.server.buffered = 2 << 20
        assert world.link.send("a") == "queued"
        world.clock.advance(1)
        assert len(world.server.sent) == 1
        world.server.buffered = 0
        world.clock.advance(0.2)
        assert world.server.messages()[-1] == {"type": "a"}


def test_send_after_a_sleep_asks_for_a_sign_of_life() -> None:
    with World().opened() as world:
        world.clock.spend(3600)
        world.link.send("a")
        assert [each["type"] for each in world.server.messages()[1:]] == ["hub:time", "a"]
        world.clock.advance(4)
        assert (world.link.state, world.link.reason) == ("waiting", "the line is dead")


def test_plain_link_pings_a_quiet_server() -> None:
    with World(plain=True) as world:
        world.link.connect()
        world.clock.settle()
        world.server.open()
        world.clock.advance(25)
        assert world.server.pings == 1
        world.server.receive("here")
        world.clock.advance(25)
        assert world.link.state == "open", world.link.reason
        world.clock.advance(4)
        assert world.link.reason == "the line is dead"


@pytest.mark.parametrize(
    ("error", "state", "reason", "least"),
    [
        (WrongAnswer("", 403), "ended", "the server refuses (403)", 0),
        (WrongAnswer("", 404), "ended", "the server refuses (404)", 0),
        (WrongAnswer("", 401), "ended", "the server refuses: log in first", 0),
        (WrongAnswer("", 503, 7), "waiting", "the server cannot be reached (503)", 7),
        (WrongAnswer("", 429, 7), "waiting", "the server cannot be reached (429)", 7),
        (WrongAnswer("", 503, 1e9), "waiting", "the server cannot be reached (503)", 3600),
        (WrongAnswer("it answers 200", 200), "ended", "there is no WebSocket at this address", 0),
        (WrongAnswer("it speaks FTP"), "ended", "it speaks FTP", 0),
        (OSError("no route"), "waiting", "the server cannot be reached: no route", 0.3),
    ],
)
def test_refused_handshake_leads_to_its_state(
    error: OSError | WrongAnswer, state: str, reason: str, least: float
) -> None:
    with World() as world:
        world.refusal = error
        world.link.connect()
        world.clock.settle()
        assert world.link.state == state
        assert world.link.reason.startswith(reason)
        if state == "waiting":
            assert world.link._machine.retry_due >= least


def test_lost_clients_come_back_spread_over_the_advice() -> None:
    """1,000 clients come back at no more than the rate that the server has named."""
    chance = Random(7)
    returns = []
    for _ in range(1000):
        with World(chance.random).opened() as world:
            world.server.end(1012, "moved retry=8")
            world.clock.settle()
            returns.append(world.link._machine.retry_due)
    assert max(returns) <= 8
    seconds = [sum(second <= each < second + 1 for each in returns) for second in range(8)]
    assert max(seconds) <= 1000 / 8 * 1.3
    hundredths = [round(each * 100) for each in returns]
    assert max(map(hundredths.count, hundredths)) <= 20


def test_disconnect_ends_requests_and_the_link_may_connect_again() -> None:
    errors: list[HubThreadError] = []
    with World().opened() as world:
        machine = world.link._machine
        with world.link._lock:
            machine.requests.open(partial(errors.append), errors.append)
        world.link.disconnect()
        assert [type(error) for error in errors] == [Lost]
        world.link.connect()
        world.clock.settle()
        assert world.link.state == "connecting"


def test_now_follows_the_measurement_with_the_smallest_round_trip() -> None:
    with World() as world:
        link: Link = world.link
        assert _milliseconds(link) is None
        link.connect()
        world.clock.advance(0.3)
        world.accept()  # 300 ms for all of it
        assert (round(link.now(), 3), _milliseconds(link)) == (5.15, 300)
        world.clock.advance(25)
        asked = world.server.messages()[-1]["id"]
        world.clock.advance(0.01)
        world.server.receive({"reply": asked, "now": 30_105})
        world.clock.settle()
        assert (round(link.now(), 3), _milliseconds(link)) == (30.11, 10)


def _milliseconds(link: Link) -> int | None:
    return None if link.rtt is None else round(link.rtt * 1000)


@pytest.mark.parametrize("now", [10**400, -(10**400), "1", None, True])
def test_wrong_clock_of_the_server_is_ignored(now: object) -> None:
    with World() as world:
        world.link.connect()
        world.clock.settle()
        world.server.open()
        world.server.receive({"type": "hub:hello", "now": now})
        world.clock.settle()
        assert world.link.state == "open"
