import pandas as pd
import pytest

from tests.zoo.report.samples import SCENE, run_rows
from zoo.errors import UsageError
from zoo.report.included_runs import COLUMNS, check_progress, finished_runs, read_included_runs


def write(folder, *runs, name="runs.csv"):
    table = pd.DataFrame([row for run in runs for row in run])[list(COLUMNS)]
    table.to_csv(folder / name, index=False)
    return folder / name


def test_rows_of_all_files_are_read_with_their_types(tmp_path):
    write(tmp_path, run_rows("qam", SCENE[0], 0), name="a.csv")
    write(tmp_path, run_rows("fql", SCENE[0], 1, settings="1e5", length=""), name="b.csv")
    table = read_included_runs(tmp_path, SCENE)
    assert table["seed"].tolist() == [0, 0, 1, 1]
    assert table["successes"].tolist() == [10, 20, 10, 20]
    assert table["settings"].tolist() == ["a1", "a1", "1e5", "1e5"]
    assert table["length"].isna().tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("environment", "pong"),
        ("phase", "before"),
        ("method", ""),
        ("seed", "one"),
        ("step", "10.5"),
        ("successes", "51"),
        ("episodes", "0"),
        ("return", "inf"),
        ("length", "long"),
    ],
)
def test_damaged_value_is_named_with_its_file_and_line(tmp_path, column, value):
    rows = run_rows("qam", SCENE[0], 0)
    path = write(tmp_path, [rows[0], rows[1] | {column: value}])
    with pytest.raises(UsageError) as error:
        read_included_runs(tmp_path, SCENE)
    assert f"`{path}`, line 3: " in str(error.value)


def test_file_that_ends_in_the_middle_of_a_line_is_refused(tmp_path):
    path = write(tmp_path, run_rows("qam", SCENE[0], 0))
    path.write_text(path.read_text()[:-30])
    with pytest.raises(UsageError, match=r"runs.csv`, line 3: "):
        read_included_runs(tmp_path, SCENE)


def test_missing_columns_are_named(tmp_path):
    path = write(tmp_path, run_rows("qam", SCENE[0], 0))
    pd.read_csv(path).drop(columns=["seed", "commit"]).to_csv(path, index=False)
    with pytest.raises(UsageError, match=r"seed.*commit"):
        read_included_runs(tmp_path, SCENE)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'method,seed\n"a,1\n'])
def test_file_that_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "runs.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"runs.csv` cannot be read .*; restore the file"):
        read_included_runs(tmp_path, SCENE)


def test_evaluation_that_appears_twice_is_refused(tmp_path):
    write(tmp_path, run_rows("qam", SCENE[0], 0), name="a.csv")
    write(tmp_path, run_rows("qam", SCENE[0], 0)[1:], name="b.csv")
    with pytest.raises(UsageError, match="got several for qam, scene-play"):
        read_included_runs(tmp_path, SCENE)


def test_runs_of_different_settings_are_not_one_method(tmp_path):
    write(tmp_path, run_rows("qam", SCENE[0], 0), run_rows("qam", SCENE[0], 1, settings="b2"))
    with pytest.raises(UsageError, match="got several hashes for qam on scene-play"):
        read_included_runs(tmp_path, SCENE)


def test_run_that_ends_early_is_not_finished():
    table = pd.DataFrame([*run_rows("qam", SCENE[0], 0), *run_rows("qam", SCENE[0], 1)[:1]])
    finished = finished_runs(table, lambda method, environment: {"offline": 2000})
    assert set(finished["seed"]) == {0}
    assert len(finished) == 2


def test_progress_counts_planned_runs_and_names_the_missing_ones():
    runs = [run_rows("QAM", SCENE[0], seed) for seed in range(5)] + [run_rows("QAM", SCENE[1], 0)]
    runs += [run_rows("unplanned", SCENE[0], 0)]
    table = pd.DataFrame([row for run in runs for row in run])
    progress = check_progress(table, ["QAM", "FQL"], SCENE[:2], 3)
    assert (progress.finished, progress.planned) == (4, 12)  # seeds above the plan do not stand in for others
    assert progress.missing == {"QAM": 4, "FQL": 0}
    assert "QAM has 4 of 6, FQL has 0 of 6" in progress.describe()
    assert check_progress(table, ["QAM"], SCENE[:1], 5).missing == {}
