"""The verdict of the soak test on its curves."""

from __future__ import annotations

import pytest

from benchmarks.soak import Sample, growth_of, tell, verdict_of


def day(memory: float = 0.0, threads: float = 0.0, descriptors: float = 0.0) -> list[Sample]:
    """Return a hundred samples with this growth per sample."""
    return [
        Sample(
            at, 50_000_000 + int(at * memory), 40 + int(at * threads), 45 + int(at * descriptors)
        )
        for at in range(100)
    ]


def test_verdict_without_growth_is_flat() -> None:
    assert [one.name for one in verdict_of(day())] == ["memory", "threads", "descriptors"]
    assert all(one.flat for one in verdict_of(day()))


@pytest.mark.parametrize(
    ("grows", "rate"), [("memory", 100_000.0), ("threads", 0.2), ("descriptors", 0.25)]
)
def test_verdict_growth_is_not_flat(grows: str, rate: float) -> None:
    assert [one.name for one in verdict_of(day(**{grows: rate})) if not one.flat] == [grows]


def test_growth_ignores_first_third() -> None:
    samples = day(memory=1000.0)
    samples[:10] = [Sample(each.at, 10**9, 1, 1) for each in samples[:10]]
    assert growth_of(samples) == pytest.approx(3_600_000)


def test_soak_tells_its_progress_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    told = 0
    for second in range(0, 125, 5):
        told = tell(Sample(float(second), 90_000_000, 12, 40), 1800, told)
    assert capsys.readouterr().err.splitlines() == [
        f"  {minute} of 30 min: 90 MB, 12 threads, 40 descriptors" for minute in (1, 2)
    ]
