"""An exception strikes inside a call: Ctrl-C, or a signal handler that raises.

Each public call is struck at its n-th line, for every n.  After each strike the call has happened
or it has not, and everything else goes on.
"""

from __future__ import annotations

import pytest

from tests.interrupts.interrupting import (
    CALLS,
    MOST,
    at_each,
    house,
    nothing,
    signal_at,
    strike,
)
from tests.support import TIMEOUT

pytestmark = [
    pytest.mark.interrupts,
    # A strike inside a callback of the collector or of a weak reference reaches no caller.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # What a log handler raises is reported, and goes no further.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    # A socket that was made just before the strike.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.mark.parametrize("name", CALLS)
def test_call_struck_anywhere_leaves_everything_else_alive(name: str) -> None:
    with house() as h:

        def call() -> object:
            return CALLS[name].call(h)

        struck = at_each(call, strike)
        for number in range(MOST):
            with h.aiming(name):
                if not struck(number):
                    break
            for ctx in (h.client, h.other):  # a join or a leave was struck: both are out
                h.room.answer(ctx)
            h.check()
        else:
            pytest.fail(f"{name} has no end")


@pytest.mark.parametrize("place", ["_append", "_flush_soon", "schedule", "post", "ring"])
def test_signal_handler_that_raises_leaves_room_and_hub_alive(place: str) -> None:
    with house() as h:
        h.hub.exec_sync(nothing, TIMEOUT)
        with signal_at(place), pytest.raises(KeyboardInterrupt):
            h.room.push("interrupted")
        h.check()
