"""The rooms of a client: joining, the limit, and the end of the connection."""

from __future__ import annotations

from typing import Any

from hubthread import HotlineClosed
from hubthread.clients.membership import Memberships


class Room:
    """A room that records its members; a closed room refuses leaves."""

    def __init__(self, *, closed: bool = False) -> None:
        self.members: list[Any] = []
        self.room = self
        self.closed = closed

    def join(self, client: Any) -> None:
        if client not in self.members:
            self.members.append(client)

    def leave(self, client: Any) -> None:
        if self.closed:
            raise HotlineClosed("the room is closed")
        self.members.remove(client)


class Client(str):
    """A client that is equal to its name."""

    on_rooms = None


def rooms_of(name: str, most: int | None = None) -> Any:
    return Memberships(Client(name), most)


def test_memberships_enter_and_leave_change_room() -> None:
    rooms, room = rooms_of("ada"), Room()
    assert rooms.enter(room, room.join)
    assert (room.members, len(rooms)) == (["ada"], 1)
    rooms.leave(room)
    assert (room.members, len(rooms)) == ([], 0)


def test_memberships_full_refuses_other_room_only() -> None:
    rooms, first, second = rooms_of("ada", most=1), Room(), Room()
    assert rooms.enter(first, first.join)
    assert rooms.hotlines() == (first,)
    assert not rooms.enter(second, second.join)
    assert rooms.enter(first, first.join)
    rooms.leave(first)
    assert rooms.enter(second, second.join)
    assert (first.members, second.members) == ([], ["ada"])


def test_memberships_end_leaves_every_room_and_refuses_joins() -> None:
    rooms, entered = rooms_of("ada"), [Room(), Room()]
    for room in entered:
        rooms.enter(room, room.join)
    rooms.end()
    late = Room()
    assert rooms.enter(late, late.join)  # ignored: the connection has ended
    assert rooms.hotlines() == tuple(entered)  # those at the end
    assert [room.members for room in (*entered, late)] == [[], [], []]
    assert rooms.ended
    assert len(rooms) == 0


def test_memberships_leave_closed_room_is_forgotten() -> None:
    rooms, room = rooms_of("ada"), Room(closed=True)
    rooms.enter(room, room.join)
    rooms.end()
    assert len(rooms) == 0
