"""The sockets of WSGI servers that have accepted a client's request.

- ``hijack.py``: find the server's socket and take it; the server is left with a decoy, and its
  thread is free again.  Read it first.
- ``parked.py``: use the server's socket in place, where it cannot be taken: the server's own TLS,
  and Windows.  The server's thread stays and is the reader.

Everything here runs on the server's thread for the request, until the connection has its reader.
"""
