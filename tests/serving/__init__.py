"""The ways into a hub: servers, WSGI applications, the handshake."""
