"""The wire protocols: bytes in, events out, without threads, sockets or clocks.

Read the files in this order; each needs only files above it:

==========================  ===============================================================
``request.py``              header fields, and the request of a client
``http_head.py``            a request head to header fields
``proxy_header.py``         the header of a proxy
``hosts.py``                the hosts that a server answers for
``http.py``                 bytes to a request; a response to bytes
``wsgi_environ.py``         a WSGI environ to a request
``deflate_negotiation.py``  choose the parameters of permessage-deflate
``handshake.py``            accept or refuse a WebSocket handshake
``client_handshake.py``     the request of a client, and the check of its answer
``frames.py``               encode frames
``masking.py``              encode the frames of a client
``close_codes.py``          the close codes, and what a client does after each
``closing.py``              the states of the closing handshake
``deflate.py``              inflate with a cap
``websocket.py``            bytes of a client to messages
``raw_framing.py``          messages of raw TCP and UDP peers
``hub_messages.py``         the text of the hub's own messages
``envelope.py``             the room and the number around a push of a shared room
``batch.py``                frames joined for many clients
==========================  ===============================================================

A parser belongs to the reader thread of its connection; values and functions may be used by
any thread.
"""
