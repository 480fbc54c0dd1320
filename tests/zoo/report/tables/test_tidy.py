import gzip

import numpy as np
import pandas as pd
import pytest

from tests.zoo.report.samples import comparison_of_returns, content_of, evaluations
from zoo.report.figures.curves import plot_domains, plot_sample_efficiency
from zoo.report.figures.plots import plot_profiles
from zoo.report.page import report as page
from zoo.report.tables import tidy


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


@pytest.fixture(scope="module")
def tables(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    page.write_report(folder, content)
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("evaluations", "curves", "profiles")}


def test_every_evaluation_of_every_run_is_in_the_file(content, tables):
    found = tables["evaluations"]
    assert len(found) == len(content.inputs.evaluations) == 2 * 2 * 6 * 3  # methods, tasks, seeds, evaluations
    assert {
        "method",
        "task",
        "seed",
        "phase",
        "step",
        "successes",
        "episodes",
        "score",
        "return",
        "length",
        "run",
    } <= set(found.columns)
    assert (found["score"] == found["successes"] / found["episodes"]).all()


def test_aggregate_follows_from_the_evaluations(content, tables):
    found = tables["evaluations"].query("method == 'QAM' and phase == 'offline' and step == 2000")
    mean = found.groupby("task")["score"].mean().mean()
    assert mean == pytest.approx(content.comparisons[0].phases["offline"].aggregates["QAM"].estimates["mean"].point)


def test_learning_curves_are_drawn_again_from_the_file(content, tables):
    found = tables["curves"].query("method == 'QAM' and phase == 'offline' and metric == 'mean'")
    names = [line for line in plot_sample_efficiency(content.comparisons[0]).axes[0].lines]
    everything = found[found["where"] == "all"]
    assert any(np.allclose(line.get_ydata(), 100 * everything["value"]) for line in names if len(line.get_ydata()) == 2)
    assert (everything["low"] < everything["value"]).all()
    assert (everything["value"] < everything["high"]).all()
    assert set(everything["seeds"]) == {6}
    domain = plot_domains(content.comparisons[0]).axes[0]
    scene = found[found["where"] == domain.get_title()]
    assert any(
        np.allclose(line.get_ydata(), 100 * scene["value"]) for line in domain.lines if len(line.get_ydata()) == 2
    )


def test_profiles_are_drawn_again_from_the_file(content, tables):
    found = tables["profiles"].query("method == 'FQL' and phase == 'online'")
    lines = plot_profiles(content.comparisons[0]).axes[1].lines
    assert any(
        np.allclose(line.get_xdata(), found["tau"]) and np.allclose(line.get_ydata(), found["fraction"])
        for line in lines
    )
    scores = tables["evaluations"].query("method == 'FQL' and phase == 'online'")["score"]
    row = found.iloc[20]
    assert row["fraction"] == pytest.approx((scores > row["tau"]).mean())


def test_returns_are_told_apart_by_their_kind():
    table = tidy.curves_table([comparison_of_returns(["SAC"])])
    assert set(table["kind"]) == {"return"}
    assert set(table["where"]) == {"HalfCheetah-v5", "Pendulum-v1"}


def test_a_large_table_is_compressed_without_loss_and_takes_the_place_of_the_plain_one(
    content, tables, tmp_path, monkeypatch
):
    page.write_report(tmp_path, content)
    plain = (tmp_path / "evaluations.csv").read_bytes()
    monkeypatch.setattr(tidy, "LARGEST_CSV", 1000)
    page.write_report(tmp_path, content)
    assert not (tmp_path / "evaluations.csv").exists()
    compressed = (tmp_path / "evaluations.csv.gz").read_bytes()
    assert gzip.decompress(compressed) == plain
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "evaluations.csv.gz"), tables["evaluations"])
    page.write_report(tmp_path, content)
    assert (tmp_path / "evaluations.csv.gz").read_bytes() == compressed
    monkeypatch.undo()
    page.write_report(tmp_path, content)
    assert (tmp_path / "evaluations.csv").read_bytes() == plain
    assert not (tmp_path / "evaluations.csv.gz").exists()
