"""The order of one room in Redis: batches that come late, twice, never, or in another epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from hubthread.backplane.interfaces import Message
from hubthread.backplane.redis.room import Arrival, Room, entry_arrival, parse_arrival
from hubthread.backplane.redis.scripts import keys_of
from hubthread.backplane.redis.wire import pack, unpack
from hubthread.history import Position
from hubthread.protocol.frames import Frame
from tests.support.backplanes import Recorder, assert_one_order

KEYS = keys_of("shop", "room")


def message(text: str) -> Message:
    return Message(Frame(text, 1))


class Server:
    """A room in Redis: entries, of which the oldest are trimmed."""

    def __init__(self) -> None:
        self.epoch = 1
        self.top = 0
        self.entries: list[Any] = []

    def place(self, origin: str, first: int, texts: list[str]) -> Arrival:
        self.top += len(texts)
        body = b"".join(pack(message(text)) for text in texts)
        name = b"%d-%d" % (self.top, len(texts))
        self.entries.append([name, [b"d", body, b"o", f"{origin}:{first}".encode()]])
        return entry_arrival(f"e{self.epoch}", self.entries[-1])

    def fail_over(self) -> None:
        self.epoch += 1
        self.top = 0
        self.entries = []


class Node:
    """A hub's room, and the batches that are on their way to it."""

    def __init__(self, server: Server, shows: Callable[[], bool] = lambda: False) -> None:
        self.server = server
        self.seen = Recorder()
        self.wanted: list[Room] = []
        told = self.wanted.append, lambda room: None, shows
        self.room = Room("room", KEYS, None, self.seen, *told)
        self.coming: list[Arrival] = []
        self.pushed = 0
        self.room.moved(f"e{server.epoch}", server.top)

    def look(self, page: int) -> tuple[Position, str, int, list[Any]]:
        self.wanted.clear()
        server, since = self.server, self.room.position()
        later = [each for each in server.entries if int(each[0].split(b"-")[0]) > since.offset]
        return since, f"e{server.epoch}", server.top, later[:page]

    def fetch(self, page: int) -> None:
        self.room.fetched(*self.look(page))


KINDS = (
    *("push", "come", "drop", "repeat", "fetch", "ask", "tell"),
    *("trim", "failover", "resend", "answer"),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(1, 4)), max_size=80
)


@given(steps=STEPS)
# The answer of an epoch that the room has never seen comes after a look into the next one.  The
# look has found later messages of the room's own, or none.
@example(
    [
        *[("failover", 0, 1), ("push", 0, 4), ("failover", 0, 1), ("push", 0, 4)],
        *[("fetch", 0, 1), ("answer", 0, 1)],
    ]
)
@example(
    [
        *[("failover", 0, 1), ("push", 0, 4), ("failover", 0, 1), ("fetch", 0, 1)],
        *[("push", 0, 4), ("answer", 0, 1)],
    ]
)
def test_room_tells_one_order_and_each_hole_whatever_comes(
    steps: list[tuple[str, int, int]],
) -> None:
    server = Server()
    nodes = [Node(server) for _ in range(3)]
    unanswered: dict[int, list[Any]] = {}
    looks: list[Any] = []
    for step, which, count in steps:
        node = nodes[which]
        if step == "push":
            texts = [f"{which} {node.pushed + each}" for each in range(1, count + 1)]
            node.pushed += count
            for text in texts:
                node.room.give(message(text), pack(message(text)))
            batch = node.room.next_batch()
            assert batch is not None
            arrival = server.place(node.room.origin, batch.first, texts)
            for other in nodes:
                other.coming.append(arrival)
            if which in unanswered or count == 4:
                unanswered.setdefault(which, []).append((batch, texts, arrival))
            else:
                node.room.placed(batch, arrival.epoch, arrival.last)
        elif step == "resend" and which in unanswered:
            for batch, texts, arrival in unanswered.pop(which):
                if arrival.epoch != f"e{server.epoch}":  # taken by a server that has died
                    arrival = server.place(node.room.origin, batch.first, texts)  # noqa: PLW2901
                    for other in nodes:
                        other.coming.append(arrival)
                node.room.placed(batch, arrival.epoch, arrival.last)
        elif step in ("come", "repeat") and node.coming:
            node.room.came(node.coming[min(count, len(node.coming)) - 1])
            if step == "come":
                node.coming.pop(min(count, len(node.coming)) - 1)
        elif step == "drop":
            del node.coming[:count]
        elif step == "answer" and which in unanswered:
            for batch, _, arrival in unanswered.pop(which):
                node.room.placed(batch, arrival.epoch, arrival.last)
        elif step == "fetch":
            node.fetch(count)
        elif step == "ask":
            looks.append((node, node.look(count)))
        elif step == "tell" and looks:
            late, look = looks.pop(0)
            late.room.fetched(*look)
        elif step == "trim":
            del server.entries[:count]
        elif step == "failover":
            server.fail_over()
            for other in nodes:
                other.coming.clear()
    for which, left in unanswered.items():
        for batch, _, arrival in left:
            nodes[which].room.placed(batch, arrival.epoch, arrival.last)
    for node in nodes:
        node.fetch(1000)
        for _ in range(1000):
            if not node.wanted:
                break
            node.fetch(1000)
        assert node.wanted == []
        assert node.room.position() == Position(f"e{server.epoch}", server.top)
        assert node.room.arrived == node.pushed
    assert_one_order(node.seen for node in nodes)


def test_late_answer_brings_no_epoch_back_that_the_stream_has_passed() -> None:
    server = Server()
    node = Node(server)

    def push(text: str) -> tuple[Any, Arrival]:
        node.room.give(message(text), pack(message(text)))
        batch = node.room.next_batch()
        assert batch is not None
        server.fail_over()
        return batch, server.place(node.room.origin, batch.first, [text])

    late, place = push("first")
    push("second")
    node.fetch(10)
    node.fetch(10)
    node.room.placed(late, place.epoch, place.last)
    assert node.room.position() == Position("e3", 1)
    assert node.seen.texts() == ["second"]


def showing(server: Server) -> tuple[Node, list[None], Callable[[str], None]]:
    """Return a node, a list that is empty once the server is here again, and its push."""
    away = [None]
    node = Node(server, lambda: bool(away))
    room = node.room

    def push(text: str) -> None:
        room.give(message(text), pack(message(text)))
        room.show()

    return node, away, push


def test_members_are_told_of_shown_messages_once_these_have_places_and_the_server_is_here() -> (
    None
):
    server = Server()
    node, away, push = showing(server)
    room = node.room
    away.clear()
    push("1")
    batch = room.next_batch()
    push("2")
    away.append(None)
    room.look_around()
    push("3")
    assert node.seen.shows == [(["1", "2"], 1), (["3"], 3)]
    assert room.show_only(message("4")) == 3
    for each in (batch, room.next_batch()):
        assert each is not None
        texts = ["1"] if each is batch else ["2", "3"]
        arrival = server.place(room.origin, each.first, texts)
        room.placed(each, arrival.epoch, arrival.last)
    assert node.seen.gaps() == 0
    away.clear()
    room.look_around()
    room.look_around()
    assert node.seen.events.now()[-1] == (Position("e1", 3), None, None)
    assert node.seen.gaps() == 1
    assert node.seen.shows[2:] == [(["4"], None)]


def test_messages_of_an_owner_are_not_shown_ahead_of_their_places() -> None:
    node, _, push = showing(Server())
    push("1")
    owned = message("2")._replace(token=7)
    node.room.give(owned, pack(owned))
    push("3")
    assert node.room.show_only(message("4")) is None
    assert node.seen.shows == [(["1"], 1)]


def test_shown_message_that_was_lost_comes_with_its_number_if_its_epoch_comes_back() -> None:
    """The receiver has to know that it was shown, or the members would get it twice."""
    server = Server()
    node, away, push = showing(server)
    room = node.room
    push("1")
    batch = room.next_batch()
    assert batch is not None
    away.clear()
    look = node.look(10)
    arrival = server.place(room.origin, 1, ["1"])
    room.fetched(look[0], "e2", 0, [])  # of the other half of a cluster that has split
    room.placed(batch, arrival.epoch, arrival.last)
    assert room.arrived == 1
    assert node.seen.texts() == []
    node.fetch(10)
    node.fetch(10)
    position, text, number = node.seen.events.now()[-1]
    assert (position, text, number) == (Position("e1", 1), "1", 1)


def test_large_batch_is_fetched_from_the_stream() -> None:
    server = Server()
    node = Node(server)
    arrival = server.place("other", 1, ["large"])
    node.room.came(arrival._replace(body=None))
    assert node.seen.texts() == []
    assert node.wanted == [node.room]
    node.fetch(1)
    assert node.seen.texts() == ["large"]


def test_batch_that_the_stream_does_not_have_is_looked_for_twice() -> None:
    """Else a forged message would make the hub look for ever."""
    server = Server()
    node = Node(server)
    forged = Arrival("e1", 50, 1, "o", 1, pack(message("forged")))
    node.room.came(forged)
    looks = 0
    while node.wanted:
        node.wanted.clear()
        since = node.room.position()
        node.room.fetched(since, "e1", server.top, [])
        looks += 1
        assert looks <= 2
    node.room.came(server.place("other", 1, ["true"]))
    assert node.seen.texts() == ["true"]


def test_pack_keeps_kind_and_key() -> None:
    given_messages = [
        Message(Frame("text ü", 1), "key ü"),
        Message(Frame(b"\x00\xff", 2), b"\x00"),
        Message(Frame("", 1), -5),
        Message(Frame("x" * 70_000, 1)),
    ]
    found = unpack(b"".join(map(pack, given_messages)))
    assert [(each.frame.wire, each.key) for each in found] == [
        (each.frame.wire, each.key) for each in given_messages
    ]


def test_parse_arrival_ignores_what_another_version_has_written() -> None:
    assert parse_arrival(b"1:7:2:e:origin:3:body:x") == Arrival("e", 7, 2, "origin", 3, b"body:x")
    for other in (b"2:7:2:e:origin:3:body", b"", b"1:x:2:e:origin:3:body", b"\xff:::::::"):
        assert parse_arrival(other) is None


def test_room_refused_batch_has_no_place_and_those_around_it_have() -> None:
    server = Server()
    ended: list[Room] = []
    node = Node(server)
    room = Room("room", KEYS, None, node.seen, lambda room: None, ended.append)
    room.moved("e1", 0)
    for text, token in (("a", 0), ("b", 7), ("c", 7), ("d", 8), ("e", 0)):
        one = Message(Frame(text, 1), token=token)
        room.give(one, pack(one))
    batches = [room.next_batch() for _ in range(4)]
    assert room.next_batch() is None
    found = [(batch.first, batch.last, batch.token) for batch in batches if batch is not None]
    assert found == [(1, 1, 0), (2, 3, 7), (4, 4, 8), (5, 5, 0)]
    first, refused, second, last = batches
    assert first is not None
    assert refused is not None
    assert second is not None
    assert last is not None
    room.let_go()
    # The server has placed a push of another hub first, which is missing here.
    server.place("other", 1, ["x"])
    placed = {each: server.place(room.origin, each.first, ["-"]) for each in (first, second)}
    room.placed(first, "e1", placed[first].last)
    room.refused(refused)
    room.placed(second, "e1", placed[second].last)
    room.refused(last)
    assert node.seen.texts() == []
    assert node.seen.refusals.now() == []
    room.fetched(*node.look(10))
    assert node.seen.texts() == ["x", "a", "d"]
    assert node.seen.refusals.now() == [3, 5]
    assert [number for _, text, number in node.seen.events.now() if text] == [None, 1, 4]
    assert ended == [room]
