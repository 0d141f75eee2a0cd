"""Run the tests of the browser's client: ``node --test tests/static``."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import hubthread
from hubthread.protocol.close_codes import BANDS, Advice, advice_of, split_reason, wait_range

STATIC = Path(hubthread.__file__).parent / "static"
MOST_BYTES = 12 * 1024


def node() -> str:
    found = shutil.which("node")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: install nodejs 18 or later")
        pytest.skip("node is missing: install nodejs 18 or later")
    return found


def test_client_passes_its_tests() -> None:
    command = [node(), "--test", str(Path(__file__).parent)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_client_is_small() -> None:
    """Without comments and indentation, compressed; a real minifier makes it smaller still."""
    code = re.sub(r"/\*\*.*?\*/", "", (STATIC / "hubthread.js").read_text(), flags=re.DOTALL)
    lines = [line.strip() for line in code.splitlines()]
    small = "\n".join(line for line in lines if line and not line.startswith("//"))
    assert len(gzip.compress(small.encode())) <= MOST_BYTES


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


def test_client_waits_as_the_table_of_close_codes_says() -> None:
    codes = sorted({code for first, last, _ in BANDS for code in (first, last)} | {1005, 1006})
    reasons = ["", "moved", "retry=8", "moved retry=0.25", "x retry=1000000", "retry=8 or not"]
    cases = [
        (code, reason, failures, chance)
        for code in codes
        for reason in reasons
        for failures in (0, 1, 7)
        for chance in (0, 1)
    ]
    command = [node(), str(Path(__file__).parent / "close_codes.mjs")]
    run = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    states = {Advice.REST: "resting", Advice.END: "ended"}
    for (code, reason, failures, chance), found in zip(cases, json.loads(run.stdout), strict=True):
        advice = advice_of(code)
        text, retry = split_reason(reason)
        bounds = wait_range(code, retry, failures)
        assert found["advice"] == advice.value
        assert found["state"] == states.get(advice, "waiting")
        assert found["text"] == (text or f"the connection ended ({code})")
        assert found["wait"] == (None if bounds is None else pytest.approx(bounds[chance]))
