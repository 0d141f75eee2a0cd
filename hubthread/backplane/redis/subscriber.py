"""The thread that reads the messages published in the rooms of the hub.

A room is subscribed to once the server has confirmed it on the present connection.  After each
confirmation the keeper reads the stream, for messages that were published before.

Layer: backplane.  Threads: ``run`` is the thread ``backplane-subscriber``; every other method may
be called on any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from hubthread.backplane.redis.owner import Owner
from hubthread.backplane.redis.room import parse_arrival
from hubthread.backplane.redis.wire import Lost, Wire, command

__all__ = ["Subscriber"]

AT_ONCE = 512
"""Channels in one command."""


class Subscriber:
    """The subscriber thread of one hub, and the channels it hears.

    :param link: the hub's connection.
    """

    def __init__(self, link: Owner) -> None:
        self._link = link
        self._wire: Wire | None = None
        self.unconfirmed: set[bytes] = set()
        """The channels that the present connection has not confirmed yet."""
        self.heard = 0.0
        """The time at which the hub's own beat came last, or at which the connection began."""

    def change(self, wanted: Sequence[bytes], unwanted: Sequence[bytes]) -> None:
        """Subscribe to ``wanted``, and unsubscribe from ``unwanted``.  May wait for the socket."""
        wire = self._wire
        if wire is None:
            return  # the next connection subscribes to all wanted channels
        try:
            for name, channels in ((b"SUBSCRIBE", wanted), (b"UNSUBSCRIBE", unwanted)):
                for begin in range(0, len(channels), AT_ONCE):
                    wire.send(command(name, *channels[begin : begin + AT_ONCE]))
        except Lost:
            wire.cut()  # the reading thread gets ``Lost``, and connects anew

    def cut(self) -> None:
        """End the connection; another one takes its place."""
        wire = self._wire
        if wire is not None:
            wire.cut()

    # The thread.

    def run(self) -> None:
        """Read until the link is closed."""
        link = self._link
        while not link.closed.is_set():
            try:
                self._connect()
                self._read()
            except Exception as error:  # noqa: BLE001 - logged
                self._disconnect()
                if not link.closed.is_set():
                    link.failed("subscriber", error)
        self._disconnect()

    def _connect(self) -> None:
        link = self._link
        wire = link.connector.connect()
        self.heard = monotonic()
        self.unconfirmed = {link.everyone}
        self._wire = wire  # from now on ``change`` subscribes to the channels of new rooms
        link.refuse_closed()
        channels = [link.everyone, *link.channels()]
        self.unconfirmed = set(channels)
        link.connected("subscriber")
        self.change(channels, ())

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _read(self) -> None:
        link, wire = self._link, self._wire
        assert wire is not None
        while True:
            message: Any = wire.read()
            if not isinstance(message, list):
                raise Lost(f"{message}")
            kind, channel, data = message
            if kind == b"message":
                if channel == link.everyone:
                    if link.take_beat(data):
                        self.heard = monotonic()
                    continue
                heard = link.hears(channel)
                if heard is not None:
                    heard(data)
                    continue
                if data.startswith(b"1p:"):
                    self._take_presence(channel, data)
                    continue
                arrival = parse_arrival(data)
                if arrival is None:
                    link.unknown()
                    continue
                for room in link.rooms_of(channel):
                    room.came(arrival)
            elif kind == b"subscribe":
                for room in link.rooms_of(channel):
                    room.want()
                    presence = link.presence_of(room)
                    if presence is not None:
                        presence.start()
                link.worked("subscriber")
                if channel in self.unconfirmed:
                    self.unconfirmed.discard(channel)
                    if not self.unconfirmed:
                        link.wake_keeper()

    def _take_presence(self, channel: bytes, data: bytes) -> None:
        link = self._link
        for room in link.rooms_of(channel):
            presence = link.presence_of(room)
            if presence is not None:
                try:
                    presence.came(data)
                except ValueError:
                    link.unknown()  # another version of the library has written it
