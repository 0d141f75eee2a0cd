"""``python -m tests`` runs every test in exactly one part."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests import __main__ as parts


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have run; a part with the option ``--fails`` fails."""
    seen: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(command)
        return subprocess.CompletedProcess(command, int("--fails" in command))

    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_main_without_arguments_runs_every_part(commands: list[list[str]]) -> None:
    assert parts.main([]) == 0
    markers = [command[command.index("-m", 2) + 1] for command in commands]
    light = "not interrupts and not load and not autobahn"
    assert markers == [light, "interrupts", "load", "autobahn"]
    assert all("-rs" in command for command in commands)


def test_main_runs_in_parallel_only_what_can_share_the_machine(commands: list[list[str]]) -> None:
    parts.main([])
    assert ["-n" in command for command in commands] == [True, True, False, False]


def test_main_gives_options_to_the_named_part(commands: list[list[str]]) -> None:
    assert parts.main(["load", "-x"]) == 0
    (command,) = commands
    assert command[-3:] == ["-m", "load", "-x"]


def test_main_with_a_failed_part_runs_the_rest_and_fails(
    commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.main(["load", "autobahn", "--fails"]) == 1
    assert len(commands) == 2
    assert capsys.readouterr().out.count("FAILED") == 2
