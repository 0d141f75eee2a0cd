"""Each target as an ordinary test, and the command that runs them for longer."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_fuzz_target_holds(name: str) -> None:
    TARGETS[name]()


def test_fuzz_command_runs_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "0.2", "raw", "http"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["raw", "http"]
    assert all("inputs" in line for line in said)


@pytest.mark.parametrize("arguments", [["nothing"], ["--seconds", "x"], ["--seconds", "0"]])
def test_fuzz_command_bad_arguments_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
