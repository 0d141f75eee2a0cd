"""Feed each target random inputs for a while.

    python -m tests.fuzz [--seconds 30] [TARGET ...]

The seconds are for all targets together.  A failing input is printed as hypothesis shrinks it,
and kept in its database (.hypothesis): the ordinary tests begin with it from then on.  Exit
status: 0 if all held, 1 if one did not, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from time import monotonic
from typing import Any, NoReturn

from hypothesis import settings
from hypothesis.errors import StopTest

from tests.fuzz.targets import TARGETS

_MOST_BYTES = 2_000


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: list[str]) -> int:
    """Run the targets; return the exit status."""
    parser = _Parser(prog="python -m tests.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)} (all)")
    parser.add_argument("--seconds", type=float, default=30.0, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, help="for the same inputs again (random)")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    if not asked.seconds > 0:
        parser.error(f"--seconds: a number above 0, not {asked.seconds!r}")
    names = asked.targets or list(TARGETS)
    seed = random.randrange(2**32) if asked.seed is None else asked.seed
    held = [_run(name, asked.seconds / len(names), seed) for name in names]
    return 0 if all(held) else 1


def _run(name: str, seconds: float, seed: int) -> bool:
    target: Any = TARGETS[name]
    dice, deadline, count, valid = random.Random(seed), monotonic() + seconds, 0, 0
    while monotonic() < deadline:
        count += 1
        data = dice.randbytes(dice.randrange(1, _MOST_BYTES))
        try:
            valid += target.hypothesis.fuzz_one_input(data) is not None
        except StopTest:
            pass
        except Exception:  # noqa: BLE001 - whatever it is, the invariant is broken
            print(f"{name:<10} FAILED after {count:,} inputs, seed {seed}: {target.__doc__}")
            traceback.print_exc()
            try:
                target()  # shrinks what was kept, and prints the smallest
            except Exception:  # noqa: BLE001 - the same, in its smallest form
                traceback.print_exc()
            return False
    print(f"{name:<10} {count:,} inputs, {valid:,} of them whole, seed {seed}: {target.__doc__}")
    return True


if __name__ == "__main__":
    settings.load_profile("default")
    sys.exit(main(sys.argv[1:]))
