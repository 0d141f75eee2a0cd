"""The net layer on real sockets, and on scripted ones where a byte must fall just so."""
