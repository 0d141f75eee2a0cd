"""The Autobahn test suite: installation, cases, run and report.

The suite is a program for Python 2.7 without a successor.  A Python 2.7 of the machine installs
it into ``.autobahn/`` (or $AUTOBAHN_CACHE), once, and it runs only as a subprocess.

The reasons for the versions in REQUIREMENTS, which are installed with --no-deps:

- autobahntestsuite 0.8.2 is the last wheel.  25.10.1 has the same cases, in an sdist that
  lacks the requirements file its setup.py reads.
- The suite demands autobahn 0.10.9 and txaio 2.1.0: it uses their internals.
- wsaccel masks and checks UTF-8 in C, without which sections 9, 12 and 13 run into their
  own time limits.  0.6.3 is the last whose sdist has the C made by Cython and a setup.py
  that 2.7 can run; gcc builds it in seconds.
- The others are the last, or near the last, versions for 2.7 that have a wheel for it:
  Twisted 20.3, zope.interface 5.4 (5.5 is an sdist), cryptography 3.3 (later needs Rust).
  pyOpenSSL and what it needs are there because the suite imports Twisted's TLS; Jinja2
  and unittest2 because it imports them for modes that are not used here.
- Left out: Werkzeug, klein and service-identity, which only those other modes use, and
  PyHamcrest, which only Twisted's own tests use.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import SuiteError, started

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CACHE = Path(os.environ.get("AUTOBAHN_CACHE") or Path(__file__).resolve().parents[2] / ".autobahn")

REQUIREMENTS = (
    "autobahntestsuite==0.8.2",
    "autobahn==0.10.9",
    "txaio==2.1.0",
    "wsaccel==0.6.3",
    # Twisted
    "Twisted==20.3.0",
    "zope.interface==5.4.0",
    "Automat==20.2.0",
    "attrs==21.4.0",
    "constantly==15.1.0",
    "hyperlink==21.0.0",
    "idna==2.10",
    "incremental==21.3.0",
    "six==1.16.0",
    "typing==3.10.0.0",
    # TLS
    "pyOpenSSL==21.0.0",
    "cryptography==3.3.2",
    "cffi==1.15.1",
    "enum34==1.1.10",
    "ipaddress==1.0.23",
    "pycparser==2.21",
    # Imported, not used
    "Jinja2==2.11.3",
    "MarkupSafe==1.1.1",
    "unittest2==1.1.0",
    "traceback2==1.4.0",
    "linecache2==1.0.0",
    "setuptools==44.1.1",
)

FAST = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
FAST_SIZES = ("12.1.[1-6]", "12.2.4", "12.3.4", "12.4.4", "12.5.4", "12.1.11")
FAST_PARAMETERS = ("13.*.1",)

GOOD = frozenset({"OK", "INFORMATIONAL"})
"""INFORMATIONAL is the suite's result where the RFC leaves the behavior open."""

NOT_RUN = "NOT RUN"

_AGENT = "hubthread"
_COMPRESSION_SECTIONS = ("12.", "13.")
# addsitedir reads the .pth file that makes the package zope; the folder comes first even so.
_PRELUDE = "import site, sys; d = sys.argv.pop(1); sys.path.insert(0, d); site.addsitedir(d)\n"
_RUN = _PRELUDE + "from autobahntestsuite.wstest import run; run()"
_LIST = (
    _PRELUDE + "from autobahntestsuite.case import Cases\n"
    "print('\\n'.join(case.__name__[len('Case'):].replace('_', '.') for case in Cases))"
)


class NoPython27(SuiteError):
    """There is no Python 2.7 to run the suite with."""


class NoSuchCase(SuiteError):
    """The suite does not have the requested cases."""


@dataclass(frozen=True)
class CaseResult:
    """The suite's result of one case."""

    case: str
    behavior: str
    behavior_close: str
    description: str
    result: str

    @property
    def good(self) -> bool:
        """True if behavior and closing are both OK or INFORMATIONAL."""
        return self.behavior in GOOD and self.behavior_close in GOOD

    def __str__(self) -> str:
        told = f"{self.case}: {self.behavior} / close {self.behavior_close}: {self.description}"
        return f"{told} [{self.result}]" if self.result else told


@dataclass(frozen=True)
class Suite:
    """The installed suite."""

    python: str
    site: Path
    cases: tuple[str, ...]
    """The numbers of all cases, in order."""

    def select(self, wanted: str | Sequence[str], *, compression: bool) -> list[str]:
        """Return the cases of ``wanted``: "fast", "all", or patterns such as "1.*" or "7.1.5"."""
        if wanted == "fast":
            wanted = FAST + (FAST_SIZES + FAST_PARAMETERS if compression else ())
        elif wanted == "all":
            wanted = ("*",)
        elif isinstance(wanted, str):
            wanted = wanted.split(",")
        offered = [
            case
            for case in self.cases
            if compression or not case.startswith(_COMPRESSION_SECTIONS)
        ]
        chosen: set[str] = set()
        for pattern in wanted:
            found = fnmatch.filter(offered, pattern.strip())
            if not found:
                hidden = fnmatch.filter(self.cases, pattern.strip())
                hint = " without --compression" if hidden else ""
                raise NoSuchCase(f"no case is called {pattern.strip()!r}{hint}")
            chosen.update(found)
        return [case for case in offered if case in chosen]

    def run(
        self,
        url: str,
        cases: Sequence[str],
        report: Path,
        on_case: Callable[[str], object] = lambda case: None,
    ) -> list[CaseResult]:
        """Run ``cases`` against the server at ``url``; call ``on_case`` at the start of each.

        The suite writes its own pages, with every frame of every case, into ``report``.
        """
        report.mkdir(parents=True, exist_ok=True)
        (report / "index.json").unlink(missing_ok=True)
        spec = {
            "outdir": str(report),
            "servers": [{"agent": _AGENT, "url": url}],
            "cases": list(cases),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (report / "spec.json").write_text(json.dumps(spec, indent=2), encoding="utf-8")
        command = _python(self.python, _RUN, self.site)
        command += ["--mode=fuzzingclient", f"--spec={report / 'spec.json'}"]
        current, last = cases[0], ""
        with started(command) as lines:
            try:
                while (line := lines.next(_patience(current))) is not None:
                    last = line or last
                    if match := re.match(r"Running test case ID (\S+) ", line):
                        current = match[1]
                        on_case(current)
            except TimeoutError:
                raise SuiteError(f"the suite hangs in or after case {current}") from None
        if not (report / "index.json").exists():
            raise SuiteError(f"the suite ended without a report; its last line: {last}")
        return _read(report, cases)


def install(cache: Path = CACHE, say: Callable[[str], object] = lambda text: None) -> Suite:
    """Return the suite in ``cache``; install it there first if it is missing."""
    python = find_python27()
    digest = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:12]
    site = cache / f"suite-{digest}"
    if not site.exists():
        say("installing the suite ...")
        cache.mkdir(parents=True, exist_ok=True)
        # Under another name until it is complete: this may be interrupted, or not the only run.
        with tempfile.TemporaryDirectory(prefix="install-", dir=cache) as folder:
            target = Path(folder, "site")
            pip = [python, "-E", "-m", "pip", "install", "--no-deps", "--target", str(target)]
            _output([*pip, *REQUIREMENTS])
            listed = _output(_python(python, _LIST, target))
            (target / "cases.txt").write_text(listed, encoding="ascii")
            try:
                target.rename(site)
            except OSError:  # another run was faster
                if not site.exists():
                    raise
    cases = (site / "cases.txt").read_text(encoding="ascii").split()
    return Suite(python, site, tuple(cases))


def find_python27() -> str:
    """Return a Python 2.7 with pip: $PYTHON27, or one on the PATH or of pyenv."""
    if chosen := os.environ.get("PYTHON27"):
        if _is_python27(chosen):
            return chosen
        raise NoPython27(f"$PYTHON27 is not a Python 2.7 with pip: {chosen}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    candidates = [found] if (found := shutil.which("python2.7")) else []
    candidates += [str(path) for path in sorted(pyenv.glob("versions/2.7*/bin/python2.7"))]
    for candidate in candidates:
        if _is_python27(candidate):
            return candidate
    raise NoPython27(
        "no Python 2.7 with pip in $PYTHON27, on the PATH, or among pyenv's: "
        "the Autobahn suite runs on nothing newer"
    )


def _python(python: str, code: str, site: Path) -> list[str]:
    # -E and -s: the caller's environment is that of a Python 3.
    return [python, "-E", "-s", "-u", "-W", "ignore", "-c", code, str(site)]


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise SuiteError("the suite's install takes more than 10 minutes") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        errors = [line for line in lines if "ERROR" in line] or lines
        raise SuiteError(f"the suite's install failed: {errors[-1].strip()}")
    return done.stdout


def _is_python27(python: str) -> bool:
    # pyenv's shim is on the PATH, and fails, where 2.7 is not the chosen version.
    code = "import sys, pip, setuptools; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        tried = subprocess.run([python, "-E", "-c", code], capture_output=True, check=False)
    except OSError:
        return False
    return tried.returncode == 0


def _patience(case: str) -> float:
    """Return the seconds that the suite may need for ``case``, above the suite's own limits."""
    if case.startswith(_COMPRESSION_SECTIONS):
        return 600
    return 240 if case.startswith("9.") else 60


def _read(report: Path, cases: Sequence[str]) -> list[CaseResult]:
    index = json.loads((report / "index.json").read_text(encoding="utf-8")).get(_AGENT, {})
    results = []
    for case in cases:
        if entry := index.get(case):
            page = json.loads((report / entry["reportfile"]).read_text(encoding="utf-8"))
            said = _plain(page["result"])
            if (code := page["remoteCloseCode"]) is not None:
                said += f" The server closed with {code} {page['remoteCloseReason'] or ''!r}."
            told = (_plain(page["description"]), said)
            result = CaseResult(case, entry["behavior"], entry["behaviorClose"], *told)
        else:
            result = CaseResult(case, NOT_RUN, NOT_RUN, "the server could not be reached", "")
        results.append(result)
    return results


def _plain(markup: str | None) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", markup or "").split())
