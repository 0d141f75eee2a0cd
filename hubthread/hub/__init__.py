"""The hub as programs hold it.

======================  =======================================================================
``hub.py``              ``Hub``: the public methods.  Any thread calls them; the work is done in
                        ``core/``, ``rooms/``, ``clients/`` and ``serving/``
``dhub.py``             ``DHub``: the argument of closures.  The hub thread only
``lifecycle.py``        the start, and the six steps of closing.  One thread walks through them
``cluster.py``          ``hub.tell``, ``hub.call`` and ``hub.cluster``: other hubs of the
                        backplane.  Any thread
``drain.py``            clients are sent elsewhere, before the hub ends.  A thread of the program
``rooms.py``            the making of hotlines, by number or by name.  Any thread
``users.py``            ``User``: all clients of one user.  Any thread
``sending.py``          messages to all clients, to those of a filter, and to several rooms.
                        Any thread; filters run on the hub thread
``payloads.py``         objects as messages, by the matcher or as JSON.  Any thread
``client_messages.py``  joins, leaves and times that the browser's client asks for.  The thread
                        that runs the client's callbacks
``session.py``          one session, and the hello that its client gets.  Any thread
``session_sink.py``     a connection before and after it has a client.  Its reader thread
``session_table.py``    clients that come back after a lost connection.  Any thread
``session_moves.py``    clients that come back in another hub.  Any thread
``parts.py``            the objects that a hub is assembled of
``polling.py``          ``hub.long_polling``: a thread for each poll
``report.py``           ``hub.statistics()`` and ``hub.health``: a snapshot of the counters.  Any
                        thread
``metrics.py``          ``hub.metrics``: the counters as families of numbers.  Any thread
``worker_metrics.py``   the metrics of all processes of a program.  Any thread
``monitor.py``          ``Monitor``: the page for operators: token, actions.  Any thread
``overview.py``         the figures of the page as JSON.  Any thread
``sampler.py``          ten minutes of figures, and stuck callbacks.  A thread of its own
``exposition.py``       the text formats of Prometheus for these families
``fork.py``             the hubs of a forked child refuse calls
======================  =======================================================================

Read ``hub.py`` first, then ``lifecycle.py``.  A closure goes from ``hub.py`` to
``concurrency/loop.py``, which runs it on the hub thread.
"""
