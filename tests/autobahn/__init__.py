"""The Autobahn WebSocket test suite against our server: `python -m tests.autobahn`.

The suite's fuzzing client connects once per case, misbehaves in one chosen way, and
judges what comes back.  Here lie the lane's parts:

- suite.py: installs the suite (it needs a Python 2.7), chooses cases, runs it, and reads
  its report.
- processes.py: starts the suite and the echo server, and sees that they end.
- echo_server.py: the server under test, made of hubthread's public names alone.
- __main__.py: the command, for every case or a few, against our server or any other.
- test_autobahn.py: the cases that are quick enough for every run of the tests.
"""
