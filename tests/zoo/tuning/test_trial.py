"""The scores that a training run reports to its study, and how the study stops the run."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from zoo.runs.scores import RETURN, SUCCESS
from zoo.terminal.errors import Interrupted
from zoo.tuning.study import Pruned, Reporter, mean_score


def history(scores, name="successes"):
    """Return evaluations of two episodes with these results, every 10 steps."""
    values = np.tile(np.array(scores)[:, None], 2)
    steps = {"timesteps": 10 * np.arange(1, len(scores) + 1)}
    return {"results": values, **steps, name: values}


@pytest.fixture
def study():
    """Return a study that prunes trials below the median of earlier trials, whose scores were 1."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    trial = study.ask()
    for number in (1, 2, 3):
        trial.report(1.0, number)
    study.tell(trial, 1.0)
    return study


def reporter(study, steps=30):
    """Return the function through which a run of the study's next trial reports."""
    return Reporter(study.ask(), SimpleNamespace(score=SUCCESS, steps=steps))


@pytest.mark.parametrize(("kind", "worst"), [(SUCCESS, 0.0), (RETURN, -np.inf)])
def test_the_score_is_mean_over_seeds_and_diverged_one_is_worst(kind, worst):
    name = "successes" if kind is SUCCESS else "results"
    histories = [history([0.0, 0.5], name), history([1.0], name), {}]
    assert mean_score(histories[:1], 1, kind) == 0.5
    assert mean_score(histories[:2], 0, kind) == 0.5
    assert mean_score(histories[:2], 1, kind) == np.mean([0.5, worst])
    assert mean_score(histories, 0, kind) == np.mean([0.0, 1.0, worst])


def test_every_evaluation_is_reported_once_under_its_number(study):
    watch = reporter(study)
    for rows, reported in ((1, {}), (2, {1: 0.5}), (3, {1: 0.5, 2: 1.0})):
        # the second replica has diverged
        histories = [history(scores[:rows]) for scores in ([0.0, 1.0, 2.0], [0.0])]
        for columns in histories:
            columns["timesteps"] -= 10
        watch(histories)
        assert study.trials[-1].intermediate_values == reported


def test_a_run_that_does_worse_is_ended_as_interrupted(study):
    watch = reporter(study)
    watch([history([0.0])])
    with pytest.raises(Pruned, match="evaluation 2") as ending:
        watch([history([0.0, 0.0])])
    assert isinstance(ending.value, Interrupted)
    reporter(study, steps=20)([history([0.0, 0.0])])  # the run's last evaluation
