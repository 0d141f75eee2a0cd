"""Several connections and hubs that ask for one client at the same time, on real threads."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubthread import Hub, HubSetting, MemoryBackplane, Server, Sessions
from hubthread.hub import session_moves, session_sink, session_table
from hubthread.hub.session import key_of
from tests.support.peers import RawPeer, connect
from tests.support.waiting import TIMEOUT, Gate, Items, Notes

Node = tuple[Hub[Any, Any], Server]

kept: Items[str] = Items()
"""The keys of the records that the hubs have kept."""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Makes hubs with threads on one backplane, each with a server."""
    for module in (session_moves, session_table):  # a busy machine is no slow hub
        monkeypatch.setattr(module, "WAIT", TIMEOUT)
    backplane, stack = MemoryBackplane(), contextlib.ExitStack()
    sessions = Sessions(save=lambda ctx, meta: meta, load=lambda ctx, moved: moved.saved)

    def node(**fields: Any) -> Node:
        setting = HubSetting[Any, Any](
            dict,
            backplane=backplane,
            sessions=sessions,
            on_connection_start=lambda ctx, meta: meta.update(name="ada"),
            on_connection_resume=lambda ctx, meta: ctx.write_json(meta),
            **fields,
        )
        hub = stack.enter_context(Hub(setting))
        link: Any = hub._core.sharing.link()
        keep = link.keep

        def note(key: str, record: bytes, seconds: float) -> None:
            keep(key, record, seconds)
            kept.add(key)

        link.keep = note
        return hub, stack.enter_context(hub.serve())

    with stack:
        yield node


def line(node: Node) -> RawPeer:
    """Connect without a hello."""
    return RawPeer(connect(node[1]), "/", "Sec-WebSocket-Protocol: hubthread.1")


def hello(peer: RawPeer, **fields: Any) -> None:
    peer.send(json.dumps({"type": "hub:hello", "v": 1, **fields}))


@contextlib.contextmanager
def greet(node: Node, token: str | None = None) -> Iterator[RawPeer]:
    """Connect, and say hello."""
    with line(node) as peer:
        hello(peer, **({} if token is None else {"resume": token}))
        yield peer


def answer(peer: RawPeer) -> Any:
    return json.loads(peer.message())


def begin(peer: RawPeer) -> Any:
    """Return the answer to the hello of a new client, when its record is kept."""
    found = answer(peer)
    kept.until(lambda keys: key_of(found["session"]) in keys)
    return found


def new_session(node: Node) -> Any:
    """Return the answer to the hello of a client that has gone away again."""
    with greet(node) as peer:
        return begin(peer)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Notes:
    """Notes each wait for a session that is on its way."""
    module: Any = session_table
    notes, wait_for = Notes(), module.wait_for

    def wait(*arguments: Any) -> Any:
        notes("waits")
        return wait_for(*arguments)

    monkeypatch.setattr(module, "wait_for", wait)
    return notes


def hold_calls(node: Node) -> Gate:
    """Let the questions of a hub to others stop at a gate."""
    letters: Any = node[0]._core.letters
    call, gate = letters.call, Gate()
    letters.call = lambda *arguments: (gate(), call(*arguments))[1]
    return gate


def test_of_two_connections_that_ask_one_hub_the_later_one_gets_the_client(
    nodes: Callable[..., Node], waits: Notes
) -> None:
    one, two = nodes(), nodes()
    before = new_session(one)
    gate = hold_calls(two)
    with greet(two, before["session"]) as first:
        gate.reached()  # the hub before is slow
        with greet(two, before["session"]) as second:
            waits.wait("waits")
            gate.open()
            after = answer(second)
            assert (after["moved"], after["id"]) == (True, before["id"])
            assert answer(second) == {"name": "ada"}
            assert first.closed()[0] == 4001


def test_client_that_ends_while_two_hubs_ask_for_it_is_no_other_hubs(
    nodes: Callable[..., Node], waits: Notes
) -> None:
    one, two, three = nodes(), nodes(), nodes()
    with greet(one) as ada:
        token = begin(ada)["session"]
        gate = hold_calls(two)
        with greet(two, token) as first:
            gate.reached()
            with greet(three, token) as second:
                waits.wait("waits")  # the third asks the second, which waits for the first
                one[0].clients()[0].close(4000)
                gate.open()
                for peer in (first, second):
                    after = answer(peer)
                    assert (after["session"] != token, "moved" in after) == (True, False)


def test_hub_that_is_asked_before_the_client_has_started_gives_the_record_that_it_got(
    nodes: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = nodes(), nodes(), nodes()
    before = new_session(one)
    module: Any = session_sink
    gate, hello_answer = Gate(), module.hello_answer

    def answer_late(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "hello_answer", hello_answer)
        gate()
        return hello_answer(*arguments)

    monkeypatch.setattr(module, "hello_answer", answer_late)
    with greet(two, before["session"]):
        gate.reached()
        with greet(three, before["session"]) as second:
            assert answer(second)["id"] == before["id"]
            assert answer(second) == {"name": "ada"}
        gate.open()


@pytest.mark.parametrize("is_later", [False, True])
def test_connection_whose_token_is_checked_while_another_one_gets_the_client_is_closed(
    nodes: Callable[..., Node], is_later: bool
) -> None:
    """The later one may come again, and gets the client then."""
    gate = Gate()

    def check(ctx: Any, meta: Any, token: str) -> bool:
        if token == "slow":
            gate()
        return True

    one, two = nodes(), nodes(check_token=check)
    token = new_session(one)["session"]
    with line(two) as first, line(two) as second:
        slow, fast = (second, first) if is_later else (first, second)
        hello(slow, token="slow", resume=token)
        gate.reached()
        hello(fast, token="fast", resume=token)
        assert answer(fast)["moved"]
        gate.open()
        assert slow.closed()[0] == (1012 if is_later else 4001)
        with line(two) as third:
            hello(third, token="fast", resume=token)
            assert answer(third)["resumed"]
