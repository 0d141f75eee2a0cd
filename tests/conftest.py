"""The rule for every test: it leaves no thread and no socket behind.

An exception in a thread fails the test too, as does an exception that Python could not
raise.  pytest turns both into warnings, and warnings are errors here (pyproject.toml).  A
test that wants a thread to crash is marked with
``@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")``.
"""

from __future__ import annotations

import gc
import inspect
import os
import resource
import socket
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from hubthread import HubSetting, Readers
from hubthread.concurrency.clock import Drive, RealClock, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

# No limits of time: the machine may be loaded.  The profile "ci" comes with hypothesis: the same
# examples each time, and a blob that reproduces a failure.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "local")
if os.environ.get("HUBTHREAD_TEST_EXAMPLES") == "few":
    settings.register_profile("few", settings.default, max_examples=33)
    settings.load_profile("few")

READERS = Readers(os.environ.get("HUBTHREAD_TEST_READERS", "own"))
"""The readers of every hub of the tests that does not say which: ``own`` or ``shared``."""

GRACE_S = 30.0
"""Seconds that a test's threads and sockets have to end after the test."""

IDLE_WORKERS = "hubthread-worker-"
"""The start of the names of idle workers.  They end without help and are not a leak."""

_FDS = "/proc/self/fd"


def _read_by(readers: Readers) -> None:
    """Make ``readers`` the default of ``HubSetting``."""
    init = HubSetting.__init__
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(init).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    init.__defaults__ = tuple({**defaults, "readers": readers}.values())


_read_by(READERS)


LONG = ("test_servers.py", "test_hubthread_js.py", "test_cli.py", "test_arena_browser.py")
"""Files that take long.  Several workers begin with them, so that none is left over at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long files come first."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of garbage collections, which would take five times as long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    threads, sockets = _threads(), _sockets()
    yield
    deadline = time.monotonic() + GRACE_S
    for thread in _threads() - threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stacks = [_stack(thread) for thread in _threads() - threads]
    if stacks:
        pytest.fail("threads left behind:\n" + "\n".join(stacks), pytrace=False)
    left = _more(sockets)
    if left:
        # A forgotten socket is collected here; its ResourceWarning fails the test.
        gc.collect()
    # Polled, for a socket cannot be joined: a worker may still be closing it after its
    # caller has gone on.  Only a test that is about to fail gets here.
    poll = threading.Event()
    while left and time.monotonic() < deadline:
        poll.wait(0.01)
        left = _more(sockets)
    if left:
        pytest.fail("sockets left behind:\n" + "\n".join(_described(left)), pytrace=False)


def _threads() -> set[threading.Thread]:
    # A dummy thread stands for a thread that threading did not start and cannot join.
    return {
        thread
        for thread in threading.enumerate()
        if not thread.name.startswith(IDLE_WORKERS)
        and not isinstance(thread, threading._DummyThread)
    }


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return f"{thread!r}\n" + "".join(traceback.format_stack(frame) if frame else [])


def _sockets() -> set[tuple[int, str]]:
    """Return descriptor and inode of each open socket; nothing on a system without /proc."""
    found = set()
    try:
        descriptors = os.listdir(_FDS)
    except FileNotFoundError:
        return set()
    for descriptor in descriptors:
        try:
            target = os.readlink(f"{_FDS}/{descriptor}")
        except FileNotFoundError:  # the listing's own descriptor
            continue
        if target.startswith("socket:"):
            found.add((int(descriptor), target))
    return found


def _more(before: set[tuple[int, str]]) -> set[tuple[int, str]]:
    # The same number of sockets is not a leak: the client of a shared fixture may reconnect.
    now = _sockets()
    return now - before if len(now) > len(before) else set()


def _described(left: set[tuple[int, str]]) -> list[str]:
    owners = {
        thing.fileno(): repr(thing)
        for thing in gc.get_objects()
        if issubclass(type(thing), socket.socket)  # not "isinstance", which wakes lazy objects
    }
    return [owners.get(fd, f"descriptor {fd} ({target})") for fd, target in sorted(left)]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Raise the limit of descriptors as far as the system allows, up to 20,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20_000 if hard == resource.RLIM_INFINITY else min(20_000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["shared", "own"])
def tick_threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with tick threads that rooms share, and with a thread for each room."""
    if request.param == "own":
        drive = RealClock.drive

        def drive_alone(clock: RealClock, step: Step, what: str, *, shared: bool = False) -> Drive:
            return drive(clock, step, what)

        monkeypatch.setattr(RealClock, "drive", drive_alone)
    return str(request.param)


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Make threads take turns after microseconds, so that short race windows are met."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
