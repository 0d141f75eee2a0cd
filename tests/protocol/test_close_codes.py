"""Close codes: the advice of each, and the advice in reasons."""

from __future__ import annotations

import math
from typing import Any

import pytest
from close_table import close_table
from hypothesis import given
from hypothesis import strategies as st

from hubthread import CloseCode, WrongType, WrongValue
from hubthread.protocol.close_codes import (
    BANDS,
    MOST_RETRY,
    Advice,
    advice_of,
    advised_reason,
    split_reason,
    wait_range,
)
from hubthread.protocol.frames import MAX_CLOSE_REASON

RETURNS = [code for code in CloseCode if wait_range(code, None, 0)]


def test_bands_leave_no_code_out() -> None:
    ends = [first for first, _, _ in BANDS] + [5000]
    assert ends == [1000] + [last + 1 for _, last, _ in BANDS]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (CloseCode.NORMAL, Advice.REST),
        (CloseCode.GOING_AWAY, Advice.RESTART),
        (CloseCode.COME_BACK, Advice.RESTART),
        (CloseCode.TRY_LATER, Advice.OVERLOADED),
        (CloseCode.POLICY_VIOLATION, Advice.END),
        (CloseCode.STAY_AWAY, Advice.END),
        (CloseCode.TOKEN_REFUSED, Advice.TOKEN),
        (1006, Advice.BACK),
        (3499, Advice.BACK),
        (3500, Advice.END),
        (4499, Advice.BACK),
        (65535, Advice.BACK),
    ],
)
def test_advice_of_code(code: int, advice: Advice) -> None:
    assert advice_of(code) is advice


def test_table_of_the_documentation_has_every_name() -> None:
    text = "\n".join(close_table())
    assert all(f"``{code.name}``" in text for code in CloseCode)


@given(st.text(max_size=200), st.floats(0.001, MOST_RETRY))
def test_advice_in_a_reason_is_read_as_it_was_written(reason: str, retry: float) -> None:
    written = advised_reason(CloseCode.COME_BACK, reason, retry)
    assert len(written.encode("utf-8", "replace")) <= MAX_CLOSE_REASON
    text, read = split_reason(written)
    assert read is not None
    assert math.isclose(read, retry, abs_tol=0.001)
    assert reason.encode("utf-8", "replace").decode().startswith(text) or not text


@pytest.mark.parametrize(
    ("reason", "text", "retry"),
    [
        ("", "", None),
        ("retry=8", "", 8),
        ("moved  retry=0.5", "moved", 0.5),
        ("retry=99999999999", "", MOST_RETRY),
        ("do not retry=8 now", "do not retry=8 now", None),
        ("retry=-1", "retry=-1", None),
        ("xretry=1", "xretry=1", None),
    ],
)
def test_split_reason(reason: str, text: str, retry: float | None) -> None:
    assert split_reason(reason) == (text, retry)


@pytest.mark.parametrize("code", [code for code in CloseCode if code not in RETURNS])
def test_retry_is_refused_where_no_client_comes_back(code: CloseCode) -> None:
    with pytest.raises(WrongValue, match="does not come back by itself"):
        advised_reason(code, "", 8)


@pytest.mark.parametrize(
    ("code", "retry", "error"),
    [
        (1012, 0, WrongValue),
        (1012, -1, WrongValue),
        (1012, math.nan, WrongValue),
        (1012, MOST_RETRY + 1, WrongValue),
        (1012, "8", WrongType),
        (1012, True, WrongType),
        (1006, 8, WrongValue),
        ("1012", 8, WrongType),
    ],
)
def test_retry_is_refused(code: Any, retry: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        advised_reason(code, "", retry)


@given(st.sampled_from(RETURNS), st.none() | st.floats(0, 60), st.integers(0, 2000))
def test_wait_range_honours_the_advice_and_the_backoff(
    code: CloseCode, retry: float | None, failures: int
) -> None:
    bounds = wait_range(code, retry, failures)
    assert bounds is not None
    least, most = bounds
    assert 0 <= least < most or retry == 0
    assert most >= (retry or 0)
    if failures > 6:
        assert most >= 20
