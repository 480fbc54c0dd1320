import pytest

from tests.zoo.report.samples import compared
from tests.zoo.runs.helpers import PROGRESS, write_run
from zoo.report.cost import read_costs
from zoo.report.page.report import to_json
from zoo.report.tables import cost_table


def read(tmp_path, **options):
    inputs, comparisons = compared(paths=[tmp_path], **options)
    return comparisons, read_costs(inputs)


def test_cost_is_the_median_over_runs_with_their_range(tmp_path):
    for seed, hours in enumerate((1.0, 2.0, 4.0)):
        write_run(tmp_path / f"run_{seed}", hours=hours, seed=seed)
    comparisons, costs = read(tmp_path)
    texts = [entry.plain for entry in cost_table(comparisons, costs).rows[0]]
    # 3,000 updates in so many hours
    expected = ["qam", "NVIDIA H200", "1", "3", "0.417 [0.208, 0.833]", *["2.00 [1.00, 4.00]"] * 2]
    assert texts == expected
    (cost,) = to_json(comparisons, [], costs=costs)["cost"]["qam"]
    assert cost["hours_per_run"] == {"median": 2.0, "min": 1.0, "max": 4.0}
    assert cost["total_hours"] == 7.0


def test_seeds_at_once_and_machines_have_rows_of_their_own(tmp_path):
    write_run(tmp_path / "a", hours=8.0, seeds=[0, 1, 2, 3], seed=0)
    write_run(tmp_path / "b", hours=3.0, seed=4)
    write_run(tmp_path / "c", hours=5.0, seed=5, device="Tesla T4")
    rows = cost_table(*read(tmp_path)).rows
    # machine, seeds at once, hours of a run, hours of a seed
    assert [[row[k].text for k in (1, 2, 5, 6)] for row in rows] == [
        ["NVIDIA H200", "1", "3.00", "3.00"],
        ["NVIDIA H200", "4", "8.00", "2.00"],
        ["Tesla T4", "1", "5.00", "5.00"],
    ]


def test_only_runs_that_finished_and_count_have_a_cost_and_one_without_a_time_is_named(tmp_path):
    write_run(tmp_path / "a", hours=1.0, seed=0)
    write_run(tmp_path / "b", hours=9.0, seed=1, state="failed")
    write_run(tmp_path / "older", hours=9.0, seed=0, updated="2025-01-01T00:00:00+00:00")
    damaged = write_run(tmp_path / "damaged", seed=2)
    (damaged / "progress.csv").write_text(PROGRESS + "what\n")
    comparisons, costs = read(tmp_path)
    assert costs.runs["hours_per_run"].tolist() == pytest.approx([1.0])
    caption = cost_table(comparisons, costs).caption
    assert f"The time of 1 run is not known: {damaged} (progress.csv cannot be read" in caption
