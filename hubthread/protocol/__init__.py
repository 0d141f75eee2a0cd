"""Bytes in, events out: HTTP, WebSocket, matcher.  No threads, sockets or clocks here."""
