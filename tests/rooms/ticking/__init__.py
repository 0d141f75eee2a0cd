"""Ticking rooms, in virtual time where threads are not the point."""
