"""The public API under a type checker: small programs of users, checked as strictly as ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted((ROOT / "tests" / "typing_programs").glob("[!_]*.py"))

WRONG = """
from hubthread import Hub, HubSetting

hub = Hub[dict[str, int], str](HubSetting(dict))
names: list[str] = hub.exec_sync(lambda dhub: dhub.clients_num())
"""


def check(*files: Path) -> tuple[int, str]:
    """Run mypy with the settings of this project; return its status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.load
def test_typing_programs_have_the_asserted_types() -> None:
    assert len(PROGRAMS) >= 3
    status, said = check(*PROGRAMS)
    assert status == 0, said


@pytest.mark.load
def test_typing_wrong_program_is_refused(tmp_path: Path) -> None:
    """The check can fail: it sees the library's types, not Any."""
    program = tmp_path / "program.py"
    program.write_text(WRONG, encoding="utf-8")
    status, said = check(program)
    assert status == 1
    told = [line for line in said.splitlines() if "error:" in line]
    assert told, said
    assert all("program.py:5: error:" in line for line in told), said
