"""Test the leak check: each kind of leftover fails the test that left it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LEAKY = """
import socket, threading
import conftest

conftest.GRACE_S = 0.05
gate = threading.Event()

def test_leaves_a_thread():
    threading.Thread(target=gate.wait, daemon=True).start()

def test_leaves_a_socket():
    global kept
    kept = socket.socket()

def test_forgets_a_socket():
    socket.socket()

def test_crashes_a_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

def test_is_fine():
    conftest.GRACE_S = 60.0
    threading.Thread(target=lambda: None).start()
    name = conftest.IDLE_WORKERS + "1"
    threading.Thread(target=gate.wait, daemon=True, name=name).start()
    with socket.socket():
        pass
"""


def test_leak_check_leftover_fails_the_test_that_left_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # else the summary cuts the reasons off
    own = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(own)
    pytester.makepyfile(LEAKY)
    # In a process of its own, so that nothing leaks into this one.
    result = pytester.runpytest_subprocess("-W", "error", "-rEf", "--tb=short")
    result.stdout.re_match_lines_random(
        [
            "ERROR .*::test_leaves_a_thread - .*threads left behind",
            "ERROR .*::test_leaves_a_socket - .*sockets left behind",
            "(ERROR|FAILED) .*::test_forgets_a_socket - .*Exception ignored in: <socket",
            "(ERROR|FAILED) .*::test_crashes_a_thread - .*Exception in thread",
        ]
    )
    result.stdout.no_re_match_line("(ERROR|FAILED) .*::test_is_fine")
