"""Hubs, rooms and pages for the tests of presence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubthread import (
    Backplane,
    HotlineOption,
    HubSetting,
    IOContext,
    Presence,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from hubthread.testing.clock import FakeClock

PERIOD = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("hubthread.1",)))
CALM = 10.0
"""Virtual seconds after which no diff and no linger is left."""


def user_of(ctx: IOContext, meta: object) -> str | None:
    """The user is the path of the request; a client at ``/`` has none."""
    return ctx.handshake.path[1:] or None


def age_of(ctx: IOContext, meta: object) -> object:
    return {"age": len(ctx.handshake.path)}


def always(ctx: IOContext, meta: object, name: str) -> bool:
    return True


def setting(**fields: Any) -> HubSetting[Any, Any]:
    return HubSetting(dict, user=user_of, may_join=always, websocket_period=PERIOD, **fields)


@contextmanager
def virtual(
    backplane: Backplane | None = None, clock: FakeClock | None = None
) -> Iterator[VirtualHub[Any, Any]]:
    with VirtualHub(setting(backplane=backplane), clock) as hub:
        yield hub


def option(**fields: Any) -> HotlineOption:
    return HotlineOption("room", shared=True, presence=Presence(**fields))


JOIN = '{"type":"hub:join","id":1,"room":"room"}'


class Picture:
    """What a page knows of who is in.  Each diff must have the next version and be a change.

    :param is_holed: True lets versions be missing; then the picture is old until the next join.
    """

    def __init__(self, *, is_holed: bool = False) -> None:
        self.is_holed = is_holed
        self.is_old = False
        self.version = 0
        self.members: dict[str, Any] = {}
        self.present = 0
        self.diffs: list[tuple[dict[str, Any], list[str]]] = []

    def take(self, text: str | bytes) -> None:
        """Apply a message that has come."""
        message = json.loads(str(text))
        kind = message.get("type")  # None: a push in its envelope
        if kind == "hub:join":
            self.is_old = False
            self.version = message["v"]
            self.members = message.get("members", {})
            self.present = message.get("present", 0)
        elif (
            kind == "hub:members"
            and self.is_holed
            and (self.is_old or message.get("v") != self.version + 1)
        ):
            self.is_old = True
        elif kind == "hub:members":
            self.version += 1
            assert message["v"] == self.version
            came, went = message.get("came", {}), message.get("went", [])
            assert not came.keys() & self.members.keys()
            assert self.members.keys() >= set(went)
            self.members = {
                key: info for key, info in (self.members | came).items() if key not in went
            }
            self.present = message.get("present", 0)
            self.diffs.append((came, went))


class Page(Picture):
    """A client of ``hubthread.1`` that has joined the room."""

    def __init__(self, hub: VirtualHub[Any, Any], user: str, *, joins_again: bool = False) -> None:
        super().__init__(is_holed=joins_again)
        headers = {"Sec-WebSocket-Protocol": "hubthread.1"}
        self.client: VirtualClient = hub.connect(f"/{user}", headers=headers)
        self.client.send(JOIN)
        self.look()

    def look(self) -> None:
        """Apply the messages that have come; join again if one is missing."""
        for text in self.client.messages():
            self.take(text)
        if self.is_old:
            self.client.send(JOIN)
