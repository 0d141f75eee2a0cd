"""A hub in virtual time: tests of rooms and clients that wait for nothing.

Layer: testing.  Threads: everything is for the thread that made the hub.

::

    def test_a_round_of_thirty_seconds():
        with VirtualHub(setting) as hub:
            room = option.run(hub.hotline())
            ada = hub.connect("/?name=ada")
            room.answer(ada.ctx)
            ada.send_json({"type": "guess", "word": "otter"})
            hub.advance(30)
            assert ada.take() == '{"type":"over","winner":"ada"}'
        assert hub.errors == []

``VirtualHub`` is the hub, with everything that a hub has; ``advance`` lets seconds pass,
``tick`` ticks of one room, ``settle`` nothing but what is due now.  ``VirtualClient``, made by
``connect``, is the other end of a connection: good, stalled, slow, vanished or lost.
``FakeClock`` is the time that a hub keeps; several hubs may share one.

Everything real that can run does run: the handshake, the connection with its keepalive and
its closing handshake, frames on the wire, the outbox with its overflow policies, each
client's order of callbacks, the matcher, rooms with and without a clock, long polling, the
order of closing.  In the place of sockets there are transports in memory, and in the place
of threads *jobs* that the clock calls one at a time, in the order of their deadlines: the
same inputs give the same states, every time.

What cannot be seen in virtual time: races between threads, since there is one; what takes
time by itself (``clock.spend`` says how long something takes); and a callback that blocks
until time has passed, since a callback happens at one moment.
"""

from hubthread.testing.client import VirtualClient as VirtualClient
from hubthread.testing.clock import FakeClock as FakeClock
from hubthread.testing.hub import VirtualHub as VirtualHub

__all__ = ["FakeClock", "VirtualClient", "VirtualHub"]
