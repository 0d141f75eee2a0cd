"""Clients that have the state of a room, and what they do at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from hypothesis import strategies as st

from hubthread.state.patch import apply
from hubthread.testing import VirtualClient
from tests.rooms.ticking.rooms import AnyFrame, AnyVirtualHub

Step = tuple[str, int, int]
"""What happens, which of three pages does it, and a number."""


class Page:
    """A client that applies what it is sent, as the browser's does."""

    def __init__(self, hub: AnyVirtualHub, **options: Any) -> None:
        self.client: VirtualClient = hub.connect(**options)
        self.id = self.client.ctx.connection_id
        self.state: Any = None
        self.n = 0
        self.whole = 0
        """The number of whole states that came."""

    def read(self) -> Any:
        """Apply the messages that came, and return the state."""
        for text in self.client.messages():
            message = json.loads(text)
            assert message["type"] == "hub:state"
            assert message["room"] == "table"
            if "full" in message:
                self.state, self.n = message["full"], message["n"]
                self.whole += 1
            elif "mine" in message:
                assert message["n"] == self.n
                self.state = apply(self.state, message["mine"])
            else:
                self.n += 1
                assert message["n"] == self.n
                self.state = apply(self.state, message)
        return self.state


def steps(*changes: str, most: int = 50) -> st.SearchStrategy[list[Step]]:
    """Return steps of three pages: they come and go, stall, wait, and change the state."""
    acts = ("join", "leave", "stall", "resume", "drop", "tick", "tick", "tick", *changes)
    step = st.tuples(st.sampled_from(acts), st.integers(0, 2), st.integers(0, 5))
    return st.lists(step, max_size=most)


def walk(
    hub: AnyVirtualHub,
    frame: AnyFrame,
    steps: list[Step],
    mutate: Callable[[Any, str, int, int], object],
    copy_of: Callable[[AnyFrame, int], Any],
) -> None:
    """Do the steps; the members have the state at the end.

    :param mutate: changes a state: called with the state, what to do, the id of a page, a number.
    :param copy_of: returns the state as the member with an id sees it.
    """
    pages = [Page(hub) for _ in range(3)]
    joined: set[int] = set()
    for what, which, number in steps:
        page = pages[which]
        client = page.client
        if what == "tick":
            hub.advance((number + 1) / 10)
        elif what == "join":
            if client.closed:
                continue
            if which not in joined:
                page.state = None
            frame.answer(client.ctx)
            joined.add(which)
        elif what == "leave":
            frame.hangup(client.ctx)
            joined.discard(which)
        elif what == "stall":
            client.stall()
        elif what == "resume":
            client.resume()
        elif what == "drop":
            client.resume()
            client.drop()
            pages[which] = Page(hub)
            joined.discard(which)
        else:
            change_soon(frame, partial(_mutate, mutate, (what, page.id, number)))
    for page in pages:
        page.client.resume()
    hub.advance(1)
    for which in joined:
        page = pages[which]
        assert page.read() == copy_of(frame, page.id)


def _mutate(mutate: Callable[..., object], step: Step, state: Any) -> None:
    mutate(state, *step)


def change_soon(frame: AnyFrame, work: Callable[[Any], object]) -> None:
    """Change the state of a room."""
    frame.exec_async(lambda _, state: work(state))
