"""The score that a run records at a step is that of the model that it keeps of that step, to the last bit."""

import numpy as np
import pytest

from agents.common.engine import checkpoint
from agents.common.model_file import find_checkpoints, step_of
from tests.zoo.envs import toys  # noqa: F401  registers the environments
from zoo.models.agent import agent_of_run, play
from zoo.runs.folder import RunFolder
from zoo.train import main

TINY = {
    "qam": "net_arch=[16] ensemble_size=2 flow_steps=2 horizon_length=2 learning_rate=0.01",
    "sac": "net_arch=[16] learning_rate=0.01",
}


def trained(logs, algo, settings):
    """Train online with an evaluation and a checkpoint every ten steps; return the run folder."""
    words = (
        f"--algo {algo} --env Toy-v0 --online-steps 40 --seed 1 --verbose 0 -f {logs} --eval-freq 10 --eval-episodes 2 "
        f"--n-eval-envs 1 --save-freq 10 --device cpu --score return -params {TINY[algo]} batch_size=8 "
        f"buffer_size=200 learning_starts=5 {settings}"
    )
    assert main(words.split()) == 0
    return RunFolder(logs / algo / "Toy-v0_1")


def played(folder, **which):
    """Return the episodes of a model of a run, as ``zoo evaluate`` plays them."""
    results, _ = play(agent_of_run(folder.path, "cpu", **which), n_envs=1)
    return results.returns[0].tolist()


@pytest.mark.parametrize("algo", ["qam", "sac"])
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ("train_freq=10 gradient_steps=20", [10, 20, 30, 40]),
        pytest.param("train_freq=25 gradient_steps=5", [25, 50], marks=pytest.mark.slow),
        pytest.param("train_freq=7 gradient_steps=-1", [14, 21, 35, 42], marks=pytest.mark.slow),
        pytest.param("train_freq=[1,episode] gradient_steps=3", None, marks=pytest.mark.slow),
        pytest.param(
            "normalize=true noise_std=0.2 gradient_steps=2",
            [10, 20, 30, 40],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["as often as evaluations", "less often", "not in time", "episodes", "normalised"],
)
def test_final_best_and_saved_models_score_what_the_run_recorded(
    algo, settings, steps, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINTS", 100)
    folder = trained(tmp_path, algo, settings)
    history = folder.read_evaluations()
    scores = dict(zip(history["timesteps"].tolist(), history["results"].tolist(), strict=True))
    assert steps in (None, list(scores))
    assert len(set(map(tuple, scores.values()))) == len(scores)  # each is of other weights
    assert played(folder) == scores[max(scores)]
    best = max(scores, key=lambda step: np.mean(scores[step]))
    assert played(folder, name="best_model.zip") == scores[best]
    saved = {step_of(path) for path in find_checkpoints(folder.checkpoints)}
    assert set(scores) <= saved
    for step, returns in scores.items():
        assert played(folder, step=step) == returns
