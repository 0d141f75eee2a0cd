"""Sockets: the only layer that touches them."""
