"""Bots against a real server: what they do, and what they say they saw."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    JsonHeader,
    MatcherMap,
    Server,
    StateSync,
    cli,
)
from hubthread.bots import Bots, Plan
from hubthread.client import Link
from hubthread.client.crowd import DIALLERS, Crowd
from tests.client.servers import Peer, listening
from tests.support import TIMEOUT


@dataclass
class Table:
    """A state that changes in each tick."""

    ticks: list[int] = field(default_factory=list)


class Site:
    """A hub with a room that ticks, and a message that closes its sender."""

    def __init__(self) -> None:
        matcher = MatcherMap[dict[str, Any], str](JsonHeader())
        matcher.add("echo", self._echo)
        matcher.add("close", self._close)
        setting: HubSetting[dict[str, Any], str] = HubSetting(
            dict, receive_matcher=matcher, may_join=lambda ctx, meta, room: room == "table"
        )
        self.hub = Hub(setting)
        self.hub.start()
        option = HotlineFrameOption(Table, self._tick, hz=200, sync=StateSync())
        self.table = option.run(self.hub.hotline(HotlineOption("table", shared=True)))
        self.server: Server = self.hub.serve("127.0.0.1", 0)

    @staticmethod
    def _tick(frame: FrameControl[Table], table: Table) -> None:
        table.ticks.append(frame.tick.index)

    @staticmethod
    def _echo(ctx: IOContext, meta: dict[str, Any], req: dict[str, Any]) -> None:
        ctx.write_json({"type": "echo"})

    @staticmethod
    def _close(ctx: IOContext, meta: dict[str, Any], req: dict[str, Any]) -> None:
        ctx.close(4001, "enough")

    def run(self, bot: Callable[[Link], object], count: int, **more: Any) -> tuple[Bots, str]:
        """Run bots; return them and what they printed."""
        out = io.StringIO()
        bots = Bots(Plan(self.server.url, bot, count, rate=1000, **more), out)
        assert bots.run()
        return bots, out.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.hub.close()


def test_bots_generators_run_until_all_have_ended(site: Site) -> None:
    heard: list[object] = []

    def bot(link: Link) -> Iterator[float]:
        link.on("echo", heard.append)
        for _ in range(2):
            link.send("echo", {})
            yield 0.01
        while len(heard) < 10:
            yield 0.01

    bots, told = site.run(bot, 5)
    assert len(heard) == 10
    assert bots.seen.messages >= 10
    assert "5 bots" in told
    assert "open         5 at the most" in told
    assert bots.seen.failures == {}
    assert bots.seen.closes == {}
    assert site.hub.statistics().clients_total >= 5


def test_bots_measure_lateness_and_numbers_of_state(site: Site) -> None:
    def bot(link: Link) -> Iterator[float]:
        room = link.room("table")
        while room.state is None or len(room.state["ticks"]) < 5:
            yield 0.01

    bots, told = site.run(bot, 3)
    assert bots.seen.gaps == 0
    assert "lateness     p50" in told


def test_bots_closes_are_counted_by_code(site: Site) -> None:
    def bot(link: Link) -> Iterator[float]:
        link.send("close", {})
        while link.state == "open":
            yield 0.005

    bots, told = site.run(bot, 4)
    assert bots.seen.closes == {"4001 enough": 4}
    assert "4 times 4001 enough" in told


def test_bot_that_fails_is_counted_and_others_go_on(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def bot(link: Link) -> Iterator[Any]:
        link.send("echo", {})
        yield "soon" if next(turns) else 0.01

    turns = iter([True, False, True])
    bots, _ = site.run(bot, 3)
    assert list(bots.seen.failures.values()) == [2]
    assert capsys.readouterr().err.count("a bot yields the seconds that it waits, got 'soon'") == 1


def test_bot_that_waits_for_its_link_is_told(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def bot(link: Link) -> Iterator[float]:
        yield 0.001
        link.request("echo")

    bots, _ = site.run(bot, 1)
    assert "DeadlockError" in next(iter(bots.seen.failures))
    capsys.readouterr()


def test_bots_plain_functions_listen_until_the_run_is_over(site: Site) -> None:
    told: list[Link] = []
    out = io.StringIO()

    def bot(link: Link) -> None:
        told.append(link)
        if len(told) == 2:
            bots.stop()

    bots = Bots(Plan(site.server.url, bot, 2, 1000), out)
    assert bots.run()
    assert bots.seen.most_open == 2
    assert bots.seen.closes == {}
    assert [link.closed for link in told] == [True, True]


def test_bots_end_after_their_seconds(site: Site) -> None:
    bots = Bots(Plan(site.server.url, lambda link: None, 1, 1000, 0.05), io.StringIO())
    bots.run()
    assert bots.seen.closes == {}


def test_bots_that_end_close_a_connection_that_comes_up_meanwhile() -> None:
    asked, ended, gone = threading.Event(), threading.Event(), threading.Event()

    def serve(peer: Peer) -> None:
        asked.set()
        assert ended.wait(TIMEOUT)
        peer.shake()
        peer.wait_end()
        gone.set()

    def look() -> None:
        if asked.is_set():
            bots.stop()
        else:
            bots.at(0.001, look)

    with listening(serve) as server:
        bots = Bots(Plan(server.url, lambda link: None, 1, 1000), io.StringIO())
        link = bots._players[0].link
        link.on("state", lambda state, reason: ended.set() if state == "idle" else None)
        bots.at(0.0, look)
        assert not bots.run()
        assert gone.wait(TIMEOUT)


def test_crowd_close_waits_no_longer_than_its_time_for_goodbyes() -> None:
    ends = threading.Event()
    crowd = Crowd()
    for _ in range(2 * DIALLERS):
        crowd.aside(lambda waker: ends.wait(TIMEOUT))
    crowd.run(lambda: False)
    crowd.close(0.05)
    assert not ends.is_set()
    assert crowd._diallers[0].is_alive()
    ends.set()
    for thread in crowd._diallers:
        thread.join(TIMEOUT)


def test_bots_without_a_server_say_why() -> None:
    out = io.StringIO()
    bots = Bots(Plan("ws://127.0.0.1:9/", lambda link: None, 1, 1000), out)
    link = bots._players[0].link
    link.on("state", lambda state, reason: bots.stop() if state == "waiting" else None)
    assert not bots.run()
    assert "the server cannot be reached" in out.getvalue()


BOTS = """
def bot(link):
    yield 0.01

async def later(link):
    pass

def two(link, more):
    pass

number = 3
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["players"], "such as app:bot"),
        (["players:none"], "players has no attribute 'none'; it has the bot"),
        (["nobody:bot"], "no module named 'nobody'"),
        (["players:number"], "expected a function of a link"),
        (["players:later"], "got the async def"),
        (["players:two"], "missing a required argument: 'more'"),
        (["players:bot", "--count", "0"], "count: expected an integer of at least 1, got 0"),
        (["players:bot", "--count", "x"], "invalid int value"),
        (["players:bot", "--count", "99999999"], "open files"),
        (["players:bot", "--rate", "0"], "rate: expected a number above 0"),
        (["players:bot", "--seconds", "-1"], "seconds: expected a number above 0"),
        (["players:bot", "--header", "x"], "expected NAME: VALUE"),
    ],
)
def test_bots_command_bad_arguments_take_one_line(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "players.py").write_text(BOTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    status: object
    try:
        status = cli.main(["bots", arguments[0], "ws://127.0.0.1:9/", *arguments[1:]])
    except SystemExit as error:
        status = error.code
    err = capsys.readouterr().err
    assert status == 2
    assert told in err
    assert err.count("\n") == 1


def test_bots_command_bad_address_takes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "players.py").write_text(BOTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["bots", "players:bot", "ftp://nowhere"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
