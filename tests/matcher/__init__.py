"""The matcher: typed messages in, replies out, without threads and sockets."""
