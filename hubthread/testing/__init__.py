"""A hub in virtual time: tests of rooms and clients that never wait.

Layer: testing.  Threads: only the thread that made the hub.

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

``VirtualHub`` is a hub with all of its methods.  ``advance`` lets seconds pass, ``tick`` lets
ticks of one room pass, and ``settle`` does what is due now.  ``VirtualClient``, made by
``connect``, is the other end of a connection: a good client, or a stalled, slow, vanished or
lost one.  ``FakeClock`` is the time of a hub; several hubs may share one.  ``VirtualCluster`` is
several hubs that share rooms, with a server between them that can fail.

Almost everything is real: the handshake, the connection with its keepalive and its closing
handshake, frames on the wire, the outbox with its overflow policies, the order of each
client's callbacks, the matcher, rooms with and without a clock, long polling, and the order of
closing.  Two things are not: transports in memory replace sockets, and *jobs* replace threads.
The clock calls the jobs one at a time, in the order of their deadlines.  So the same inputs
give the same states, every time.

Virtual time cannot show three things: races between threads, since there is one thread; work
that takes time (``clock.spend`` stands for it); and a callback that blocks until time has
passed, since a callback happens at one moment.

Reading order:

================  ================================================================
``clock.py``      virtual time: jobs, and the thread that runs them
``threads.py``    the threads, workers and timers of a hub, as jobs of the clock
``transport.py``  a connection in memory, between a hub and a virtual client
``wire.py``       the client's frames, as bytes
``reader.py``     the hub's end of a connection: its reader thread as a job
``client.py``     ``VirtualClient``, the other end
``link.py``       the Python client, to a virtual hub
``hub.py``        ``VirtualHub``, which puts them together
``backplane.py``  a server of shared rooms in memory, and each hub's connection to it
``cluster.py``    ``VirtualCluster``: several hubs with that server
``replay.py``     plays the record of a room (``HotlineFrameOption(record=path)``)
================  ================================================================
"""

from hubthread.testing.client import VirtualClient as VirtualClient
from hubthread.testing.clock import FakeClock as FakeClock
from hubthread.testing.cluster import VirtualCluster as VirtualCluster
from hubthread.testing.hub import VirtualHub as VirtualHub
from hubthread.testing.replay import Replay as Replay
from hubthread.testing.replay import replay as replay

__all__ = ["FakeClock", "Replay", "VirtualClient", "VirtualCluster", "VirtualHub", "replay"]
