"""The marks that annotations of a state carry.

Layer: state.  Threads: immutable values; any thread may read them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hubthread.errors import SettingError

__all__ = ["Private", "Round", "Unsynced"]


@dataclass(frozen=True, slots=True)
class Round:
    """Round a number before it is sent: ``x: Annotated[float, Round(1)]``.

    A change that the rounding hides is not sent.

    :raises SettingError: for anything but a whole number from 0 to 15.
    """

    digits: int
    """Digits after the decimal point."""

    def __post_init__(self) -> None:
        digits: object = self.digits
        if type(digits) is not int or not 0 <= digits <= 15:
            raise SettingError("digits", f"expected a whole number from 0 to 15, got {digits!r}")


class Private:
    """A field for one member only: ``hand: Annotated[list[str], Private]``.

    The record with the field must be a value of a dict.  Its key names the member: a ``ClientID``,
    or the name of a user (``ctx.user``).
    """


class Unsynced:
    """A field that is not sent: ``target: Annotated[Point, Unsynced]``.  It may be of any type."""
