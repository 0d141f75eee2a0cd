"""Tests of the protocol layer: bytes in, values out, without sockets, threads or clocks."""
