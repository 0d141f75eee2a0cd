"""Threads, waits and order, without a socket."""
