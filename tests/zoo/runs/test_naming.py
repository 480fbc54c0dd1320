"""Names of methods, and which runs share one."""

from tests.zoo.runs.helpers import CUBE, write_run
from zoo.report.tables import differences_table
from zoo.runs.protocol import what_differs
from zoo.runs.read import read_runs


def names(tables):
    """Return name of the folder -> method."""
    return tables.runs.set_index(tables.runs["run"].str.rpartition("/")[2])["method"].to_dict()


def test_many_differences_give_letters_instead_of_a_long_name(tmp_path):
    for k, gamma in enumerate((0.5, 0.99)):
        for j, temperature in enumerate((0.3, 99.0)):
            settings = {"gamma": gamma, "inverse_temperature": temperature}
            write_run(tmp_path / f"{k}{j}", settings=settings, label="a method with a name")
    tables = read_runs([tmp_path])
    letters = dict(zip(("00", "01", "10", "11"), "abcd", strict=True))
    assert names(tables) == {k: f"a method with a name {letters[k]}" for k in letters}
    table = differences_table(tables, set(tables.runs["method"]))
    name, differences = (entry.text for entry in table.rows[1])
    assert (name, differences) == ("a method with a name b", "gamma 0.5; inverse_temperature 99.0")


def test_one_of_several_differences_that_come_together_makes_the_name(tmp_path):
    write_run(tmp_path / "a", settings={"gamma": 0.5, "tau": 0.1})
    write_run(tmp_path / "b", settings={"gamma": 0.9, "tau": 0.2})
    tables = read_runs([tmp_path])
    assert names(tables) == {"a": "qam (gamma=0.5)", "b": "qam (gamma=0.9)"}
    differences = what_differs(tables.runs, names(tables).values())
    assert differences["qam (gamma=0.9)"] == {"gamma": "0.9", "tau": "0.2"}


def test_algorithms_of_one_label_are_methods_of_their_own_on_other_tasks_too(tmp_path):
    write_run(tmp_path / "a", algo="cgql", label="ours")
    write_run(tmp_path / "b", algo="cgql_mse", label="ours", env=CUBE)
    expected = {"a": "ours (algorithm=cgql)", "b": "ours (algorithm=cgql_mse)"}
    assert names(read_runs([tmp_path])) == expected


def test_failed_run_belongs_to_the_method_that_has_its_settings(tmp_path):
    write_run(tmp_path / "a", settings={"gamma": 0.5})
    write_run(tmp_path / "b", settings={"gamma": 0.9})
    write_run(tmp_path / "c", seed=1, settings={"gamma": 0.5}, state="failed")
    write_run(tmp_path / "d", env=CUBE, settings={"gamma": 0.7}, state="failed")
    methods = names(read_runs([tmp_path]))
    assert (methods["c"], methods["d"]) == ("qam (gamma=0.5)", "qam (gamma=0.7)")


def test_failed_run_with_settings_of_its_own_is_a_method_and_renames_no_other(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1, state="failed", settings={"gamma": 0.5})
    assert names(read_runs([tmp_path])) == {"a": "qam", "b": "qam (gamma=0.5)"}


def test_failed_run_without_an_evaluation_belongs_to_the_runs_by_return_of_its_environment(
    tmp_path,
):
    entries = {"env": "Pendulum-v1", "offline": (), "online": (1.0, 2.0), "has_success": False}
    write_run(tmp_path / "a", **entries)
    bad = write_run(tmp_path / "b", seed=1, state="failed", **entries)
    (bad / "evaluations.npz").unlink()
    assert names(read_runs([tmp_path])) == {"a": "qam", "b": "qam"}


def test_run_that_failed_before_a_finished_one_of_its_seed_is_replaced_by_it(tmp_path):
    write_run(tmp_path / "first", state="failed", updated="2026-11-01T00:00:00+00:00")
    second = write_run(tmp_path / "second", updated="2026-11-02T00:00:00+00:00")
    write_run(tmp_path / "third", state="failed", updated="2026-11-03T00:00:00+00:00")
    runs = read_runs([tmp_path]).runs
    assert runs["replaced_by"].fillna("").tolist() == [str(second), "", str(second)]
