"""How fast hubthread is, and others beside it: ``python -m benchmarks``.

What: one module for each kind of work (its docstring says what is measured and what the
figures leave out), one server for each peer in ``peers/``, one load client for all (C,
compiled on the spot, ``load.c``), which also checks every stream that it gets.

Method: each server runs in a process of its own, and each run begins with a fresh one.
Rounds alternate between the peers, so that whatever else the machine does hits all of them;
the table has medians and the range.  CPU time and memory of the server are read from
/proc; CPU counts cores, between the first and the last second that is measured.

Caveats: client and server share the machine and talk over loopback: no network, no loss,
no latency of its own.  Only the ratios within one run mean anything.  It needs Linux (epoll,
/proc) and a C compiler.
"""
