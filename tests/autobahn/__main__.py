"""The command that runs the Autobahn suite and counts the results.

::

    python -m tests.autobahn [--compression] [--cases fast|all|"1.*,2.*"] [--url ws://...]

Without --url it starts the echo server.  Exit status: 0 if behavior and closing of every case are
OK or INFORMATIONAL; 1 if one is not, or if the suite did not run; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, NoReturn

from .processes import SuiteError, echo_server
from .suite import CACHE, CaseResult, NoSuchCase, Suite, install

if TYPE_CHECKING:
    from pathlib import Path

_SELECTION = re.compile(r"fast|all|[\d.*?\[\]-]+(\s*,\s*[\d.*?\[\]-]+)*")
_BY_SUBSECTION = ("9", "12", "13")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


class Progress:
    """The progress report: a line at the end of each section, and every ten seconds within one."""

    EVERY_S = 10.0

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._section = ""
        self._in_section = 0
        self._began = self._section_began = self._told = time.monotonic()

    def __call__(self, case: str) -> None:
        """Note that ``case`` starts and the case before it has ended."""
        now = time.monotonic()
        section = section_of(case)
        if section != self._section:
            self.finish_section()
            self._section, self._section_began, self._in_section = section, now, 0
        elif now - self._told >= self.EVERY_S:
            self._told = now
            print(f"  {self._done:>3}/{self._total}  {now - self._began:7.1f} s  at {case}")
        self._done += 1
        self._in_section += 1

    def finish_section(self) -> None:
        """Print the line of the section that has ended."""
        if not self._section:
            return
        self._told = now = time.monotonic()
        print(
            f"  {self._done:>3}/{self._total}  {now - self._began:7.1f} s  section "
            f"{self._section}: {self._in_section} cases in {now - self._section_began:.1f} s"
        )


def section_of(case: str) -> str:
    """Return the section of ``case``; long sections are counted in parts."""
    first, second = case.split(".")[:2]
    return f"{first}.{second}" if first in _BY_SUBSECTION else first


def table(results: list[CaseResult]) -> str:
    """Return the number of cases of each behavior, and all cases that are not good."""
    behaviors = Counter(result.behavior for result in results)
    closings = Counter(result.behavior_close for result in results)
    order = ["OK", "INFORMATIONAL", *sorted({*behaviors, *closings} - {"OK", "INFORMATIONAL"})]
    lines = [f"{'':<16}{'behavior':>10}{'behaviorClose':>16}"]
    lines += [f"{name:<16}{behaviors[name]:>10}{closings[name]:>16}" for name in order]
    lines.append(f"{'all':<16}{len(results):>10}{len(results):>16}")
    bad = [result for result in results if not result.good]
    if bad:
        lines += ["", f"{len(bad)} neither OK nor INFORMATIONAL:"]
        lines += [f"  {result}" for result in bad]
    return "\n".join(lines)


def run(suite: Suite, cases: list[str], url: str | None, *, compression: bool) -> bool:
    """Run ``cases`` and print the results; return True if all are good."""
    report: Path = CACHE / "reports" / ("compression" if compression else "plain")
    shutil.rmtree(report, ignore_errors=True)
    progress = Progress(len(cases))
    with nullcontext(url) if url else echo_server(compression=compression) as peer:
        print(f"{len(cases)} cases against {peer}")
        results = suite.run(peer, cases, report, progress)
        progress.finish_section()
    print()
    print(table(results))
    print(f"\nEvery frame: {report / 'index.html'}")
    return all(result.good for result in results)


def main() -> int:
    """Run the command and return its exit status."""
    parser = _Parser(prog="tests.autobahn", description="Run the Autobahn test suite.")
    parser.add_argument(
        "--compression",
        action="store_true",
        help="the server accepts permessage-deflate; with sections 12 and 13",
    )
    parser.add_argument(
        "--cases", default="fast", help='"fast" (default), "all", or patterns: "1.*,7.1.5"'
    )
    parser.add_argument("--url", help="test the server at this ws:// URL instead of our own")
    arguments = parser.parse_args()
    if not _SELECTION.fullmatch(arguments.cases):
        parser.error(f"--cases is fast, all, or patterns such as 1.*,7.1.5: {arguments.cases!r}")
    if arguments.url is not None and not re.fullmatch(r"ws://[^\s/]+(/\S*)?", arguments.url):
        parser.error(f"--url must be a ws:// URL: {arguments.url!r}")

    # Told to end, it must not leave the suite or the echo server behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A line at a time, also into a file or a pipe.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)
    try:
        suite = install(say=print)
        cases = suite.select(arguments.cases, compression=arguments.compression)
        good = run(suite, cases, arguments.url, compression=arguments.compression)
    except NoSuchCase as error:
        parser.error(str(error))
    except SuiteError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
