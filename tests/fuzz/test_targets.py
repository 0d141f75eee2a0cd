"""Each target as an ordinary test, and the command that runs them for longer."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds(name: str) -> None:
    TARGETS[name]()


def test_the_command_runs_for_as_long_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.2", "raw", "http"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["raw", "http"]
    assert all("inputs" in line for line in said)


@pytest.mark.parametrize("arguments", [["nothing"], ["--seconds", "x"], ["--seconds", "0"]])
def test_bad_arguments_are_told(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
