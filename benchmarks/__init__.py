"""Benchmarks of hubthread and of other libraries beside it: ``python -m benchmarks``.

Contents: one module for each kind of work, whose docstring says what it measures and what its
figures leave out; one server for each peer in ``peers/``; one load client for all (``load.c``,
compiled at the first use), which also checks every stream that it receives.  ``soak``, ``steps``,
``virtual`` and ``behind_gunicorn`` are programs of their own.

Method: each run starts a fresh server in a process of its own.  Rounds alternate between the
peers, so that other load on the machine affects all of them.  The table has medians and the range.
CPU time and memory of the server come from /proc; CPU is in cores, over the measured seconds.

Caveats: client and server share the machine and use the loopback device, which has no loss and
no latency of its own.  Compare only figures of one run.  The benchmarks need Linux (epoll, /proc)
and a C compiler.
"""
