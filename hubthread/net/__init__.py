"""Sockets: transports, connections, outboxes, listeners.  No user code and no settings.

Read in this order:

- ``options.py`` and ``interfaces.py``: the options of a connection, and its interfaces.
- ``transport.py`` and ``tls.py``: one stream socket, plain or with TLS.
- ``sending.py``, ``outbox.py`` and ``backlog.py``: the sending half, the messages that wait in
  it, and the overflow policies for slow peers; ``tick_batch.py`` corks outboxes during a tick.
- ``connection.py`` (WebSocket) and ``tcp.py`` (raw): the reader, its pings, and the end;
  ``keepalive.py`` says when a ping is due and when a silent peer counts as gone.
- ``lasting.py`` and ``sent_log.py``: connections whose messages outlive them, for clients that
  come back.  What waits goes from one outbox to the next.
- ``steps.py``, ``readiness.py``, ``selecting.py`` and ``shared.py``: connections that share
  threads.  The work of a connection is a generator, which a selector resumes.
- ``traffic.py``: counts of messages and bytes, for metrics; ``worker_sockets.py``: the processes
  of a program that answer for each other.
- ``bind.py``, ``listener.py`` and ``address_limit.py``: from listening sockets to connections;
  ``activation.py`` takes the sockets of systemd, ``proxy.py`` reads the header of a proxy.
- ``dial.py`` and ``waker.py``: the sockets of clients.
- ``udp/`` and ``wsgi/``: UDP peers, and the sockets of WSGI servers.

=================  ==============================================================================
thread             work
=================  ==============================================================================
listener           one per server, for all its sockets: accepts, starts readers
reader             one per connection: receives, runs every callback of its client, closes the
                   socket
any                sends, without blocking; what the socket does not take waits in the outbox
readers            with ``Readers.SHARED``, instead of readers and writers: one waits for all
                   sockets and does their work; another takes over when a callback blocks
writer             one per connection while its outbox has a backlog: waits for the socket
timers, flusher    one each per hub: cut a closing connection in time; uncork forgotten outboxes
=================  ==============================================================================
"""
