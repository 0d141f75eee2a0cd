"""The contract of a backplane, checked for each backplane that there is."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import pytest

from hubthread import MemoryBackplane, NotOwner, RedisBackplane, UsageError
from hubthread.backplane.interfaces import BackplaneLink, LeaseAnswer, Message
from hubthread.backplane.memory import MemoryLink
from hubthread.backplane.redis.backplane import RedisLink
from hubthread.concurrency.calls import wait_for
from hubthread.history import History, Position
from hubthread.protocol.frames import Frame
from hubthread.testing import FakeClock
from hubthread.testing.backplane import VirtualBackplane, VirtualLink
from tests.support.backplanes import Host
from tests.support.redis_server import RedisServer
from tests.support.waiting import TIMEOUT, Items, tries

KEEP = History(size=5, ttl=60.0)


class Now:
    """A clock that the test moves, with the time of the server if there is one."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.server: RedisServer | None = None
        self.clock: FakeClock | None = None

    def __call__(self) -> float:
        return self._seconds

    @property
    def seconds(self) -> float:
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        if self.server is not None:
            self.server.age(seconds - self._seconds)
        if self.clock is not None:
            self.clock.advance(seconds - self._seconds)
        self._seconds = seconds


class Seen:
    """A receiver that remembers what has arrived."""

    has_presence = True

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.start: Position | None = None
        self.texts: list[str] = []
        self.places: list[Position] = []
        self.numbers: list[int | None] = []
        self.meanwhile: Callable[[], object] | None = None
        self.members: dict[str, str] = {}
        self.changes: list[str] = []
        self.count = 0
        self.no_place: list[int] = []

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        assert self.start is None
        with self._changed:
            self.start = position
            self._changed.notify_all()

    def until(self, offset: int) -> None:
        """Wait until the message with this offset has arrived."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: self.start is not None and self.last.offset >= offset, TIMEOUT
            )

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        with self._changed:
            for place, message in enumerate(messages):
                self.texts.append(str(message.frame.payload))
                self.places.append(Position(first.epoch, first.offset + place))
                self.numbers.append(None if number is None else number + place)
        self._call_meanwhile()
        with self._changed:
            self._changed.notify_all()

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        raise AssertionError("nothing is lost here")

    def refused(self, number: int) -> None:
        self.no_place.append(number)

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        raise AssertionError("nothing is shown here")

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """Apply a change, as a receiver has to: what it knows is no change."""
        with self._changed:
            for key in came:
                if key not in self.members:
                    self.changes.append(f"+{key}")
            for key in went:
                if self.members.pop(key, None) is not None:
                    self.changes.append(f"-{key}")
            self.members = {**came, **self.members}
        self._call_meanwhile()
        with self._changed:
            self._changed.notify_all()

    def counted(self, count: int) -> None:
        with self._changed:
            self.count = count
            self._changed.notify_all()

    def who(self) -> tuple[set[str], int]:
        """Return who is in, and the count."""
        with self._changed:
            return set(self.members), self.count

    def until_present(self, members: Collection[str], count: int) -> None:
        """Wait until these are in."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.who() == (set(members), count), TIMEOUT)

    def _call_meanwhile(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    @property
    def last(self) -> Position:
        assert self.start is not None
        return self.places[-1] if self.places else self.start


def publish(link: BackplaneLink, room: str, *texts: str) -> int:
    """Publish each text; return the number of the last."""
    return [link.publish(room, Message(Frame(text, 1), None)) for text in texts][-1]


def latest(link: BackplaneLink, count: int) -> tuple[int, list[str]] | None:
    """Return the offset before the last messages of the room, and their texts."""
    found = link.history("room", count, TIMEOUT)
    if found is None:
        return None
    return found[0].offset, [str(message.frame.payload) for message in found[1]]


class SettledMemoryLink:
    """A link in memory whose calls return when what they began has arrived in every hub."""

    def __init__(self, link: MemoryLink) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._link, name)
        if not callable(method):
            return method

        def settled(*arguments: Any) -> Any:
            result = method(*arguments)
            for room in list(self._link._backplane._rooms.values()):
                room.settle()
            return result

        return settled


class SettledLink:
    """A link to Redis whose calls return when what they began has arrived in every hub."""

    all: ClassVar[list[SettledLink]] = []

    def __init__(self, server: RedisServer, link: RedisLink) -> None:
        self._server = server
        self._link = link
        self.all.append(self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._link, name)
        if not callable(method):
            return method

        def settled(*arguments: Any) -> Any:
            result = method(*arguments)
            if not threading.current_thread().name.startswith("backplane"):
                self._settle()
            return result

        return settled

    def _settle(self) -> None:
        with self._server.client() as client:
            for link in self.all:
                wait_for(link._link._settled, partial(self._is_settled, link._link), TIMEOUT)
            for link in self.all:
                for room in list(link._link._rooms.values()):
                    room.receiver.until(0)  # type: ignore[attr-defined]
                    room.receiver.until(int(client.hget(room.keys.meta, "s")))  # type: ignore[attr-defined]
                    # Read again and again: a callback may have changed the presence meanwhile.
                    assert any(self._is_shown(client, room) for _ in tries())

    @staticmethod
    def _is_shown(client: Any, room: Any) -> bool:
        """Return True if the receiver of a room knows the presence that the server has."""
        fields = client.hgetall(room.keys.presence)
        keys = [name.split(b":", 2)[2].decode() for name in fields if name[:1] == b"m"]
        count = sum(
            int(text.split(b":")[1])
            for name, text in fields.items()
            if name[:1] == b"m" and name.endswith(b":c")
        )
        users = {key[1:] for key in keys if key != "c"}
        return bool(room.receiver.who() == (users, count))

    @staticmethod
    def _is_settled(link: RedisLink) -> bool:
        rooms = list(link._presence.values())
        started = all(room.is_started for room in rooms)
        return not link._waiting and not link.presences.waiting and started


@pytest.fixture
def now() -> Now:
    return Now()


class ClockLink:
    """A link in virtual time whose calls return when what they began has arrived."""

    def __init__(self, clock: FakeClock, link: VirtualLink) -> None:
        self._clock = clock
        self._link = link

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._link, name)
        if not callable(method):
            return method

        def settled(*arguments: Any) -> Any:
            result = method(*arguments)
            self._clock.settle()
            return result

        return settled


@pytest.fixture(params=["memory", "redis", "virtual"])
def links(request: pytest.FixtureRequest, now: Now) -> Iterator[tuple[Any, Any]]:
    if request.param == "virtual":
        if "many_threads" in request.node.name:
            pytest.skip("virtual time has one thread")
        now.clock = clock = FakeClock()
        server = VirtualBackplane(clock)
        made = server.open("one"), server.open("two")
        for each in made:
            each.start(Host())
        yield ClockLink(clock, made[0]), ClockLink(clock, made[1])
        return
    if request.param == "memory":
        backplane = MemoryBackplane()
        links: Any = [SettledMemoryLink(backplane.open(node, now)) for node in ("one", "two")]
        yield links
        for link in links:
            link.close(TIMEOUT)
        return
    now.server = server = request.getfixturevalue("server")
    shared = RedisBackplane(server.url, prefix=secrets.token_hex(4))
    hosts = Host(), Host()
    links = shared.open("one"), shared.open("two")
    for link, host in zip(links, hosts, strict=True):
        link.start(host)
    yield SettledLink(server, links[0]), SettledLink(server, links[1])
    SettledLink.all.clear()
    for link, host in zip(links, hosts, strict=True):
        link.close(TIMEOUT)
        for thread in host.threads:
            thread.join(TIMEOUT)


Links = tuple[BackplaneLink, BackplaneLink]


def test_publish_reaches_every_hub_in_one_order_with_contiguous_offsets(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)

    numbers = [
        publish(one, "room", "a", "b"),
        publish(two, "room", "c"),
        publish(one, "room", "d"),
    ]

    assert numbers == [2, 1, 3]
    assert here.texts == there.texts == ["a", "b", "c", "d"]
    assert here.start is not None
    assert here.places == there.places == [Position(here.start.epoch, n) for n in (1, 2, 3, 4)]
    assert (here.numbers, there.numbers) == ([1, 2, None, 3], [None, None, 1, None])


def test_publish_from_many_threads_keeps_each_threads_order(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", None, here)
    two.attach("room", None, there)
    start = threading.Barrier(4)

    def publish_all(link: BackplaneLink, name: str) -> None:
        start.wait()
        for number in range(200):
            publish(link, "room", f"{name} {number}")

    threads = [
        threading.Thread(target=publish_all, args=(link, name))
        for link, name in ((one, "a"), (one, "b"), (two, "c"), (two, "d"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert here.texts == there.texts
    assert [place.offset for place in here.places] == list(range(1, 801))
    for name in "abcd":
        own = [text for text in here.texts if text.startswith(name)]
        assert own == [f"{name} {number}" for number in range(200)]
    assert [number for number in here.numbers if number] == list(range(1, 401))


def test_publish_inside_arrived_arrives_afterwards_everywhere(links: Links) -> None:
    """As from a finaliser or a signal handler that runs on the publishing thread."""
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)
    numbers = []
    here.meanwhile = lambda: numbers.append(publish(one, "room", "inner"))

    numbers.append(publish(one, "room", "outer"))

    assert numbers == [2, 1]

    assert here.texts == there.texts == ["outer", "inner"]
    assert [place.offset for place in there.places] == [1, 2]


def test_rooms_share_nothing(links: Links) -> None:
    one, _ = links
    here, other = Seen(), Seen()
    one.attach("room", KEEP, here)
    one.attach("other", KEEP, other)

    publish(one, "other", "a")

    assert (here.texts, other.texts) == ([], ["a"])
    assert here.last.epoch != other.last.epoch
    assert latest(one, 1) == (0, [])


def test_history_returns_the_latest_messages_to_each_hub(links: Links) -> None:
    one, two = links
    seen = Seen()
    one.attach("room", KEEP, seen)
    publish(one, "room", *"abc")

    for link in (one, two):
        assert latest(link, 5) == (0, ["a", "b", "c"])
        assert latest(link, 2) == (1, ["b", "c"])
    found = one.history("room", 1, TIMEOUT)
    assert found is not None
    assert found[0].epoch == seen.last.epoch


def test_history_of_more_entries_than_a_page_is_whole(links: Links) -> None:
    one, two = links
    seen = Seen()
    one.attach("room", History(), seen)
    expected = [f"{number}" for number in range(300)]
    for text in expected:
        publish(one, "room", text)

    assert latest(two, 300) == (0, expected)
    assert latest(two, 200) == (100, expected[100:])


def test_history_of_a_room_that_was_trimmed_is_what_is_left(links: Links) -> None:
    one, _ = links
    seen = Seen()
    one.attach("room", KEEP, seen)
    publish(one, "room", *"abcdef")  # one more than it keeps

    assert latest(one, 5) == (1, list("bcdef"))
    assert one.history("nowhere", 5, TIMEOUT) is None


def test_history_is_bounded_in_bytes(links: Links) -> None:
    one, _ = links
    seen = Seen()
    one.attach("room", History(size=100, max_bytes=1000), seen)
    publish(one, "room", *(letter * 400 for letter in "wxyz"))

    assert latest(one, 4) == (2, ["y" * 400, "z" * 400])


def test_history_is_forgotten_after_its_ttl_but_offsets_go_on(links: Links, now: Now) -> None:
    one, _ = links
    seen = Seen()
    one.attach("room", KEEP, seen)
    publish(one, "room", "a", "b")
    now.seconds = 61.0

    assert latest(one, 5) == (2, [])
    publish(one, "room", "c")
    assert seen.last.offset == 3


def test_room_outlives_its_hubs_for_the_ttl(links: Links, now: Now) -> None:
    one, two = links
    first, second, third = Seen(), Seen(), Seen()
    one.attach("room", KEEP, first)
    publish(one, "room", "a")
    one.detach("room")
    now.seconds = 40.0  # the real server takes some seconds, too
    two.attach("room", KEEP, second)

    assert second.start == first.last
    assert latest(two, 5) == (0, ["a"])

    two.detach("room")
    now.seconds = 130.0
    one.attach("room", KEEP, third)
    assert third.start is not None
    assert third.start.epoch != first.last.epoch or latest(one, 5) == (1, [])


def test_detach_stops_arrivals(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)
    one.detach("room")
    one.detach("room")  # nothing happens
    publish(two, "room", "a")

    assert (here.texts, there.texts) == ([], ["a"])
    with pytest.raises(UsageError, match="'room' is not attached: call attach first"):
        publish(one, "room", "b")


def test_close_detaches_every_room(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    for room in ("room", "other"):
        one.attach(room, KEEP, here if room == "room" else Seen())
    two.attach("room", KEEP, there)
    one.close(TIMEOUT)
    publish(two, "room", "a")

    assert (here.texts, there.texts) == ([], ["a"])


def test_attach_twice_is_refused(links: Links) -> None:
    one, _ = links
    one.attach("room", KEEP, Seen())
    with pytest.raises(UsageError, match="'room' is attached already"):
        one.attach("room", KEEP, Seen())


def test_present_tells_every_hub_who_came_and_who_went(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", None, there)
    one.present("room", {"ann": '{"age":7}', "bob": "null"}, ())
    two.present("room", {"eve": "null"}, ())
    one.present("room", {"dan": "null"}, ["bob"])

    for seen in (here, there):
        assert seen.members == {"ann": '{"age":7}', "eve": "null", "dan": "null"}
        assert seen.changes == ["+ann", "+bob", "+eve", "+dan", "-bob"]


def test_present_user_of_two_hubs_is_in_until_both_have_said_that_it_went(links: Links) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)
    one.present("room", {"ann": '"first"'}, ())
    two.present("room", {"ann": '"second"'}, ())
    one.present("room", {}, ["ann"])
    assert here.members == there.members == {"ann": '"first"'}
    one.present("room", {}, ["ann"])  # said twice
    two.present("room", {}, ["ann", "nobody"])

    assert here.changes == there.changes == ["+ann", "-ann"]


def test_attach_tells_who_is_in(links: Links) -> None:
    one, two = links
    there = Seen()
    one.attach("room", KEEP, Seen())
    one.present("room", {"ann": "1", "bob": "2"}, ())
    one.count("room", 5)
    two.attach("room", KEEP, there)

    assert (there.members, there.count) == ({"ann": "1", "bob": "2"}, 5)


@pytest.mark.parametrize("end", ["detach", "close"])
def test_hub_that_ends_takes_its_own_along(links: Links, end: str) -> None:
    one, two = links
    there = Seen()
    one.attach("room", KEEP, Seen())
    two.attach("room", KEEP, there)
    one.present("room", {"ann": "1", "bob": "2"}, ())
    two.present("room", {"bob": "3"}, ())
    one.count("room", 5)
    two.count("room", 2)
    assert there.count == 7
    if end == "detach":
        one.detach("room")
    else:
        one.close(TIMEOUT)
    one.present("room", {"eve": "1"}, ())  # nothing happens
    one.count("room", 9)

    assert (there.members, there.count) == ({"bob": "2"}, 2)
    assert there.changes == ["+ann", "+bob", "-ann"]


def test_present_inside_present_is_told_afterwards_everywhere(links: Links) -> None:
    """As from a signal handler that runs on the thread that tells."""
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)
    here.meanwhile = lambda: one.present("room", {}, ["ann"])
    one.present("room", {"ann": "1"}, ())

    here.until_present((), 0)
    there.until_present((), 0)
    assert here.changes == ["+ann", "-ann"]
    assert there.changes in (["+ann", "-ann"], [])  # or it has heard of both at once


def test_presence_of_rooms_is_apart(links: Links) -> None:
    one, _ = links
    here, other = Seen(), Seen()
    one.attach("room", KEEP, here)
    one.attach("other", KEEP, other)
    one.present("room", {"ann": "1"}, ())

    assert (here.members, other.members) == ({"ann": "1"}, {})


def test_letters_go_to_the_hubs_that_hear_the_box(links: Links) -> None:
    one, two = links
    heard: Items[tuple[str, bytes]] = Items()

    def tell(box: str, letter: bytes) -> int | None:
        reached: Items[int | None] = Items()
        one.tell(box, letter, reached.add)
        return reached.wait(1)[0]

    def settle(box: str, hubs: int) -> None:
        """Tell until the server knows the hubs that hear the box."""
        assert any(tell(box, b"") == hubs for _ in tries())

    one.listen("ann", lambda letter: heard.add(("one", letter)))
    two.listen("ann", lambda letter: heard.add(("two", letter)))
    two.listen("bob", lambda letter: heard.add(("two", b"bob " + letter)))
    settle("ann", 2)
    settle("bob", 1)
    for letter in (b"1", b"2:\r\n", b"3"):
        assert tell("ann", letter) == 2
    assert tell("bob", b"4") == 1
    heard.until(lambda found: ("two", b"bob 4") in found and ("one", b"3") in found)
    for name, bob in (("one", []), ("two", [b"bob 4"])):
        letters = [letter for hub, letter in heard.now() if hub == name and letter.strip(b"bo ")]
        assert letters == [b"1", b"2:\r\n", b"3", *bob]
    two.unlisten("ann")
    settle("ann", 1)
    assert tell("nobody", b"") == 0


def keep_first(link: BackplaneLink) -> None:
    """Keep a record until it is there: before the server is reached none is kept."""

    def kept() -> bool:
        link.keep("first", b"", 60.0)
        return link.take("first", TIMEOUT) is not None

    assert any(kept() for _ in tries())


def test_record_is_the_own_of_the_hub_that_has_kept_or_taken_it_last(links: Links) -> None:
    one, two = links

    def until(link: BackplaneLink, key: str, found: tuple[str, bytes] | None) -> None:
        """Take until the server has done what was asked before."""
        assert any(link.take(key, TIMEOUT) == found for _ in tries())

    keep_first(one)
    one.keep("a", b"1\n\xff", 60.0)
    one.keep("a", b"2\n\xff", 60.0)
    until(one, "a", (one.node, b"2\n\xff"))
    assert two.take("b", TIMEOUT) is None
    assert two.take("a", TIMEOUT) == (one.node, b"2\n\xff")
    assert two.take("a", TIMEOUT) == (two.node, b"2\n\xff")
    one.keep("a", b"3", 60.0)
    one.drop("a", 60.0)
    one.keep("b", b"", 60.0)
    until(one, "b", (one.node, b""))  # the server has seen the two before, too
    assert one.take("a", TIMEOUT) == (two.node, b"2\n\xff")
    one.drop("a", 60.0)
    until(one, "a", None)


def test_record_is_forgotten_in_time(links: Links, now: Now) -> None:
    one, two = links
    keep_first(one)
    one.keep("a", b"a", 200.0)
    one.keep("b", b"b", 600.0)
    assert any(one.take("b", TIMEOUT) for _ in tries())
    now.seconds += 150.0  # the real server takes some seconds, too
    assert two.take("a", TIMEOUT) == (one.node, b"a")  # which makes it no younger
    now.seconds += 100.0
    assert two.take("a", TIMEOUT) is None
    assert two.take("b", TIMEOUT) == (one.node, b"b")


def lease(
    link: BackplaneLink, token: int = 0, seconds: float = 60.0, saved: bytes | None = None
) -> LeaseAnswer:
    """Take, renew or give up the lease of the room."""
    told: Items[LeaseAnswer | None] = Items()
    link.lease("room", token, seconds, told.add, saved)
    (answer,) = told.wait(1)
    assert answer is not None
    return answer


def test_lease_has_one_hub_at_a_time_and_tokens_that_rise(links: Links, now: Now) -> None:
    one, two = links
    keep_first(one)
    first = lease(one)
    assert first.token > 0
    assert first == LeaseAnswer(True, first.token, 60.0, b"")
    held = lease(two)
    assert (held.held, held.token) == (False, first.token)
    assert 0 < held.seconds <= 60.0
    assert lease(one).token == first.token  # the answer before was lost, say
    now.seconds += 40.0
    assert lease(one, first.token).held
    now.seconds += 40.0
    assert not lease(two).held
    now.seconds += 40.0
    assert lease(one, first.token).held  # it has ended, but no other hub came
    now.seconds += 70.0
    second = lease(two)
    assert second.token > first.token
    assert not lease(one, first.token).held
    assert lease(two, second.token, 0.0) == LeaseAnswer(True, second.token, 0.0)
    assert lease(one).token > second.token
    assert not lease(two, second.token, 0.0).held  # too late: nothing is given up
    assert not lease(two).held
    assert one.server_age() == float("inf")


def test_lease_saved_state_is_that_of_the_last_owner(links: Links, now: Now) -> None:
    one, two = links
    keep_first(one)
    first = lease(one).token
    lease(one, first, saved=b"1\r\n\xff")
    lease(one, first)
    now.seconds += 70.0
    second = lease(two)
    assert second.saved == b"1\r\n\xff"
    assert not lease(one, first, saved=b"late").held
    lease(two, second.token, 0.0, saved=b"")
    assert lease(one).saved == b""


def test_push_of_a_hub_that_has_lost_the_lease_has_no_place(links: Links, now: Now) -> None:
    one, two = links
    here, there = Seen(), Seen()
    one.attach("room", KEEP, here)
    two.attach("room", KEEP, there)
    publish(one, "room", "of any hub")
    first = lease(one).token

    def owned(link: BackplaneLink, text: str, token: int) -> int | None:
        try:
            return link.publish("room", Message(Frame(text, 1), token=token))
        except NotOwner:  # in memory it is known at once
            return None

    owned(one, "by its owner", first)
    now.seconds += 70.0
    owned(one, "nobody has it", first)
    second = lease(two).token
    refused = owned(one, "too late", first)
    owned(one, "too late again", first)
    owned(two, "by the next", second)
    publish(one, "room", "of any hub, again")
    texts = ["of any hub", "by its owner", "nobody has it", "by the next", "of any hub, again"]
    assert here.texts == there.texts == texts
    if refused is not None:
        assert here.no_place[-1] == refused + 1
        assert here.numbers == [1, 2, 3, None, 6]
    assert there.no_place == []
