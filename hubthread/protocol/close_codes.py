"""Close codes, and their advice for a client: come back at once, come back later, or stay away.

The table of the documentation is made from ``CloseCode`` and ``BANDS``.  ``hubthread.js`` has the
same rules, and a test compares the two.

A reason may end in ``retry=8``: the clients that are closed together come back at random times
within 8 seconds.

Layer: protocol.  Threads: values and pure functions; any thread may use them.
Source: RFC 6455 section 7.4; the IANA registry of WebSocket close codes.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum

from hubthread.checks import check_number
from hubthread.errors import WrongValue
from hubthread.protocol.frames import MAX_CLOSE_REASON, check_code

__all__ = [
    "BANDS",
    "MOST_RETRY",
    "Advice",
    "CloseCode",
    "advice_of",
    "advised_reason",
    "backoff",
    "split_reason",
    "spread",
    "wait_range",
]

MOST_RETRY = 3600.0
"""The longest advice in seconds.  A client shortens longer advice to this time."""

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 20.0
AFTER_LOSS = 2.0
"""The least spread of the clients that are lost together, unless the server names one."""
OVERLOADED = 2.0
"""The least wait for a server that has too much to do."""


class Advice(str, Enum):
    """The action of a client after the end of its connection."""

    REST = "rest"
    """Come back with the next message."""
    BACK = "back"
    """Come back, later after each attempt that fails."""
    RESTART = "restart"
    """Come back soon, at a random time."""
    OVERLOADED = "overloaded"
    """Come back, but not at once."""
    TOKEN = "token"
    """Come back with a new token; stay away if the server refuses it, too."""
    END = "end"
    """Stay away: the same would happen again."""


class CloseCode(IntEnum):
    """A close code and its advice: ``ctx.close(CloseCode.COME_BACK, "moving", retry=8)``.

    A program may close with numbers of its own.  Clients come back after 3000 to 3499 and 4000
    to 4499, and stay away after 3500 to 3999 and 4500 to 4999.
    """

    NORMAL = 1000
    """The work is done.  The client comes back with its next message."""
    GOING_AWAY = 1001
    """The server stops, or the page goes."""
    PROTOCOL_ERROR = 1002
    """The peer broke the rules of the protocol."""
    UNSUPPORTED_DATA = 1003
    """The peer sent text for bytes, or bytes for text."""
    INVALID_TEXT = 1007
    """The peer sent text that is not UTF-8."""
    POLICY_VIOLATION = 1008
    """The peer did what the program or its limits forbid."""
    MESSAGE_TOO_BIG = 1009
    """The peer sent a message beyond the limit."""
    MISSING_EXTENSION = 1010
    """The client expected an extension."""
    INTERNAL_ERROR = 1011
    """The server failed."""
    COME_BACK = 1012
    """The server starts again, or sends the client elsewhere."""
    TRY_LATER = 1013
    """The server has too much to do, or the client reads too slowly."""
    BAD_GATEWAY = 1014
    """A proxy could not reach the server."""
    TAKEN_OVER = 4001
    """The client has come back on another connection, as another tab with the same session."""
    TOKEN_REFUSED = 4401
    """The token is missing, wrong, or has expired."""
    STAY_AWAY = 4500
    """The program does not want this client."""

    @property
    def advice(self) -> Advice:
        """The action of the client after this code."""
        return advice_of(self)


BANDS: tuple[tuple[int, int, Advice], ...] = (
    (1000, 1000, Advice.REST),
    (1001, 1001, Advice.RESTART),
    (1002, 1003, Advice.END),
    (1004, 1006, Advice.BACK),  # 1005 and 1006: the connection broke
    (1007, 1010, Advice.END),
    (1011, 1011, Advice.BACK),
    (1012, 1012, Advice.RESTART),
    (1013, 1013, Advice.OVERLOADED),
    (1014, 3499, Advice.BACK),
    (3500, 3999, Advice.END),
    (4000, 4000, Advice.BACK),
    (4001, 4001, Advice.END),
    (4002, 4400, Advice.BACK),
    (4401, 4401, Advice.TOKEN),
    (4402, 4499, Advice.BACK),
    (4500, 4999, Advice.END),
)
"""The first and the last code of each band, and the advice."""

_RETURNS = (Advice.BACK, Advice.RESTART, Advice.OVERLOADED, Advice.TOKEN)
_RETRY = re.compile(r"(?:^|\s+)retry=(\d+(?:\.\d+)?)$")


def advice_of(code: int) -> Advice:
    """Return the advice that a close code gives to a client."""
    for first, last, advice in BANDS:
        if first <= code <= last:
            return advice
    return Advice.BACK


def advised_reason(code: int, reason: str, retry: float | None) -> str:
    """Return the reason with the advice at its end.  A text that is too long is cut.

    :param retry: seconds; ``None`` leaves the reason as it is.
    :raises WrongValue: for 0 or less, for more than ``MOST_RETRY``, and for a code that
        must not be sent or after which a client does not come back by itself.
    """
    if retry is None:
        return reason
    check_code(code)
    check_number("retry", retry, 0)
    if retry > MOST_RETRY:
        raise WrongValue(f"retry: expected at most {MOST_RETRY:g} seconds, got {retry:g}")
    if advice_of(code) not in _RETURNS:
        raise WrongValue(f"retry: a client does not come back by itself after {int(code)}")
    end = f" retry={retry:.3f}".rstrip("0").rstrip(".")
    text = reason.encode("utf-8", "replace")[: MAX_CLOSE_REASON - len(end)]
    return text.decode("utf-8", "ignore") + end if text else end.lstrip()


def split_reason(reason: str) -> tuple[str, float | None]:
    """Return the text of a reason and the seconds of its advice, if it has one."""
    found = _RETRY.search(reason)
    if found is None:
        return reason, None
    return reason[: found.start()], min(float(found[1]), MOST_RETRY)


def backoff(failures: int) -> float:
    """Return the longest wait, in seconds, after so many attempts in a row without success."""
    return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures, 30))


def wait_range(code: int, retry: float | None, failures: int) -> tuple[float, float] | None:
    """Return the least and the longest wait before the next attempt, in seconds.

    The client waits for a random time between the two.

    :param retry: the advice of the reason.
    :param failures: attempts in a row that brought no steady connection.
    :returns: ``None`` for a code after which a client does not come back by itself.
    """
    advice = advice_of(code)
    if advice not in _RETURNS:
        return None
    least = OVERLOADED if advice is Advice.OVERLOADED else 0.0
    return least, least + spread(failures, retry)


def spread(failures: int, retry: float | None = None) -> float:
    """Return the longest wait, in seconds, after a loss and so many failures since.

    Clients that are lost together wait for random parts of it, and so do not come back together.
    """
    # A server that accepts and closes at once must not be asked all the time.
    return max(AFTER_LOSS if retry is None else retry, backoff(failures) if failures else 0.0)
