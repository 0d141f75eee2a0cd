"""Raw UDP peers: many peers share one socket and one thread.

- ``peer.py``: one peer, its outbox and its end.  Read it first.
- ``socket.py``: the socket, and its peers by address.

The socket's thread receives, sends what waits, and ends silent peers.  Any thread sends to a
peer or closes it.  No user code runs on the socket's thread: a ``UdpSink`` queues each message
for a worker.
"""
