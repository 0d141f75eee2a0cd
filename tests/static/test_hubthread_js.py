"""Run the tests of the browser's client: ``node --test tests/static``."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import hubthread

STATIC = Path(hubthread.__file__).parent / "static"
MOST_BYTES = 12 * 1024


def test_client_passes_its_tests() -> None:
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: install nodejs 18 or later")
        pytest.skip("node is missing: install nodejs 18 or later")
    command = [node, "--test", str(Path(__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_client_is_small() -> None:
    assert len(gzip.compress((STATIC / "hubthread.js").read_bytes())) <= MOST_BYTES


def test_client_types_name_what_the_client_exports() -> None:
    def exported(name: str) -> set[str]:
        words = ("export class ", "export function ", "export const ")
        lines = (STATIC / name).read_text().splitlines()
        return {
            line.removeprefix(word).split("(")[0].split(":")[0].split(" ")[0].split("<")[0]
            for line in lines
            for word in words
            if line.startswith(word)
        }

    assert exported("hubthread.d.ts") == exported("hubthread.js")
