"""hubthread.testing: virtual time is like real time, except that it can be told to pass."""
