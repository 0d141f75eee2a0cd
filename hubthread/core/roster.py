"""One hub's picture of the users in a shared room.

Layer: core.  Threads: the lock of the room's sequencer guards it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from hubthread.presence import PresenceChange, PresenceState

__all__ = ["Roster"]


class Roster:
    """The users in a room, or their number, and the version of this picture.

    A join of a user that is in already changes nothing.  So joins and leaves of a user alternate,
    and each change has the next version (G12).

    :param counts: True for a picture that is only a number.
    """

    def __init__(self, room: str, *, counts: bool) -> None:
        self._room = json.dumps(room)
        self._counts = counts
        self._members: dict[str, str] = {}  # the JSON text about each user
        self._count = 0
        self._version = 0
        self._fields: str | None = None  # see ``fields``

    def change(
        self, came: Mapping[str, str], went: Collection[str]
    ) -> tuple[str, PresenceChange] | None:
        """Note the users that came and went.

        :returns: the message for clients, and the change; None if nothing has changed.
        """
        if self._counts:  # another hub has the room with another mode
            return None
        members = self._members
        new = {key: info for key, info in came.items() if key not in members}
        gone = tuple(key for key in went if key in members)
        if not new and not gone:
            return None
        members.update(new)
        for key in gone:
            del members[key]
        self._count = len(members)
        fields = f'"came":{_joined(new)},"went":{json.dumps(gone, separators=(",", ":"))}'
        return self._changed(fields, {key: json.loads(info) for key, info in new.items()}, gone)

    def counted(self, count: int) -> tuple[str, PresenceChange] | None:
        """Note the number of users; otherwise as ``change``."""
        if not self._counts or count == self._count:
            return None
        self._count = count
        return self._changed(f'"present":{count}', {}, ())

    def _changed(
        self, fields: str, came: dict[str, Any], went: tuple[str, ...]
    ) -> tuple[str, PresenceChange]:
        self._version += 1
        self._fields = None
        version = self._version
        text = f'{{"type":"hub:members","room":{self._room},"v":{version},{fields}}}'
        return text, PresenceChange(version, came, went, self._count)

    def state(self) -> PresenceState:
        """Return the picture for a program."""
        members = {key: json.loads(info) for key, info in self._members.items()}
        return PresenceState(self._version, members, self._count)

    def fields(self) -> str:
        """Return the picture for a client that joins: fields of a JSON object."""
        fields = self._fields
        if fields is None:  # made once for all clients that join before the next change
            picture = f'"members":{_joined(self._members)}'
            if self._counts:
                picture = f'"present":{self._count}'
            fields = self._fields = f'"v":{self._version},{picture}'
        return fields


def _joined(members: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{info}" for key, info in members.items()) + "}"
