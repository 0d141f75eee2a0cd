"""Threads, waits and order: the parts that know no socket and no protocol."""
