"""The benchmark of single steps runs."""

from __future__ import annotations

import pytest

from benchmarks.steps import STEPS, Step


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_step_and_its_alternative_give_a_result(step: Step) -> None:
    assert step.ours()
    assert step.other is None or step.other()
