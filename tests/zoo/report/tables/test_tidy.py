import gzip

import numpy as np
import pandas as pd
import pytest

from tests.zoo.report.samples import content_of, evaluations
from zoo.report.page import report as page


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


@pytest.fixture(scope="module", autouse=True)
def _no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "all_figures", lambda *about: {})
        yield


@pytest.fixture(scope="module")
def folder(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    page.write_report(folder, content)
    return folder


@pytest.fixture(scope="module")
def tables(folder):
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("evaluations", "curves", "profiles")}


def test_every_evaluation_of_every_run_is_in_the_file(content, tables):
    found = tables["evaluations"]
    assert len(found) == len(content.inputs.evaluations) == 2 * 2 * 6 * 3  # methods, tasks, seeds, evaluations
    assert (found["score"] == found["successes"] / found["episodes"]).all()


def test_curves_and_profiles_are_those_of_the_comparison(content, tables):
    phase = content.comparisons[0].phases["offline"]
    found = tables["curves"].query("method == 'QAM' and phase == 'offline' and metric == 'mean'")
    for where, curve in (("all", phase.curves["QAM"]), ("scene-play", phase.domain_curves["scene-play"]["QAM"])):
        part = found[found["where"] == where]
        assert part["value"].tolist() == pytest.approx(curve.mean.points.tolist())
        assert part["low"].tolist() == pytest.approx(curve.mean.bounds[0].tolist())
        assert (part["step"].tolist(), set(part["seeds"])) == ([1000, 2000], {6})
    found = tables["profiles"].query("method == 'FQL' and phase == 'offline'")
    assert np.allclose(found["fraction"], phase.profiles["FQL"].points)
    assert np.allclose(found["tau"], phase.thresholds)


def test_a_large_table_is_compressed_without_loss_and_takes_the_place_of_the_plain_one(
    content, folder, tables, tmp_path, monkeypatch
):
    plain = (folder / "evaluations.csv").read_bytes()
    (tmp_path / "evaluations.csv").write_bytes(plain)
    monkeypatch.setattr(page, "LARGEST_CSV", 1000)
    page.write_report(tmp_path, content)
    assert not (tmp_path / "evaluations.csv").exists()
    compressed = (tmp_path / "evaluations.csv.gz").read_bytes()
    assert gzip.decompress(compressed) == plain
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "evaluations.csv.gz"), tables["evaluations"])
    assert page.csv_file("evaluations", content.evaluations)[1] == compressed
    monkeypatch.setattr(page, "LARGEST_CSV", 10_000_000)
    page.write_report(tmp_path, content)
    assert (tmp_path / "evaluations.csv").read_bytes() == plain
    assert not (tmp_path / "evaluations.csv.gz").exists()
