"""What is said of a training run to its study."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from zoo.runs.folder import RunFolder, state_after
from zoo.runs.history import EvaluationHistory
from zoo.tuning.trial import COMPLETE, Pruned, Watch, end_runs, outcome_of


def history(successes: list[float], returns: list[float] | None = None) -> EvaluationHistory:
    """Return evaluations of two episodes, every 10 steps."""
    rows = len(successes if returns is None else returns)
    arrays = {
        "timesteps": 10 * np.arange(1, rows + 1),
        "phase": np.zeros(rows, int),
        "results": np.tile(np.array(returns or successes)[:, None], 2),
        "ep_lengths": np.ones((rows, 2), int),
        "episode_seeds": np.zeros((rows, 2), int),
    }
    if returns is None:
        arrays["successes"] = np.tile(np.array(successes)[:, None], 2)
    return EvaluationHistory(arrays)


@pytest.fixture
def study() -> optuna.Study:
    """Return a study that prunes what is worse than the median of the trials before, whose scores were 1."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    found = optuna.create_study(direction="maximize", pruner=pruner)
    trial = found.ask()
    for number in (1, 2, 3):
        trial.report(1.0, number)
    found.tell(trial, 1.0)
    return found


def run(seed: int, success: float | None, **more: Any) -> dict[str, Any]:
    return {"run": f"r{seed}", "seed": seed, "success": success, "return": None, **more}


def test_the_score_is_the_mean_over_the_seeds() -> None:
    outcome = outcome_of({"runs": [run(0, 0.5), run(1, 1.0)]}, True)
    assert (outcome.state, outcome.scores, outcome.score, outcome.reason) == (COMPLETE, [0.5, 1.0], 0.75, "")


def test_a_diverged_seed_counts_as_the_worst() -> None:
    outcome = outcome_of({"runs": [run(0, 0.5), run(1, None, reason="training diverged: NaN")]}, True)
    assert outcome.scores == [0.5, 0.0]
    returns = [{**run(0, None), "return": 3.0}, run(1, None, reason="NaN")]
    assert outcome_of({"runs": returns}, False).score == -math.inf


def test_every_evaluation_is_reported_once_under_its_number(study: optuna.Study) -> None:
    trial = study.ask()
    watch = Watch(trial, steps=30)
    watch([history([1.0]), history([0.0])])
    watch([history([1.0, 1.0]), history([0.0, 1.0])])
    assert study.trials[-1].intermediate_values == {1: 0.5, 2: 1.0}


def test_the_evaluation_before_the_first_update_is_neither_reported_nor_a_reason_to_prune(study: optuna.Study) -> None:
    arrays = history([0.0, 1.0, 0.0]).arrays()
    arrays["timesteps"] -= 10  # 0, 10, 20
    watch = Watch(study.ask(), steps=30)
    watch([EvaluationHistory({name: column[:1] for name, column in arrays.items()})])
    assert not study.trials[-1].intermediate_values
    watch([EvaluationHistory({name: column[:2] for name, column in arrays.items()})])
    watch([EvaluationHistory(arrays)])
    assert study.trials[-1].intermediate_values == {1: 1.0, 2: 0.0}


def test_a_run_that_does_worse_than_others_did_is_ended_as_interrupted(study: optuna.Study) -> None:
    watch = Watch(study.ask(), steps=30)
    watch([history([0.0])])
    with pytest.raises(Pruned, match="evaluation 2") as ending:
        watch([history([0.0, 0.0])])
    assert state_after(ending.value) == "interrupted"


def test_a_run_is_not_ended_at_its_last_evaluation(study: optuna.Study) -> None:
    Watch(study.ask(), steps=20)([history([0.0, 0.0])])


def test_runs_whose_process_is_gone_get_an_ending(tmp_path: Path) -> None:
    going, done = (RunFolder.create(tmp_path, "qam", "env", 3) for _ in range(2))
    going.write_status("running", 3, 10, 0)
    done.write_status("done", 4, 20, 0)
    end_runs(tmp_path, "interrupted", "killed")
    status = json.loads(going.status.read_text())
    assert (status["state"], status["reason"], status["offline_step"]) == ("interrupted", "killed", 10)
    assert json.loads(done.status.read_text())["state"] == "done"
