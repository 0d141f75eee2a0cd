"""The hub through its public surface."""
