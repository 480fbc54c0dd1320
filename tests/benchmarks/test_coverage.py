"""The intervals of the report cover the truth as often as they say."""

import pytest

from benchmarks.coverage import main, simulate

TRIALS = 1500  # standard error at 95%: 0.6 points


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("seeds", [3, 8])
@pytest.mark.parametrize("episodes", [10, 50])
@pytest.mark.parametrize("spread", ["none", "moderate"])
def test_interval_of_95_per_cent_covers_the_truth_at_least_93_times_in_100(rate, seeds, episodes, spread):
    assert simulate(spread, rate, seeds, episodes, TRIALS).covered >= 0.93


def test_mean_over_tasks_is_covered_too():
    assert simulate("moderate", 0.2, 3, 50, TRIALS, tasks=5).covered >= 0.93


def test_variance_between_seeds_alone_covers_far_less():
    assert simulate("none", 0.99, 3, 10, TRIALS).bare < 0.5


def test_page_has_a_row_for_every_kind_of_experiment(tmp_path):
    main(["--trials", "20", "-o", str(tmp_path / "coverage.md")])
    text = (tmp_path / "coverage.md").read_text()
    assert text.count("\n| 0.05 | ") == 12
    assert "Lowest with it: none " in text
