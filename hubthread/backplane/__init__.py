"""The backplane: the one order of the pushes of shared rooms, and their recent history.

A room that is *shared* gives its pushes to the backplane.  The backplane numbers them and hands
them to every hub that has the room.  So members of all these hubs see one order, and a client
that was away gets the pushes that it has missed.

Read in this order:

- ``interfaces.py``: ``Backplane``, ``BackplaneLink`` and ``Receiver``: the calls of a backplane,
  and which of them may wait.
- ``stream.py``: the recent messages of one room, with their epoch and offsets.
- ``letters.py``: messages to users and hubs, beside the rooms.
- ``memory.py``: ``MemoryBackplane``, the default: everything in the memory of one process, on the
  threads that call it.
- ``redis/``: ``RedisBackplane``, for several processes and machines.
"""
