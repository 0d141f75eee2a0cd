"""UDP peers and their socket."""
