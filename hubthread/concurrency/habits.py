"""Remember which functions of the program block, and call another thread before they do.

A crew (``crew.py``) notices a step that blocks after some milliseconds.  A hundred clients whose
handler always asks a database would be noticed one after another.  So the function that blocked is
remembered, and the next calls of it let another thread lead at once, until some quick calls have
shown otherwise.

Layer: concurrency.  Threads: the threads of one crew.
"""

from __future__ import annotations

from hubthread.concurrency.crew import about_to_wait

__all__ = ["HOOKS", "Habits"]

QUICK_CALLS = 8
"""Calls that do not block, after which a function counts as quick again."""

BLOCKING = 0.001
"""Seconds from which a call counts as one that blocks."""

HOOKS = "the hooks of a handshake"
"""Stands for the functions that run before there is a client."""


class Habits(dict[int, int]):
    """The functions that blocked, each with the calls that may still be quick.

    It is empty as long as nothing blocks, so its truth is all that a message has to look at.
    """

    def blocked(self, function: object) -> None:
        """Remember ``function``, whose thread does not lead any more.

        The call counts as quick only after its end: many calls may block at the same time.
        """
        number = id(function)
        self[number] = min(self.get(number, QUICK_CALLS) + 1, QUICK_CALLS)

    def took(self, function: object, seconds: float) -> None:
        """Note for how long ``function`` has gone on after its thread was left behind."""
        number = id(function)
        if seconds >= BLOCKING:
            self[number] = QUICK_CALLS
        elif left := self.get(number):
            self[number] = left - 1

    def ahead(self, function: object) -> None:
        """Let another thread lead now, if ``function``, which is about to run, tends to block."""
        number = id(function)  # not the function, whose hash may be code of the program
        left = self.get(number)
        if left is None:
            return
        if not left:
            self.pop(number, None)
            return
        self[number] = left - 1
        about_to_wait()
