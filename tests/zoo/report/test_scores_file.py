"""The file of scores, which one report writes and another reads."""

import gzip

import pandas as pd
import pytest

from tests.zoo.outcomes import refuses
from tests.zoo.report.samples import SCENE, collected, compared, write_runs
from tests.zoo.runs.helpers import write_run
from zoo.report.scores import COLUMNS, last_evaluations, read_scores, scores_table


@pytest.fixture
def written(tmp_path):
    """Return a file with FQL's scores, as a report writes it, and with unknown columns."""
    inputs = collected(paths=[write_runs(tmp_path, SCENE[:2], algo="fql")])
    path = tmp_path / "theirs" / "scores.csv"
    path.parent.mkdir()
    table = scores_table(last_evaluations(inputs.evaluations), inputs.methods)
    table.assign(environment="other", mean=0.1).to_csv(path, index=False)
    return path


def aggregates_of(**options):
    _, (comparison,) = compared(**options)
    aggregates = comparison.phases["offline"].aggregates
    return {name: (cell.mean, cell.iqm) for name, cell in aggregates.items()}


def test_scores_of_another_report_stand_beside_own_runs(tmp_path, written):
    own_runs = write_runs(tmp_path, SCENE[:2], start=22)
    beside = aggregates_of(paths=[own_runs], scores=[written])
    assert beside == aggregates_of(paths=[own_runs, tmp_path / "fql"])
    assert list(aggregates_of(scores=[written])) == ["fql"]
    # a set of means of domains
    assert "TRQAM" in collected(paths=[own_runs], published=["trqam2026"]).methods


def test_methods_of_a_file_have_its_name_where_theirs_is_taken(tmp_path, written):
    rows = written.read_text()
    other = tmp_path / "other.csv"  # of a report that contains both
    other.write_text(rows + rows.partition("\n")[2].replace("fql,", f"fql ({written}),"))
    methods = collected(paths=[tmp_path / "fql"], scores=[written, other]).methods
    assert methods["fql"].is_own
    names = [f"fql ({written})", f"fql ({other})", f"fql ({written}) ({other})"]
    assert [*methods] == ["fql", *names]


def test_the_protocol_of_a_file_follows_from_its_rows(tmp_path):
    path = tmp_path / "scores.csv"
    row = f"a,{SCENE[0]},{{}},0,{{}},0.5,{{}}\n"
    rows = row.format("offline", 100, 50) + row.format("online", 160, 40)
    path.write_text(f"method,env,phase,seed,step,score,episodes\n{rows}")
    (protocol,) = collected(scores=[path]).methods["a"].protocols.values()
    assert protocol == {"eval_episodes": 40, "offline_steps": 100, "online_steps": 60}


def test_returns_and_compressed_files_are_read(written):
    text = (
        written.read_text().replace("success", "return").replace(",0.4,", ",-1234.5678901234567,")
    )
    name = "scene-play-singletask-v0"  # another name of the task
    text = text.replace(SCENE[1], name)
    path = written.with_suffix(".csv.gz")
    path.write_bytes(gzip.compress(text.encode()))
    runs = read_scores(path, "theirs").evaluations
    assert set(runs["kind"]) == {"return"}
    assert -1234.5678901234567 in runs["score"].tolist()
    assert runs["return"].notna().all()
    inputs = collected(scores=[path], reference_scores=[f"{name}=-2000,0"])
    kinds = inputs.evaluations.groupby("environment")["kind"].first()
    assert kinds.to_dict() == {SCENE[0]: "return", SCENE[1]: "normalised return"}


@pytest.mark.parametrize(
    ("phase", "runs", "is_shorter"),
    [
        ("offline", {"offline": (5,)}, True),
        ("online", {"offline": (), "online": (5,)}, True),
        # the file's steps may include pretraining and offline steps
        ("online", {"offline": (5,), "online": (5,)}, False),
        ("online", {"offline": (), "online": (5,), "pretraining_steps": 1000}, False),
    ],
)
def test_runs_shorter_than_those_of_a_file_are_not_compared(
    tmp_path, written, phase, runs, is_shorter
):
    written.write_text(written.read_text().replace("offline", phase))
    for seed in range(3):
        write_run(tmp_path / "short" / str(seed), seed=seed, env=SCENE[0], **runs)
    # what only own runs have is not compared
    write_run(tmp_path / "short" / "3", env=SCENE[2], offline=(), online=(5,))
    _, (comparison,) = compared(paths=[tmp_path / "short"], scores=[written])
    (verdict,) = comparison.phases[phase].decision.verdicts
    assert (verdict.outcome == "not comparable") == is_shorter


@pytest.mark.parametrize(
    ("row", "column", "value", "expected"),
    [
        (3, "phase", "later", "one of the phases offline, online"),
        (2, "step", "1.5", "whole numbers as seed"),
        (4, "score", "1.2", "a score in the range of its kind, e.g. success from 0 to 1"),
        (5, "method", "", "a method"),
        (7, "seed", "0", "one row for each"),
        (2, "episodes", "0", "whole numbers as seed"),
    ],
)
def test_what_is_no_score_is_refused_with_its_line(written, row, column, value, expected):
    table = pd.read_csv(written, dtype=str, keep_default_na=False)
    table.loc[row, column] = value
    table.to_csv(written, index=False)
    with refuses(rf"scores\.csv`, line {row + 2}: expected {expected}"):
        read_scores(written, "theirs")


@pytest.mark.parametrize(
    "text", [",".join(COLUMNS) + "\n", 'method,seed\n"a,1\n', "method,seed\na,1\n"]
)
def test_a_file_without_scores_is_refused(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with refuses(r"scores\.csv` cannot be read"):
        collected(scores=[path])


@pytest.mark.parametrize("second", [",2", "0,1"])
def test_means_at_two_steps_or_beside_runs_are_refused(tmp_path, second):
    path = tmp_path / "scores.csv"
    row = "a,scene-play,offline,{},0.3,50,4\n"
    path.write_text(
        "method,env,phase,seed,step,score,episodes,seeds\n" + row.format(",1") + row.format(second)
    )
    with refuses("success and one step without a seed"):
        read_scores(path, "theirs")


def test_a_file_that_ends_in_the_middle_of_a_line_is_refused(written):
    text = written.read_text()
    written.write_text(text.rstrip("\n"))  # some editors drop the final newline
    assert len(read_scores(written, "theirs").evaluations) == text.count("\n") - 1
    written.write_text(text[: text.rindex(",own")])
    with refuses(rf"scores\.csv`, line {text.count(chr(10))}: expected a score"):
        read_scores(written, "theirs")
