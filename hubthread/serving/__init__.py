"""The ways into a hub: from a listening socket, or a WSGI request, to a client.

=================  ============================================================================
``listening.py``   the common part of both servers: an endpoint, its socket, its address
``server.py``      ``Server``: WebSocket clients and plain HTTP pages (``hub.serve``)
``client_page.py`` the page with the browser's client
``raw_server.py``  ``SocketServer``: raw TCP and UDP peers (``hub.socket_handles``)
``wsgi.py``        ``WSGIBridge``: clients of a WSGI application (``hub.websocket_handler``)
``accept.py``      ``Arrival``: the handshake and the client, the same for all of them
``check.py``       the answer to a page that asks why its handshakes fail
=================  ============================================================================

The way of a connection: ``net/listener.py`` accepts it and starts its thread → ``server.py`` reads
the request (``net/tls.py``, ``protocol/http.py``) → ``accept.py`` checks it
(``protocol/handshake.py``), calls the hooks (``core/core.py``), sends the 101 and makes the client
(``clients/client.py``) → ``net/connection.py`` reads messages on the same thread until the end.
In a WSGI application the first steps run on the server's thread, and ``accept.py`` on a thread of
the hub.  Read ``server.py`` first, then ``accept.py``.
"""
