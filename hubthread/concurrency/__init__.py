"""Threads, waits and order: the parts of a hub that know no socket and no protocol.

Reading order:

=====================  ===============================================================
``bell.py``            the wake-up of one waiting thread, which is never lost
``mailbox.py``         the queue of closures and jobs that wait for the hub thread
``loop.py``            the hub thread: runs those closures, one at a time
``essential.py``       callbacks whose work no bound refuses: a client comes or goes
``strand.py``          the order of one client's callbacks, without a thread of its own
``calls.py``           one thread waits for the result of another; cycles are refused
``threads.py``         starts, counts and joins every thread of a hub
``workers.py``         a cache of threads for short work, and a bounded share of it
``crew.py``            few threads for many parts; one that blocks is left behind
``habits.py``          the functions that tend to block a crew
``clock.py``           the time of a hub, and the threads that call recurring steps
``shared_clock.py``    a crew that calls many recurring steps
``timers.py``          one thread for all deadlines of a hub
``deadline.py``        the seconds that are left of a time-out
``ending.py``          functions that are called at the end of the process
``flusher.py``         one thread that uncorks what a reader has held back for too long
``watchdog.py``        one thread that logs callbacks which take too long
``context.py``         the cancellation tree: hub, hotlines, clients
``fairness.py``        a busy reader yields the GIL
``sigint.py``          Ctrl-C on the hub thread loses no accepted work
``histogram.py``       counts of durations by bucket
``incidents.py``       counters of limits, and a log that a peer cannot flood
``logs.py``            logging that survives a log handler which raises
=====================  ===============================================================

Every module names its threads in its docstring.  Each lock is introduced by a comment that
says what it guards; no callback of the user runs while one is held.

Calls inside calls.  Python may run a finaliser, a signal handler or a trace function at any
call, also at one under a lock.  Such code may call the library again.  Therefore the locks are
re-entrant, and wherever the holder calls something, the state that the lock guards is valid.
An exception that such code raises may interrupt the holder there.  The interrupted call then
repairs on its way out what it may have left half done: it wakes, schedules or starts once more.

Free threading.  On CPython without a GIL an object that all threads use for each message
costs time: its reference count is one memory word that the cores fetch from each other.
Code that runs for each message therefore reads no shared dictionary, bound method or lock
where a module-level number, bool or function does.  Comments that say "free threading" mean
this paragraph.
"""
