"""G12, presence: one test for each clause of its text, and one with real clients."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from hubthread import Hub, MemoryBackplane, Overflow, PresenceChange, Readers
from hubthread.testing import VirtualHub
from hubthread.testing.clock import FakeClock
from tests.support import TIMEOUT
from tests.support.presence import CALM, JOIN, Page, Picture, option, setting, virtual

NAMES = ("ann", "bob", "")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 1), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["drop", "leave", "again"]), st.integers(0, 7), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([1, 5, 30, 31, 40, 100]), st.just("")),
        st.tuples(st.just("remake"), st.integers(0, 1), st.just("")),
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_picture_of_each_page_is_the_rooms_after_calm(steps: list[tuple[str, int, str]]) -> None:
    """Two hubs; ``Page`` checks on its way that versions follow and joins and leaves alternate."""
    clock, backplane = FakeClock(), MemoryBackplane()
    changes: list[list[PresenceChange]] = [[], []]
    with ExitStack() as stack:
        hubs = [stack.enter_context(virtual(backplane, clock)) for _ in range(2)]

        def make(which: int) -> Any:
            changes[which] = []
            heard = changes[which].append
            return hubs[which].hotline(option(on_change=lambda room, change: heard(change)))

        rooms = [make(0), make(1)]
        pages: list[tuple[int, str, Page]] = []
        for step, number, name in steps:
            if step == "join":
                pages.append((number, name, Page(hubs[number], name)))
            elif step == "wait":
                hubs[0].advance(number / 10)
            elif step == "remake":
                rooms[number].close()
                for which, _, page in pages:
                    if which == number:
                        page.client.drop()
                pages = [each for each in pages if each[0] != number]
                hubs[number].settle()
                rooms[number] = make(number)
            elif pages:
                which, user, page = pages.pop(number % len(pages))
                if step == "drop":
                    page.client.drop()
                else:
                    rooms[which].hangup(page.client.ctx)
                    if step == "again":
                        page.look()
                        page.client.send(JOIN)
                        pages.append((which, user, page))
            for _, _, page in pages:
                page.look()
        hubs[0].advance(CALM)
        named = {name for _, name, _ in pages if name}
        nameless = sum(not name for _, name, _ in pages)
        for room, heard in zip(rooms, changes, strict=True):
            state = room.presence()
            assert {key for key in state.members if key in NAMES} == named
            assert state.count == len(state.members) == len(named) + nameless
            assert [change.version for change in heard] == list(
                range(state.version - len(heard) + 1, state.version + 1)
            )
        for which, _, page in pages:
            page.look()
            assert page.members == rooms[which].presence().members
            assert page.version == rooms[which].presence().version


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 7)),
            st.tuples(st.sampled_from(["stall", "resume", "come", "drop"]), st.integers(0, 3)),
        ),
        max_size=30,
    )
)
def test_page_that_reads_slowly_knows_that_its_picture_is_old(
    overflow: Overflow, steps: list[tuple[str, int]]
) -> None:
    """Under a policy that drops: a page joins again at each hole that it finds."""
    with VirtualHub(setting(overflow=overflow, chan_queue_size=4)) as hub:
        room = hub.hotline(option(linger=0.01))
        reader = Page(hub, "reader", joins_again=True)
        others: list[Page] = []
        for number, (step, many) in enumerate(steps):
            if step == "push":
                for _ in range(many):
                    room.push("push")
                    hub.settle()
            elif step == "come":
                others.append(Page(hub, f"user{number}"))
            elif step == "drop" and others:
                others.pop(many % len(others)).client.drop()
            elif step == "stall":
                reader.client.stall()
            elif step == "resume":
                reader.client.resume()
                reader.look()
            hub.advance(0.2)
        reader.client.resume()
        reader.look()
        hub.advance(CALM)
        reader.look()
        state = room.presence()
        assert (reader.version, reader.members) == (state.version, state.members)


def test_real_clients_that_come_and_go_are_told_without_a_hole() -> None:
    fields: dict[str, Any] = {
        "subprotocols": [Subprotocol("hubthread.1")],
        "open_timeout": TIMEOUT,
    }
    with Hub(setting(readers=Readers.SHARED)) as hub, hub.serve() as server:
        room = hub.hotline(option(diffs=0.005, linger=0.01))

        def come_and_go(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(8):
                url = f"{server.url}{chance.choice(['ann', 'bob', 'eve', ''])}"
                with connect(url, **fields) as peer:
                    for _ in range(chance.randint(0, 2)):
                        peer.send(JOIN)
                        peer.recv(TIMEOUT)

        url = f"{server.url}watcher"
        with connect(url, **fields) as watcher:
            picture = Picture()
            watcher.send(JOIN)
            threads = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            with connect(f"{server.url}last", **fields) as last:
                last.send(JOIN)
                # Changes are told in order: with "last", all that came before have been told.
                while not picture.members.keys() >= {"watcher", "last"}:
                    picture.take(watcher.recv(TIMEOUT))
                while len(picture.members) > 2:
                    picture.take(watcher.recv(TIMEOUT))
                state = room.presence()
                assert (picture.version, picture.members) == (state.version, state.members)
