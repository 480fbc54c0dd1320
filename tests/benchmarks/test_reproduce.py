"""The reproduction of a published curve: how it is compared, how it ends, and that it goes on where it stopped."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import reproduce
from benchmarks.reproduce import PUBLISHED, compare
from tests.programs import Programs


def evaluations(scores, episodes=50):
    rows = [(step, score, episodes) for step, values in scores.items() for score in values]
    return pd.DataFrame(rows, columns=["step", "score", "episodes"])


def test_intervals_and_p_values_are_welchs_with_holms_correction():
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


def test_the_small_command_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    words = f"--small --device cpu --dataset-dir {tmp_path / 'data'} -f {tmp_path / 'logs'}".split()
    words += ["-o", str(tmp_path)]

    kills = [("update", 5), None]
    with Programs() as programs:

        def train(command, stop, end):
            return programs.run("train", command[2:], kill=kills.pop(0), by="SIGTERM").code

        monkeypatch.setattr(reproduce, "train", train)
        assert reproduce.main(words) == 3
        assert "5 of 8 updates are done" in capsys.readouterr().err
        assert not (tmp_path / "reproduction-small.json").exists()
        assert reproduce.main(words) == 0
    assert len(list((tmp_path / "logs" / "small" / "qam").glob("*-v0_*"))) == 2  # one per seed, as before
    found = json.loads((tmp_path / "reproduction-small.json").read_text())["rows"]
    assert [(row["updates"], row["seeds"], row["published"]) for row in found] == [(n, 2, None) for n in (2, 4, 6, 8)]
