"""The soak of `benchmarks/soak.py`, a short one: no event lost, none twice, no drift, no growth."""

from pathlib import Path

import pytest
from support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def test_a_few_minutes_of_many_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak  # type: ignore[import-not-found]

    result = soak.soak(soak.toy_tagger(tmp_path), n_streams=50, minutes=4)
    assert result.windows == 50 * (4 * 58 + 1)  # 59 s make 58 windows; the last one, a short one
    assert result.events > 50 * 4 * 10
    assert result.latest < 2.1
    assert result.growth_mb < soak.MAX_GROWTH_MB


def test_a_few_minutes_with_workers_that_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import soak
    import soak_workers  # type: ignore[import-not-found]

    soak.toy_tagger(tmp_path)
    result = soak_workers.soak_workers(tmp_path / "soak.pt", 4, minutes=6, workers=2, kills=1)
    assert result.kills == 1
    assert result.reasons["worker_lost"] == 2
    assert result.virtual_seconds >= 4 * 6 * 59
