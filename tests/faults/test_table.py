"""The table of faults and the tests agree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.__main__ import main
from tests.faults.table import FAULTS

TESTS = Path(__file__).parents[1]


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_table_tests_exist() -> None:
    for fault in FAULTS:
        for test in fault.tests:
            file, _, name = test.partition("::")
            assert name in functions(TESTS / file), test


def test_table_has_every_test_of_folder() -> None:
    """Except the tests of the suite itself and of wrong arguments."""
    told = {test for fault in FAULTS for test in fault.tests}
    for path in TESTS.glob("faults/test_*.py"):
        if path.name != "test_table.py":
            mine = {f"faults/{path.name}::{name}" for name in functions(path) if "test_" in name}
            assert mine - told <= {
                "faults/test_tls.py::test_renew_ssl_with_an_unfit_context_raises",
                "faults/test_tls.py::test_renew_ssl_of_a_raw_server_serves_new_handshakes",
            }


def test_command_lists_faults_and_refuses_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(FAULTS)
    with pytest.raises(SystemExit) as ended:
        main(["no such fault"])
    assert ended.value.code == 2
    assert "no fault 'no such fault'" in capsys.readouterr().err
