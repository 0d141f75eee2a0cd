"""The Autobahn WebSocket test suite: ``python -m tests.autobahn``.

The suite's fuzzing client connects once per case, breaks the protocol in one way, and checks the
server's answer.

- suite.py: installs the suite (with a Python 2.7), selects cases, runs them, reads the report
- processes.py: the processes of the suite and of the echo server
- echo_server.py: the server under test, made of public names only
- __main__.py: the command, for any cases, against this server or another
- test_autobahn.py: the quick cases, for every run of the tests
"""
