"""The Python client of a hub: a connection that comes back, for synchronous programs.

Layer: client.  Threads: any thread may use a link; the link's own thread runs the callbacks.

::

    with connect("ws://localhost/ws") as link:
        link.send("say", {"text": "hello"})
        for message in link:
            print(message)

The client has the names, the close codes and the messages of ``hubthread.js``.

====================  ==============================================================
``link.py``           ``connect`` and ``Link``: what a program calls
``room.py``           ``Room``: one room of a link
``options.py``        ``LinkOption``
``raw.py``            ``link.raw``: messages in the server's own format
``delivery.py``       brings each message to a room, a handler, a listener or the inbox
``listeners.py``      the listeners by name, and the inbox for all other messages
``queue.py``          the messages that wait for a connection
``requests.py``       the requests that wait for an answer
``server_clock.py``   the clock of the server
``interfaces.py``     the values and interfaces between these parts
``machine.py``        the states of a link, without threads and sockets
``socket_driver.py``  the thread of a link, and its sockets
``crowd.py``          many links on few threads
====================  ==============================================================
"""

from hubthread.client.interfaces import Fate as Fate
from hubthread.client.interfaces import State as State
from hubthread.client.link import Link as Link
from hubthread.client.link import connect as connect
from hubthread.client.options import LinkOption as LinkOption
from hubthread.client.room import PendingInput as PendingInput
from hubthread.client.room import Room as Room
from hubthread.client.room import RoomTick as RoomTick
from hubthread.errors import Lost as Lost
from hubthread.errors import Refused as Refused
from hubthread.errors import TimedOut as TimedOut

__all__ = [
    "Fate",
    "Link",
    "LinkOption",
    "Lost",
    "PendingInput",
    "Refused",
    "Room",
    "RoomTick",
    "State",
    "TimedOut",
    "connect",
]
