"""What a training run reports to its study, and how the study ends it."""

import math

import numpy as np
import optuna
import pytest

from tests.zoo.outcomes import refuses
from zoo.runs.scores import RETURN, SUCCESS
from zoo.terminal.errors import Interrupted
from zoo.tuning.study import Pruned, Reporter, scores_of_runs


def history(scores, name="successes"):
    """Return evaluations of two episodes with these results, every 10 steps."""
    values = np.tile(np.array(scores)[:, None], 2)
    steps = {"timesteps": 10 * np.arange(1, len(scores) + 1)}
    return {"results": values, **steps, name: values}


@pytest.fixture
def study():
    """Return a study that prunes what is worse than the median of the trials before, whose scores were 1."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    trial = study.ask()
    for number in (1, 2, 3):
        trial.report(1.0, number)
    study.tell(trial, 1.0)
    return study


def reporter(study, steps=30, has_success=True):
    """Return what a run of the study's next trial reports to."""
    return Reporter(study.ask(), steps, has_success)


@pytest.mark.parametrize(
    ("kind", "values", "score"),
    [
        (SUCCESS, [0.5, 1.0], 0.75),
        (SUCCESS, [0.5, None], 0.25),
        (RETURN, [3.0, None], -math.inf),
    ],
)
def test_the_score_is_the_mean_over_the_seeds_and_a_diverged_one_is_the_worst(kind, values, score):
    runs = []
    for seed, value in enumerate(values):
        runs.append({"seed": seed, "success": None, "return": None, kind.name: value})
    assert np.mean(scores_of_runs(runs, kind)) == score


def test_every_evaluation_but_that_before_the_first_update_is_reported_once_under_its_number(study):
    watch = reporter(study)
    for rows, reported in ((1, {}), (2, {1: 0.5}), (3, {1: 0.5, 2: 1.0})):
        histories = [history(scores[:rows]) for scores in ([0.0, 1.0, 1.0], [0.0, 0.0, 1.0])]
        for columns in histories:
            columns["timesteps"] -= 10
        watch(histories)
        assert study.trials[-1].intermediate_values == reported


def test_a_run_that_does_worse_than_others_did_is_ended_as_interrupted(study):
    watch = reporter(study)
    watch([history([0.0])])
    with pytest.raises(Pruned, match="evaluation 2") as ending:
        watch([history([0.0, 0.0])])
    assert isinstance(ending.value, Interrupted)
    reporter(study, steps=20)([history([0.0, 0.0])])  # its last evaluation


def test_a_study_that_was_scored_by_the_return_refuses_success(study):
    reporter(study, has_success=False)([history([10.0, 10.0], "results")])
    with refuses("got success after return.* score=success"):
        reporter(study, has_success=False)([history([1.0, 1.0])])


def test_a_trial_that_never_reports_success_has_none_in_a_study_that_is_scored_by_it(study):
    reporter(study, steps=20)([history([10.0, 10.0], "results")])
    assert study.trials[-1].intermediate_values == {1: 0.0, 2: 0.0}
