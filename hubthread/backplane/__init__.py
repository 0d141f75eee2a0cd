"""The backplane: the one order of the pushes of shared rooms, and their recent history.

A room that is *shared* gives its pushes to the backplane.  The backplane numbers them and hands
them to every hub that has the room.  So members of all these hubs see one order, and a client
that was away gets what it missed.

Read in this order:

- ``interfaces``: the seam.  ``Backplane``, ``BackplaneLink`` and ``Receiver`` say what a
  backplane does, and which calls may wait.
- ``stream``: the recent messages of one room, with their epoch and offsets.
- ``memory``: ``MemoryBackplane``, the default: everything in the memory of one process, on the
  threads that call it.
"""
