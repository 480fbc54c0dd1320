"""Online runs: normalisation and action noise; models reproduce the scores recorded at their steps."""

import json

import numpy as np
import pytest

from agents.common.engine import checkpoint
from agents.common.model_file import find_checkpoints, step_of
from tests.zoo.envs import toys  # noqa: F401  registers the environments
from tests.zoo.helpers import stopped_at_an_evaluation
from zoo.algorithms.catalogue import find_algorithm
from zoo.evaluation.play import play
from zoo.models.agent import agent_of_run
from zoo.runs.folder import RunFolder
from zoo.train import main

TINY = {
    "qam": "net_arch=[16] ensemble_size=2 flow_steps=2 horizon_length=2",
    "sac": "net_arch=[16]",
}
NOISY = 'normalize={"norm_reward":false,"clip_obs":5} noise_type=ornstein-uhlenbeck noise_std=0.2 gamma=0.9'


def train(logs, algo, settings=NOISY, code=0, seed=1):
    """Train with an evaluation and a checkpoint every ten steps; return the run folder."""
    words = (
        f"--algo {algo} --env Toy-v0 --online-steps 40 --seed {seed} --verbose 0 -f {logs} --resume --score return "
        "--eval-freq 10 --save-freq 10 --eval-episodes 2 --eval-seed 5 --n-eval-envs 1 --device cpu "
        f"-params {TINY[algo]} batch_size=8 buffer_size=200 learning_starts=5 {settings}"
    )
    assert main(words.split()) == code
    return RunFolder(logs / algo / "Toy-v0_1")


def played(folder, **which):
    """Return the evaluation episodes of a run's model, as in ``zoo evaluate``."""
    return play(agent_of_run(folder.path, "cpu", **which)).returns[0].tolist()


@pytest.mark.parametrize("algo", ["qam", "sac"])
def test_a_run_goes_on_with_its_statistics_and_its_noise(algo, tmp_path, capsys):
    with stopped_at_an_evaluation():
        train(tmp_path, algo, code=3)
    folder = train(tmp_path, algo, seed=-1)  # continues with the stored seed
    assert json.loads(capsys.readouterr().out)["updates_per_s"] > 0
    model = find_algorithm(algo).algorithm.load(folder.model, device="cpu")
    assert repr(model.action_noise) == "OrnsteinUhlenbeckActionNoise(mu=[0. 0.], sigma=[0.2 0.2])"
    normalization = model.normalization
    assert (model.seed, normalization.gamma, normalization.clip_obs) == (1, 0.9, 5)
    # the statistics count the 40 steps and all resets
    assert 40 < normalization.obs_rms.count < 60
    history = folder.read_evaluations()
    assert history["timesteps"].tolist() == [10, 20, 30, 40]
    assert played(folder) == history["results"][-1].tolist()


def test_a_run_from_a_model_has_its_statistics(tmp_path, refusal):
    start = train(tmp_path / "start", "sac").model
    words = (
        f"--algo sac --env Toy-v0 --online-steps 4 --seed 2 --verbose 0 -f {tmp_path / 'logs'} -i {start} "
        f"--eval-episodes 1 --n-eval-envs 1 --score return -params {TINY['sac']} learning_starts=9"
    ).split()
    assert "has normalised observations" in refusal(main, *words, "-f", tmp_path / "no")
    assert main([*words, "normalize=true"]) == 0
    algorithm = find_algorithm("sac").algorithm
    old, new = (
        algorithm.load(path, device="cpu")
        for path in (start, tmp_path / "logs" / "sac" / "Toy-v0_1" / "Toy-v0.zip")
    )
    assert new.log_ent_coef == old.log_ent_coef != 0
    assert new.normalization.obs_rms.count > old.normalization.obs_rms.count


def test_a_run_whose_file_has_other_settings_is_refused(tmp_path, capsys):
    with stopped_at_an_evaluation():
        folder = train(tmp_path, "sac", code=3)
    config = folder.path / "config.yml"
    config.write_text(config.read_text().replace("noise_std: 0.2", "noise_std: 0.3"))
    train(tmp_path, "sac", NOISY.replace("0.2", "0.3"), code=2)
    errors = capsys.readouterr().err
    assert "config.yml was changed after the start: noise_std: 0.2 (stored), 0.3 (now)" in errors
    assert "all checkpoints in" not in errors


# -- scores of models -------------------------------------------------------------------------------------------------


@pytest.mark.few(2)
@pytest.mark.parametrize("algo", ["qam", "sac"])
@pytest.mark.parametrize(
    ("settings", "steps"),
    {
        "train_freq=10 gradient_steps=20": [10, 20, 30, 40],
        "train_freq=25 gradient_steps=5": [25, 50],
        "train_freq=7 gradient_steps=-1": [14, 21, 35, 42],
        "train_freq=[1,episode] gradient_steps=3": None,
        "normalize=true noise_std=0.2 gradient_steps=2": [10, 20, 30, 40],
    }.items(),
    ids=["as often as evaluations", "less often", "not in time", "episodes", "normalised"],
)
def test_final_best_and_saved_models_score_what_the_run_recorded(
    algo, settings, steps, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINTS", 100)
    folder = train(tmp_path, algo, f"learning_rate=0.01 {settings}")
    history = folder.read_evaluations()
    scores = dict(zip(history["timesteps"].tolist(), history["results"].tolist(), strict=True))
    assert steps in (None, list(scores))
    assert len(set(map(tuple, scores.values()))) == len(scores)  # each model has different weights
    assert played(folder) == scores[max(scores)]
    best = max(scores, key=lambda step: np.mean(scores[step]))
    assert played(folder, name="best_model.zip") == scores[best]
    saved = {step_of(path) for path in find_checkpoints(folder.checkpoints)}
    assert set(scores) <= saved
    for step, returns in scores.items():
        assert played(folder, step=step) == returns
