"""The backplane in a Redis server: shared rooms that span processes and machines.

Read in this order:

- ``backplane.py``: ``RedisBackplane``, the setting, and the hub's connection, which owns the rest.
- ``scripts.py``: the scripts that Redis runs in one step each, and the names of the keys.
- ``wire.py``: a connection, and the bytes of batches.
- ``room.py``: one shared room: its waiting and sent messages, and the order of arriving batches.
- ``history.py``: the latest messages of a room, for clients that missed them.
- ``publisher.py``, ``subscriber.py``, ``keeper.py``: the three threads of a hub.  The publisher
  sends scripts and reads their answers.  The subscriber reads published messages.  The keeper
  fetches missed messages, and drops a connection that has fallen silent.
- ``presence.py``: the users in the shared rooms of all hubs, and the leases of the hubs.
- ``boxes.py``: the letters that a hub sends and hears.  ``beats.py``: the hubs that are alive.
- ``lease.py``: the lease of the hub that owns a room.
- ``records.py``: the records that a hub keeps for other hubs, such as sessions.
- ``owner.py``: the hub's connection, as these threads see it.
"""
