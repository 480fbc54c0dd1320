"""The file of scores that one report writes and another reads."""

import shutil

import pandas as pd
import pytest

from tests.zoo.outcomes import refuses
from tests.zoo.report.samples import SCENE, collected, compared, write_runs
from zoo.report.scores_file import COLUMNS, read_scores, scores_table
from zoo.runs.protocol import PROTOCOL


@pytest.fixture
def written(tmp_path):
    """Return a file with the scores of FQL, as a report writes it."""
    inputs = collected(paths=[write_runs(tmp_path, SCENE[:2], algo="fql")])
    path = tmp_path / "theirs" / "scores.csv"
    path.parent.mkdir()
    path.write_text(scores_table(inputs.evaluations, inputs.methods).to_csv(index=False))
    return path


def aggregates_of(**options):
    _, (comparison,) = compared(**options)
    aggregates = comparison.phases["offline"].aggregates
    return {name: cell.estimates for name, cell in aggregates.items()}


def test_scores_of_another_report_stand_beside_own_runs(tmp_path, written):
    own_runs = write_runs(tmp_path, SCENE[:2], start=22)
    beside = aggregates_of(paths=[own_runs], scores=[written])
    assert beside == aggregates_of(paths=[own_runs, tmp_path / "fql"])
    assert list(aggregates_of(scores=[written])) == ["fql"]


def test_methods_of_a_file_have_its_protocol_and_its_name_where_theirs_is_taken(tmp_path, written):
    methods = collected(paths=[tmp_path / "fql"], scores=[written]).methods
    own_method, method = methods["fql"], methods["fql (theirs)"]
    assert own_method.is_own
    assert not method.is_own
    assert method.protocols == own_method.protocols
    assert set(method.protocols[SCENE[0]]) == set(PROTOCOL)


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path, written):
    folder = shutil.copytree(written.parent, tmp_path / "again" / "theirs")
    copy = folder / written.name
    assert set(collected(scores=[written, copy]).methods) == {f"fql ({written})", f"fql ({copy})"}


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (3, "phase", "later", "a score"),
        (0, "kind", "luck", "a score"),
        (1, "seed", "one", "a score"),
        (2, "step", "1e400", "a score"),
        (2, "episodes", "50.5", "a score"),
        (4, "score", "1.2", "a score"),
        (5, "method", "", "a score"),
        (7, "seed", "0", "one row for each"),
        (7, "net_arch", "16x2", "equal settings for the runs"),
    ],
)
def test_what_is_no_score_is_refused_with_its_line(written, row, column, value, expected):
    table = pd.read_csv(written, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(written, index=False)
    with refuses(rf"scores\.csv`, line {row + 2}: expected {expected} .*; take the `scores\.csv`"):
        read_scores(written, "theirs")


@pytest.mark.parametrize(
    "text", ["", "method,score\nqam,1\n", ",".join((*COLUMNS, *PROTOCOL)) + "\n"]
)
def test_a_file_without_scores_is_refused(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with refuses(r"scores\.csv` cannot be read"):
        collected(scores=[path])
