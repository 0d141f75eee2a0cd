"""The net layer, on real sockets, and on scripted sockets where each byte matters."""
