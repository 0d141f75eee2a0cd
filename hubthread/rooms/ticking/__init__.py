"""Ticking rooms: hotlines with a state that one thread owns and advances at a fixed rate.

================  ==================================================================
``control.py``    what users hold: ``HotlineFrameOption``, ``FrameControl``
``setup.py``      the option's fields and their checks
``loop.py``       the tick thread: asks the agenda for the next job, and does it
``agenda.py``     closures, countdowns and ticks, and which comes next
``schedule.py``   the grid of the ticks, and the policies for ticks that were missed
``window.py``     the figures of the last ticks
``callbacks.py``  the user's functions, and what happens when they raise
``countdown.py``  ``OperationCountdown`` and ``OperationCountdownTicker``
``inputs.py``     ``InputGate``: one input of each member, or its default
================  ==================================================================

Each room has one tick thread (``concurrency.clock.Ticker``).  It runs ``TickLoop.step`` and,
inside it, every callback of the room.  Any thread may post closures, start countdowns, push,
pause and close: it changes the agenda or the push log under a lock, and wakes the tick thread.

The route of one tick: ``Ticker`` → ``TickLoop.step`` → ``Agenda.next`` answers ``RunTick`` →
the room's ``TickBatch`` corks the outboxes that the tick writes to → ``TickCallbacks.logic``
→ ``PushLog.flush`` → the batch uncorks → ``Agenda.record`` → ``Agenda.next`` answers
``WaitUntil``, the time at which the ticker calls ``step`` again.

Read ``agenda.py`` first, then ``loop.py``, then ``control.py``.
"""
