"""Ticking rooms: hotlines with a state that one thread at a time advances, at a fixed rate.

================  ==================================================================
``control.py``    what users hold: ``HotlineFrameOption``, ``FrameControl``
``setup.py``      the option's fields and their checks
``loop.py``       the tick thread: asks the agenda for the next job, and does it
``agenda.py``     closures, countdowns and ticks, and which comes next
``schedule.py``   the grid of the ticks, and the policies for ticks that were missed
``window.py``     the figures of the last ticks
``callbacks.py``  the user's functions, and what happens when they raise
``countdown.py``  ``OperationCountdown`` and ``OperationCountdownTicker``
``moves.py``      ``Inputs``: numbered inputs of members, each for a tick
``record.py``     the flight recorder, whose files ``hubthread.testing.replay`` plays
``owned.py``      ``OwnedOption``, ``OwnedRoom``: rooms that one of several hubs owns
``inputs.py``     ``InputGate``: one input of each member, or its default
================  ==================================================================

Rooms share tick threads (``concurrency.shared_clock``), or have one of their own
(``concurrency.clock.Ticker``).  A tick thread runs ``TickLoop.step`` and, inside it, every
callback of the room; a room is never in two steps at once.  Any thread may post closures, start
countdowns, push, pause and close: it changes the agenda or the push log under a lock, and wakes
a tick thread.

The route of one tick: tick thread → ``TickLoop.step`` → ``Agenda.next`` answers ``RunTick`` →
the room's ``TickBatch`` corks the outboxes that the tick writes to → ``TickCallbacks.logic``
→ ``PushLog.flush`` → the batch uncorks → ``Agenda.record`` → ``Agenda.next`` answers
``WaitUntil``, the time at which the ticker calls ``step`` again.

Read ``agenda.py`` first, then ``loop.py``, then ``control.py``.
"""
