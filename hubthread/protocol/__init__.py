"""The wire protocols: bytes in, events out, without threads, sockets or clocks.

Read the files in this order; each needs only files above it:

====================  ================================================================
request, http_head    header fields and the request; a request head to fields
proxy_header, hosts   the header of a proxy; the hosts that a server answers for
http, wsgi_environ    bytes, or a WSGI environ, to a request; a response to bytes
deflate_negotiation   choose the parameters of permessage-deflate
handshake             accept or refuse a WebSocket handshake
frames, closing       encode frames; the states of the closing handshake
deflate, websocket    inflate with a cap; bytes of a client to messages
raw_framing, batch    messages of raw TCP and UDP peers; frames joined for many clients
====================  ================================================================

A parser belongs to the reader thread of its connection; values and functions may be used by
any thread.
"""
