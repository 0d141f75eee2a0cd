"""The demo's chat over real WebSockets: rooms, history, bad input."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hubthread import Server, demo
from hubthread.demo import Demo
from hubthread.demo.chat import GRACE, LONGEST_KEY, LONGEST_MESSAGE
from hubthread.demo.users import HISTORY, LONGEST_NAME
from hubthread.testing import VirtualClient, VirtualHub
from tests.demo import Message, Page


def rooms(message: Message) -> dict[str, int]:
    return {room["name"]: room["people"] for room in message["rooms"]}


# Rooms.


def test_chat_new_client_gets_rooms(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        assert rooms(ada.until("rooms")) == {}
        ada.join("ada", "lobby")
        assert rooms(ada.until("rooms")) == {"lobby": 1}
        grace.join("grace", "tea")
        # Changes that pile up share one list; the last list is right.
        while rooms(ada.until("rooms")) != {"lobby": 1, "tea": 1}:
            pass


def test_chat_join_and_leave_are_told(server: Server) -> None:
    with Page(server.url) as ada:
        joined = ada.join("ada", "lobby")
        assert joined["people"] == ["ada"]
        with Page(server.url) as grace:
            assert grace.join("grace", "lobby")["people"] == ["ada", "grace"]
            assert ada.until("came")["nick"] == "grace"
            grace.say("hello")
            said = ada.until("said")
            assert (said["nick"], said["text"]) == ("grace", "hello")
        assert ada.until("went")["nick"] == "grace"


def test_chat_lost_line_within_the_grace_is_not_noticed_and_misses_nothing() -> None:
    with Demo(VirtualHub).hub as hub:
        assert isinstance(hub, VirtualHub)

        def join(key: str) -> VirtualClient:
            client = hub.connect()
            client.send(json.dumps({"type": "join", "nick": key, "room": "lobby", "key": key}))
            return client

        def told(client: VirtualClient, *kinds: str) -> list[Message]:
            messages = [json.loads(text) for text in client.messages()]
            return [each for each in messages if each["type"] in kinds]

        ada, grace = join("ada"), join("grace")
        [before] = told(grace, "joined")
        grace.drop()
        hub.advance(GRACE - 1)
        ada.send('{"type":"say","text":"are you there?"}')
        grace = join("grace")
        [joined] = told(grace, "joined")
        assert (joined["nick"], joined["run"]) == ("grace", before["run"])
        assert [(each["seq"], each["text"]) for each in joined["messages"]] == [
            (before["seq"] + 1, "are you there?")
        ]
        hub.advance(GRACE + 1)
        assert [each["nick"] for each in told(ada, "came", "went")] == ["grace"]

        grace.drop()
        hub.advance(GRACE + 1)
        assert [each["nick"] for each in told(ada, "went")] == ["grace"]
        stranger = hub.connect()
        stranger.send('{"type":"join","nick":"ada","room":"lobby","key":"another"}')
        [joined] = told(stranger, "joined")
        assert joined["nick"] == "ada-2"
        ada.send('{"type":"leave"}')
        assert [each["nick"] for each in told(stranger, "went")] == ["ada"]


def test_chat_message_stays_in_room(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        ada.join("ada", "lobby")
        grace.join("grace", "tea")
        grace.say("in here")
        grace.until("said")
        ada.say("out there")
        ada.until("said")
        assert [each["text"] for each in ada.messages] == ["out there"]


def test_chat_join_other_room_leaves_former(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        ada.join("ada", "lobby")
        grace.join("grace", "lobby")
        assert grace.join("grace", "tea")["people"] == ["grace"]
        assert ada.until("went")["nick"] == "grace"
        ada.say("gone?")
        ada.until("said")
        grace.say("yes")
        assert grace.until("said")["text"] == "yes"


def test_chat_taken_nick_gets_number(server: Server) -> None:
    with Page(server.url) as one, Page(server.url) as two, Page(server.url) as three:
        assert one.join("ada", "lobby")["nick"] == "ada"
        assert two.join("ADA", "lobby")["nick"] == "ADA-2"
        assert three.join("  ada ", "lobby")["nick"] == "ada-3"
        # A user may keep the nick, and it is free in another room.
        assert two.join("ada", "tea")["nick"] == "ada"
        assert one.join("ada", "lobby")["nick"] == "ada"


def test_chat_room_name_ignores_case(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        ada.join("ada", "Lobby")
        joined = grace.join("grace", "LOBBY")
        assert joined["room"] == "Lobby"
        assert joined["people"] == ["ada", "grace"]


def test_chat_empty_room_is_closed(site: Demo, server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as watcher:
        ada.join("ada", "attic")
        ada.say("anybody?")
        ada.until("said")
        ada.join("ada", "lobby")
        while rooms(watcher.until("rooms")) != {"lobby": 1}:
            pass
        assert site.hub.statistics().hotlines == 2  # the arena too
        assert watcher.join("grace", "attic")["messages"] == []


def test_chat_new_nick_keeps_messages(server: Server) -> None:
    with Page(server.url) as ada:
        ada.join("ada", "lobby")
        ada.say("still here")
        ada.until("said")
        joined = ada.join("countess", "lobby")
        assert joined["people"] == ["countess"]
        assert [each["text"] for each in joined["messages"]] == ["still here"]


def test_chat_room_keeps_last_messages(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        ada.join("ada", "lobby")
        for number in range(HISTORY + 5):
            ada.say(str(number))
        ada.until("said", text=str(HISTORY + 4))
        kept = grace.join("grace", "lobby")["messages"]
        assert [each["text"] for each in kept] == [str(each) for each in range(5, HISTORY + 5)]


# Under load.


def together(*works: Callable[[], object]) -> None:
    """Run all works at once, each on a thread; raise the first exception."""
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result()


def assert_whole(joined: Message, events: list[Message], witness: Page) -> None:
    """Assert that a page saw the same events as ``witness``, from its join on."""
    first = joined["seq"]
    assert [event["seq"] for event in events] == [*range(first + 1, first + 1 + len(events))]
    truth = {event["seq"]: event for event in witness.events}
    assert events == [truth[event["seq"]] for event in events]
    said = [event for event in witness.events if event["type"] == "said"]
    assert joined["messages"] == [each for each in said if each["seq"] <= first][-HISTORY:]


def test_chat_history_and_events_have_no_gap(server: Server) -> None:
    talkers, count, rounds = 3, 60, 6
    ready = threading.Barrier(talkers + 2)

    def talk(nick: str) -> None:
        with Page(server.url) as page:
            page.join(nick, "lobby")
            ready.wait()
            for number in range(count):
                page.say(f"{nick} {number}")
            page.until("said", nick=nick, text=f"{nick} {count - 1}")

    with Page(server.url) as witness:
        witness.join("witness", "lobby")
        seen: list[Page] = []

        def come_and_go() -> None:
            ready.wait()
            for number in range(rounds):
                with Page(server.url) as page:
                    page.join(f"guest {number}", "lobby")
                    for _ in range(5 * number):
                        page.say("me too")
                    page.say(f"bye from {number}")
                    page.until("said", text=f"bye from {number}")
                    seen.append(page)

        together(come_and_go, *[lambda n=n: talk(f"t{n}") for n in range(talkers)], ready.wait)
        witness.say("that was all")
        witness.until("said", text="that was all")
        for page in seen:
            assert_whole(page.joined, page.events, witness)
        assert len(seen) == rounds


def test_chat_room_left_and_entered_at_once_is_one_room(site: Demo, server: Server) -> None:
    def come_and_go(number: int) -> None:
        with Page(server.url) as page:
            for _ in range(10):
                page.join(f"guest {number}", "door")
                page.say("in")
                page.until("said", nick=f"guest {number}")
                page.join(f"guest {number}", f"own {number}")

    together(*[lambda n=n: come_and_go(n) for n in range(4)])
    with Page(server.url) as page:
        page.join("last", "door")
        while rooms(page.until("rooms")) != {"door": 1}:
            pass
        assert site.hub.statistics().hotlines == 2  # the arena too
        assert page.joined["people"] == ["last"]


# Bad input.


@pytest.mark.parametrize(
    ("text", "about", "told"),
    [
        ("hello", None, "not JSON"),
        ("[1]", None, "no header"),
        ("{}", None, "no header"),
        ('{"type": "dance"}', "dance", "known: 'join', 'leave', 'say', 'statistics'"),
        ('{"type": "join", "room": "lobby"}', "join", "the field 'nick' is missing"),
        ('{"type": "join", "nick": 1, "room": "r"}', "join", "expected str, got int"),
        ('{"type": "join", "nick": " ", "room": "r"}', "join", "nick: 1 to 32 printable"),
        ('{"type": "join", "nick": "a", "room": ""}', "join", "room: 1 to 32 printable"),
        ('{"type": "join", "nick": "a\\u202eb", "room": "r"}', "join", "nick: 1 to 32 printable"),
        ('{"type": "join", "nick": "a", "room": "\\u0000"}', "join", "room: 1 to 32 printable"),
        (
            json.dumps({"type": "join", "nick": "a", "room": "r", "key": "k" * (LONGEST_KEY + 1)}),
            "join",
            "key: at most 64 characters",
        ),
        ('{"type": "say", "text": "too early"}', None, "Join a room first."),
        ('{"type": "say", "text": " \\n "}', "say", "text: 1 to 2,000 characters"),
        ('{"type": "say", "text": "\\u001b[31m"}', "say", "text: no control characters"),
        ('{"type": "say", "text": "\\ud83d"}', None, "surrogate"),
    ],
)
def test_chat_bad_input_gets_error_and_keeps_connection(
    server: Server, text: str, about: str | None, told: str
) -> None:
    with Page(server.url) as page:
        page.send_text(text)
        error = page.until("error")
        assert error["about"] == about
        assert told in error["text"]
        assert page.join("ada", "lobby")["nick"] == "ada"


def test_chat_names_and_messages_have_longest_length(server: Server) -> None:
    with Page(server.url) as page:
        page.send("join", nick="a" * (LONGEST_NAME + 1), room="lobby")
        assert page.until("error")["text"] == "nick: 1 to 32 printable characters"
        page.join("a" * LONGEST_NAME, "r" * LONGEST_NAME)
        page.say("🙂" * (LONGEST_MESSAGE + 1))
        assert page.until("error")["text"] == "text: 1 to 2,000 characters"
        page.say("🙂" * LONGEST_MESSAGE)
        assert page.until("said")["text"] == "🙂" * LONGEST_MESSAGE


def test_chat_oversized_message_closes_with_1009(site: Demo) -> None:
    # Without the fixture that forbids warnings, because 1009 is one.
    with demo.serve(site, "127.0.0.1", 0) as server, Page(server.url) as page:
        page.say("a" * 40_000)
        assert page.until_closed() == 1009


# Statistics.


def test_chat_statistics_show_each_connection(server: Server) -> None:
    with Page(server.url) as ada, Page(server.url) as grace:
        joined = ada.join("ada", "lobby")
        grace.until("rooms")
        ada.send("statistics")
        figures = ada.until("statistics")
        assert (figures["clients"], figures["rooms"]) == (2, 2)
        one, other = sorted(figures["connections"], key=lambda each: each["id"] != joined["id"])
        assert one["id"] == joined["id"]
        assert (one["nick"], one["room"], one["rooms"]) == ("ada", "lobby", 1)
        assert (one["received"], one["waiting"]) == (2, 0)
        assert one["written"] >= 2
        assert (other["nick"], other["room"], other["rooms"]) == ("", "", 0)
        assert "127.0.0.1" not in json.dumps(figures)
