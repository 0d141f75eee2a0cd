"""The quick cases of the Autobahn suite.

Sections 1 to 7 and 10 test the protocol.  The few cases of 12 and 13 test compression with each
kind of data and each set of parameters.  Section 9 (large messages) and the rest of 12 and 13 take
minutes: ``python -m tests.autobahn --cases all --compression``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .processes import echo_server
from .suite import FAST, FAST_PARAMETERS, FAST_SIZES, NoPython27, Suite, install

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.autobahn


@pytest.fixture(scope="module")
def suite() -> Suite:
    try:
        return install()
    except NoPython27 as error:
        missing = str(error)
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.mark.parametrize(
    ("patterns", "compression"),
    [
        # In this order two processes take about the same time.
        pytest.param(FAST_PARAMETERS, True, id="compression-parameters"),
        pytest.param(FAST_SIZES, True, id="compression-sizes"),
        pytest.param(FAST, False, id="protocol"),
    ],
)
def test_autobahn_cases_are_ok(
    suite: Suite, tmp_path: Path, patterns: tuple[str, ...], compression: bool
) -> None:
    cases = suite.select(patterns, compression=compression)
    with echo_server(compression=compression) as url:
        results = suite.run(url, cases, tmp_path)

    assert [result.case for result in results] == cases
    offenders = [str(result) for result in results if not result.good]
    assert not offenders, "\n".join([f"{len(offenders)} of {len(cases)} cases:", *offenders])
