"""The parts that one hub is made of; none of them is for programs.

``core.py`` puts the parts into one object, which clients, rooms and servers share.  Read it
first, then ``push_log.py``, where a push fans out to the members of a room.

=================  ============================================================================
``core.py``        ``Core``: all parts of one hub
``runtime.py``     the threads, the clock and the log of incidents that it runs on
``state.py``       new, running, closing or closed; any thread
``registry.py``    the clients and the hotlines, by number; any thread
``figures.py``     totals of rooms and clients by kind, for metrics; any thread
``connections.py`` the servers, and the connections at every stage; any thread
``push_log.py``    pushes, joins and leaves in one order: written on any thread, flushed on the
                   hub's or the room's; the flush sends on to ``net/outbox.py``
``entries.py``     the entries of that log, and the parts that it calls
``shared_log.py``  the same log in a shared room: what the backplane was given, what has arrived
``sequencer.py``   one shared room: pushes in the backplane's order, recovery; any thread
``sharing.py``     the hub's connection to its backplane; any thread
``lease.py``       the lease of a room that one hub at a time owns; any thread
``roster.py``      the users in a shared room, and their version; under the sequencer's lock
``delivery.py``    the pushes that wait in members' outboxes; under the log's lock
``framer.py``      from the program's data to frames; the pusher's thread
``hooks.py``       calls of hooks and pages, and refused requests; the connection's thread
``options.py``     from settings to the options of connections
=================  ============================================================================

The way of a push: ``rooms/hotline.py`` → ``framer.py`` → ``push_log.py`` (the log) → the hub
thread (``concurrency/loop.py``) → ``push_log.py`` (``flush``) → ``clients/client.py`` →
``net/connection.py`` → ``net/outbox.py`` → ``net/transport.py``.
"""
