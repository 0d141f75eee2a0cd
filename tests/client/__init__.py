"""The Python client: its states with the cases of ``hubthread.js``, and its sockets."""
