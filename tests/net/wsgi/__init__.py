"""The sockets of WSGI servers: hijacked, or used in place."""
