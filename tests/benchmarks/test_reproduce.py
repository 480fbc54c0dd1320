"""The reproduction of a published curve: how it is compared, how it ends, and that it goes on where it stopped."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import reproduce
from benchmarks.reproduce import FULL, PUBLISHED, compare, problems
from tests.programs import Programs


def evaluations(scores: dict[int, Any], episodes: int = 50) -> pd.DataFrame:
    rows = [(step, score, episodes) for step, values in scores.items() for score in values]
    return pd.DataFrame(rows, columns=["step", "score", "episodes"])


def published_scores(shift: float = 0.0) -> dict[int, Any]:
    """Return scores like the published ones, with the two evaluations that have none published."""
    scores = {step: np.clip(np.array(values) / 50 + shift, 0, 1) for step, values in PUBLISHED.items()}
    return dict(sorted({**scores, 25_000: np.full(12, 0.1), 75_000: np.full(12, 0.7)}.items()))


def test_the_same_curve_is_reproduced_and_has_a_page(tmp_path: Path) -> None:
    rows = compare(evaluations(published_scores()), PUBLISHED)
    assert [row.updates for row in rows] == [25_000, 50_000, 75_000, 100_000]
    assert [row.published is None for row in rows] == [True, False, True, False]
    assert rows[1].difference == pytest.approx(0)
    assert problems(rows, FULL) == []
    reproduce.write(tmp_path / "reproduction.json", rows, FULL, "NVIDIA H200")
    assert "| 50,000 | 12 | 41.5 (" in (tmp_path / "reproduction.md").read_text()


def test_intervals_and_p_values_are_welchs_with_holms_correction() -> None:
    own = {50_000: np.linspace(0.3, 0.8, 12), 100_000: np.linspace(0.5, 0.99, 12)}
    rows = compare(evaluations(own), PUBLISHED)
    raw = {}
    for row in rows:
        found = stats.ttest_ind(own[row.updates], np.array(PUBLISHED[row.updates]) / 50, equal_var=False)
        raw[row.updates] = found.pvalue
        assert row.difference_interval == pytest.approx(tuple(found.confidence_interval()))
        single = stats.ttest_1samp(own[row.updates], 0).confidence_interval()
        assert row.interval == pytest.approx(tuple(single))
    low, high = sorted(raw.values())
    expected = [2 * low if raw[row.updates] == low else max(2 * low, high) for row in rows]
    assert [row.p_value for row in rows] == pytest.approx(expected)


@pytest.mark.parametrize("shift", [-0.15, 0.3])
def test_another_curve_is_named_in_words(shift: float) -> None:
    first, second = problems(compare(evaluations(published_scores(shift)), PUBLISHED), FULL)
    assert first.startswith(f"at 50,000 updates success is {100 * (0.415 + shift):.1f} (")
    assert "published is 41.5 (" in first
    assert f"a difference beyond chance, {100 * shift:+.1f} (" in first
    assert second.startswith("at 100,000 updates")


# -- training ---------------------------------------------------------------------------------------------------------


def test_training_is_told_to_stop_when_the_time_is_over() -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\ntime.sleep(60)"
    begin = time.monotonic()
    assert reproduce.train([sys.executable, "-c", code], begin + 1, begin + 30) == 3
    assert time.monotonic() - begin < 20


def test_the_small_command_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--small", "--device", "cpu", "--dataset-dir", str(tmp_path / "data"), "-f", str(tmp_path / "logs")]
    words += ["-o", str(tmp_path)]

    kills: list[tuple[str, int] | None] = [("update", 5), None]
    with Programs() as programs:

        def train(command: list[str], stop: float, end: float) -> int:
            return programs.run("train", command[2:], kill=kills.pop(0), by="SIGTERM").code

        monkeypatch.setattr(reproduce, "train", train)
        assert reproduce.main(words) == 3
        assert "5 of 8 updates are done" in capsys.readouterr().err
        assert not (tmp_path / "reproduction-small.json").exists()
        assert reproduce.main(words) == 0
    assert len(list((tmp_path / "logs" / "small" / "qam").glob("*-v0_*"))) == 2  # one per seed, as before
    found = json.loads((tmp_path / "reproduction-small.json").read_text())["rows"]
    assert [(row["updates"], row["seeds"], row["published"]) for row in found] == [(n, 2, None) for n in (2, 4, 6, 8)]
