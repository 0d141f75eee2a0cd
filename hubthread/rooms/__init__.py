"""Hotlines: rooms whose members get all pushes to the room.

===================  ============================================================================
``hotline.py``       ``Hotline``: members, pushes, closing.  Any thread calls it; the hub thread
                     sends what was pushed (``core/push_log.py``)
``joining.py``       the join of one client, after the pushes it has missed; any thread
``attendance.py``    the hooks that hear who joins and leaves, and times for empty rooms; on the
                     room's thread
``presence.py``      the users in a shared room through this hub; on the hub thread
``state_sync.py``    the state of a room, sent to its members as patches; the room's thread
``state_views.py``   the same, if each member sees a part of the state
``shared_state.py``  ``SharedState``: a state of a room without a clock; the hub thread
``silent.py``        ``SilentHotline``: a hotline without members.  Any thread
``ticking/``         hotlines with a clock: each has a thread, which ticks and sends
===================  ============================================================================

Read ``hotline.py`` first.  Most of its work is done by ``core/push_log.py``, which holds the
members.
"""
