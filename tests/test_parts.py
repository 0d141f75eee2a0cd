"""``python -m tests`` runs every test in exactly one part."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from tests import __main__ as parts

TESTS = Path(__file__).parent


class Started:
    """A command that has been started; one with the option ``--fails`` fails."""

    def __init__(self, command: list[str], stdout: IO[bytes]) -> None:
        self._status = int("--fails" in command)
        stdout.write(f"told by {command[command.index('-m', 2) + 1]}\n".encode())

    def wait(self) -> int:
        return self._status


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run, in the order of their beginning."""
    seen: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(command)
        return subprocess.CompletedProcess(command, int("--fails" in command))

    def start(command: list[str], stdout: IO[bytes], **options: Any) -> Started:
        seen.append(command)
        return Started(command, stdout)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return seen


def markers(commands: list[list[str]]) -> list[str]:
    return [command[command.index("-m", 2) + 1] for command in commands]


def test_main_without_arguments_runs_every_part(commands: list[list[str]]) -> None:
    """The load is last and in one process; the others run at the same time."""
    assert parts.main([]) == 0
    light = "not interrupts and not load and not autobahn"
    assert markers(commands) == ["interrupts", "autobahn", light, "load"]
    assert ["-n" in command for command in commands] == [True, True, True, False]
    assert all("-rs" in command for command in commands)


def test_main_shows_the_output_of_every_part(
    commands: list[list[str]], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    parts.main(["light", "autobahn", "interrupts"])
    out = capfdbinary.readouterr().out
    assert out.startswith(b"-- light\n-- autobahn\ntold by autobahn\n-- interrupts\ntold by int")


def test_main_gives_options_to_the_named_part(commands: list[list[str]]) -> None:
    assert parts.main(["load", "-x"]) == 0
    (command,) = commands
    assert command[-3:] == ["-m", "load", "-x"]


@pytest.mark.parametrize("place", ["tests/net", "tests/net/test_tls.py::test_tls"])
def test_main_runs_every_part_in_the_named_place_only(
    commands: list[list[str]], place: str
) -> None:
    parts.main([place])
    assert all(command[-1] == place for command in commands)
    assert not any("tests/interrupts" in command for command in commands)


@pytest.mark.parametrize("named", [["load", "light"], ["light", "interrupts"]])
def test_main_with_a_failed_part_runs_the_rest_and_fails(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str], named: list[str]
) -> None:
    assert parts.main([*named, "--fails"]) == 1
    assert len(commands) == 2
    assert capsys.readouterr().out.count("FAILED") == 2


def test_parts_have_the_tests_of_a_marker_in_its_folder() -> None:
    """A part with a folder looks nowhere else."""
    for part, folder in parts.FOLDERS.items():
        marker = f"mark.{part}"
        found = {path for path in TESTS.rglob("*.py") if marker in path.read_text("utf-8")}
        assert found
        assert all(TESTS.parent / folder in path.parents for path in found)
