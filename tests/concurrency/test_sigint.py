"""Ctrl-C while a hub runs on the main thread, in processes of their own."""

from __future__ import annotations

import os

import pytest

from tests.support.programs import Outcome, outcomes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process")

# The process interrupts itself where the test wants it: real signals, at a known place.
PROGRAM = """
import signal, threading, time
from hubthread import Hub, HubSetting

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
hub = Hub(HubSetting(dict))
seen = []

def ctrl_c():
    signal.raise_signal(signal.SIGINT)  # its handler has run when this returns

{body}

try:
    hub.run()
except KeyboardInterrupt:
    seen.append("interrupted")
hub.join(60)
default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
seen.append("default" if default else "own")
print(*seen)
"""

IN_A_CLOSURE = """
def closure(dhub):
    seen.append("begins")
    ctrl_c()
    seen.append("goes on")

hub.exec_async(closure)
hub.exec_async(lambda dhub: seen.append("accepted"))
"""

# In take, after it has emptied the queue and before it returns the entries.
IN_TAKE = """
def now():
    if seen == ["first"]:
        seen.append("interrupts")
        ctrl_c()
    return time.monotonic()

hub._core.loop._mailbox._now = now
def first(dhub):
    hub.exec_async(lambda dhub: seen.append("second"))
    hub.exec_async(lambda dhub: seen.append("third"))
    seen.append("first")
hub.exec_async(first)
"""

IN_A_JOB = """
def job():
    seen.append("begins")
    ctrl_c()
    seen.append("ends")

hub._core.loop.schedule(job)
hub.exec_async(lambda dhub: seen.append("accepted"))
"""

TWICE = """
def job():
    seen.append("begins")
    ctrl_c()
    ctrl_c()
    seen.append("goes on")

hub._core.loop.schedule(job)
hub.exec_async(lambda dhub: seen.append("accepted"))
"""

WHILE_IDLE = """
main = threading.get_ident()
later = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT))
hub.exec_async(lambda dhub: later.start())
"""

# Python may miss a signal that comes as a wait begins: the handler runs when the wait is over.
AS_A_WAIT_BEGINS = """
mailbox = hub._core.loop._mailbox
bell = mailbox._bell

class Late:
    rung = False

    def ring(self):
        pass

    def wait(self, timeout):
        mailbox._bell = bell
        seen.append("for ever" if timeout is None else "anew")
        ctrl_c()
        return False

mailbox._bell = Late()
"""

OF_ITS_OWN = """
signal.signal(signal.SIGINT, lambda number, frame: seen.append("mine"))
hub.exec_async(lambda dhub: ctrl_c())
hub.exec_async(lambda dhub: hub.close())
"""


SEEN = {
    IN_A_CLOSURE: "begins accepted interrupted default",
    IN_TAKE: "first interrupts second third interrupted default",
    IN_A_JOB: "begins ends accepted interrupted default",
    TWICE: "begins accepted interrupted default",
    WHILE_IDLE: "interrupted default",
    AS_A_WAIT_BEGINS: "anew interrupted default",
    OF_ITS_OWN: "mine own",
}


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome]:
    programs = [PROGRAM.replace("{body}", body) for body in SEEN]
    return dict(zip(SEEN, outcomes("import hubthread", programs), strict=True))


@pytest.mark.parametrize(("body", "seen"), SEEN.items())
def test_sigint_on_the_hub_thread_loses_no_accepted_closure(
    found: dict[str, Outcome], body: str, seen: str
) -> None:
    """The first Ctrl-C raises in a closure or between two jobs, the second at once."""
    assert found[body] == (seen + "\n", "", 0)
