"""The file of scores that one report writes and another reads, or anyone with rliable."""

import io

import numpy as np
import pandas as pd
import pytest
from rliable import library, metrics

from tests.zoo.report.samples import SCENE, collected, write_runs
from zoo.report.compute import compare_kinds
from zoo.report.page.report import csv_text
from zoo.report.scores_file import COLUMNS, read_scores, scores_table
from zoo.report.tables import aggregates_table, to_csv
from zoo.runs.protocol import PROTOCOL
from zoo.terminal.errors import UsageError

REPS = 2_000


@pytest.fixture
def written(tmp_path):
    """Return a file with the scores of FQL, as a report writes it."""
    inputs = collected(paths=[write_runs(tmp_path, SCENE[:2], algo="fql")])
    path = tmp_path / "theirs" / "scores.csv"
    path.parent.mkdir()
    path.write_text(csv_text(scores_table(inputs.evaluations, inputs.methods)))
    return path


def aggregates_of(**options):
    inputs = collected(**options)
    (found,) = compare_kinds(inputs, 50, curves=False)
    return {name: cell.estimates for name, cell in found.phases["offline"].aggregates.items()}


def test_scores_of_another_report_stand_beside_own_runs(tmp_path, written):
    own = write_runs(tmp_path, SCENE[:2], start=22)
    assert aggregates_of(paths=[own], scores=[written]) == aggregates_of(
        paths=[own, tmp_path / "fql"]
    )
    assert list(aggregates_of(scores=[written])) == ["fql"]


def test_their_protocol_and_source_are_told_and_a_shared_name_gets_the_source(tmp_path, written):
    methods = collected(paths=[tmp_path / "fql"], scores=[written]).methods
    own, theirs = methods["fql"], methods["fql (theirs)"]
    assert own.is_own
    assert theirs.is_own is False
    assert theirs.protocols == own.protocols
    assert set(theirs.protocols[SCENE[0]]) == set(PROTOCOL)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path, written):
    other = tmp_path / "again" / "theirs" / "scores.csv"
    other.parent.mkdir(parents=True)
    other.write_bytes(written.read_bytes())
    assert set(collected(scores=[written, other]).methods) == {f"fql ({written})", f"fql ({other})"}


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        *(
            (3, "phase", "later", "a score"),
            (0, "kind", "luck", "a score"),
            (1, "seed", "one", "a score"),
        ),
        *(
            (2, "step", "1e400", "a score"),
            (2, "episodes", "50.5", "a score"),
            (2, "seed", "0.5", "a score"),
        ),
        *(
            (4, "score", "1.2", "a score"),
            (5, "method", "", "a score"),
            (7, "seed", "0", "one row for each"),
        ),
        (7, "net_arch", "16x2", "equal settings for the runs"),
    ],
)
def test_what_is_no_score_is_refused_with_its_line(written, row, column, value, expected):
    table = pd.read_csv(written, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(written, index=False)
    with pytest.raises(
        UsageError,
        match=rf"scores\.csv`, line {row + 2}: expected {expected} .*; take the `scores\.csv`",
    ):
        read_scores(written, "theirs")


@pytest.mark.parametrize(
    "text", [None, "", "method,score\nqam,1\n", ",".join((*COLUMNS, *PROTOCOL)) + "\n"]
)
def test_a_file_without_scores_is_refused(tmp_path, text):
    path = tmp_path / "scores.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"scores\.csv` cannot be read"):
        collected(scores=[path])


def test_rliable_gets_the_numbers_of_the_tables_from_the_file(tmp_path):
    write_runs(tmp_path, SCENE[:2], algo="fql")
    write_runs(tmp_path, SCENE[:2], start=22)
    inputs = collected(paths=[tmp_path])
    (comparison,) = compare_kinds(inputs, REPS, curves=False)
    phase = comparison.phases["offline"]
    table = pd.read_csv(io.StringIO(csv_text(scores_table(inputs.evaluations, inputs.methods))))
    scores = {
        name: part.pivot(index="seed", columns="environment", values="score").to_numpy()
        for name, part in table.groupby("method")
    }
    np.random.seed(1)
    points, intervals = library.get_interval_estimates(
        scores,
        lambda drawn: np.array([metrics.aggregate_mean(drawn), metrics.aggregate_iqm(drawn)]),
        reps=REPS,
    )
    shown = pd.read_csv(
        io.StringIO(to_csv(aggregates_table(comparison, phase))), index_col="method"
    )
    for name in scores:
        assert shown.loc[name, ["mean", "IQM"]].tolist() == pytest.approx(points[name].tolist())
        assert shown.loc[name, ["IQM low", "IQM high"]].tolist() == pytest.approx(
            intervals[name][:, 1].tolist(), abs=0.02
        )


def test_files_of_releases_without_a_column_of_the_protocol_are_read(written):
    table = pd.read_csv(written, dtype=str, keep_default_na=False)
    table.drop(columns="success_at").to_csv(written, index=False)
    (method,) = read_scores(written, "theirs").methods.values()
    assert {protocol["success_at"] for protocol in method.protocols.values()} == {"end"}
